"""Plain records of the state database: symbols, watermarks and runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Literal

RunOutcome = Literal["running", "done", "nothing_new", "partial", "failed"]
RUN_OUTCOMES: tuple[RunOutcome, ...] = ("running", "done", "nothing_new", "partial", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRow:
    """What is known of one symbol. Text is as the provider writes it; the symbol's case matters.

    A row without `details_at` speaks for the provider's list (`name` to `delisted_at`), a row with it for the
    symbol's details (`list_date` to `details_at`). `first_seen` and `last_seen` are set by the state database and
    ignored in what is given.

    Attributes:
        symbol: the ticker.
        active: False once delisted.
        type: an open set (`CS`, `ETF`, ...).
        primary_exchange: MIC code.
        delisted_at: UTC.
        market_cap: in `currency`.
        first_seen: when the symbol was first recorded (UTC).
        last_seen: the last UTC day on which it was recorded, to the instant of that day's first record.
        details_at: when the details were last asked for (UTC); None: never.
    """

    symbol: str
    name: str | None = None
    active: bool = True
    type: str | None = None
    market: str | None = None
    primary_exchange: str | None = None
    currency: str | None = None
    cik: str | None = None
    composite_figi: str | None = None
    share_class_figi: str | None = None
    delisted_at: datetime | None = None
    list_date: date | None = None
    sic_code: str | None = None
    sic_description: str | None = None
    market_cap: float | None = None
    details_at: datetime | None = None
    first_seen: datetime | None = None
    last_seen: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatermarkRow:
    """One period of a symbol's watermark: `last_session` held from `valid_from` until `valid_to` (UTC, half-open).

    `last_session` is the date of the last acknowledged bar; None: a rebuild found none. `valid_to` is None in the
    current row.
    """

    id: int
    symbol: str
    last_session: date | None
    valid_from: datetime
    valid_to: datetime | None
    is_current: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a run cost: requests to the provider, and calls and bytes of the object store.

    `bytes_in` came from the store, `bytes_out` went to it.
    """

    requests: int = 0
    gets: int = 0
    puts: int = 0
    deletes: int = 0
    lists: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(**{name: count + getattr(other, name) for name, count in asdict(self).items()})

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(**{name: count - getattr(earlier, name) for name, count in asdict(self).items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run of a job. `outcome` stays `running` and `finished_at` None when the process was killed."""

    id: int
    job: str
    started_at: datetime
    finished_at: datetime | None
    outcome: RunOutcome
    arguments: Mapping[str, object] = field(default_factory=dict)
    counts: Mapping[str, object] = field(default_factory=dict)
    traffic: Traffic = Traffic()
    error: str | None = None
