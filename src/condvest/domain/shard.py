"""Shards: the market split into parts of about equal size, each symbol in one part, always the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from condvest.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` (from 0) of `count` parts. ConfigError for a part that there is not."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"shard {self.index} of {self.count} is not possible: the index goes from 0 to one less than the count"
            )

    def holds(self, symbol: str) -> bool:
        """Say whether a symbol is in this part. It does not depend on the other symbols, the machine or the run."""
        digest = hashlib.blake2b(symbol.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index


#: The whole market.
WHOLE = Shard(0, 1)
