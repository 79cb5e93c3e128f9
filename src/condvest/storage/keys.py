"""Which keys and prefixes a store takes, whatever lies under them; `layout` has those of the lake."""

from __future__ import annotations

import re
from collections.abc import Iterable

from condvest.errors import ConfigError

_FORBIDDEN = re.compile(r"[\\\x00-\x1f\x7f-\x9f]|\A[A-Za-z]:")  # the last is a drive of Windows


def check_key(key: str) -> str:
    """Return a key unchanged; ConfigError for one that is empty or could leave the lake.

    Refused are absolute keys, backslashes, control characters, empty parts and parts that start with a dot: `..` leads
    out of the lake, and dot-folders hold what is no object.
    """
    if _FORBIDDEN.search(key) or any(not part or part.startswith(".") for part in key.split("/")):
        raise ConfigError(
            f"key {key!r} is not possible: it needs parts joined by single slashes, none empty or with a dot first,"
            " and no backslash or control character; use a key relative to the lake, such as 'silver/x.parquet'"
        )
    return key


def check_keys(keys: Iterable[str]) -> list[str]:
    """Return keys unchanged; ConfigError for the first that is not possible."""
    return [check_key(key) for key in keys]


def check_prefix(prefix: str) -> str:
    """Return a prefix unchanged: empty, or a possible key and a slash; ConfigError for another."""
    if prefix:
        if not prefix.endswith("/"):
            raise ConfigError(f"prefix {prefix!r} does not end with a slash; write {prefix + '/'!r}")
        check_key(prefix[:-1])
    return prefix
