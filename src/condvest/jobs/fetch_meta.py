"""Fetch metadata: symbols active and delisted, their details within a budget, splits, dividends, announced closures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from condvest.domain.actions import Dividend, Split
from condvest.domain.calendar import Calendar
from condvest.domain.metadata import (
    closures_of,
    details_of,
    dividend_of,
    merge_actions,
    parse_rows,
    split_of,
    symbol_of,
)
from condvest.errors import TransientError
from condvest.jobs.progress import Progress, silent
from condvest.jobs.record_symbols import record_symbols
from condvest.jobs.stopping import Stop, never
from condvest.log import event, warn
from condvest.storage import layout
from condvest.storage.actions import read_dividends, read_splits, update_dividends, update_splits
from condvest.storage.closures import read_closures, record_closures
from condvest.storage.landing import next_instant, pack
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State

Action = TypeVar("Action", Split, Dividend)


class MetaSource(Protocol):
    """Where metadata come from."""

    def tickers(self, active: bool) -> Iterator[dict[str, Any]]:
        """Yield the listed, or the delisted, tickers."""

    def ticker_details(self, symbol: str) -> dict[str, Any] | None:
        """Return what is known of one ticker, None when nothing is."""

    def splits(self) -> list[dict[str, Any]]:
        """Return all splits."""

    def dividends(self) -> list[dict[str, Any]]:
        """Return all dividends."""

    def market_upcoming(self) -> list[dict[str, Any]]:
        """Return announced closures and early closes."""


@dataclass(slots=True)
class MetaReport:
    """What a metadata fetch did: counts of what changed; `left` names rows that cannot be read and listings that are short.

    `landed`: keys of the answers that tell of symbols, for who records them. `remaining`: symbols whose details it did not
    ask for, as it was asked to stop.
    """

    symbols: int = 0
    symbols_changed: int = 0
    details: int = 0
    splits: int = 0
    splits_changed: bool = False
    dividends: int = 0
    dividends_changed: bool = False
    closures_recorded: int = 0
    left: list[str] = field(default_factory=list)
    landed: list[str] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)

    @property
    def nothing_new(self) -> bool:
        """Whether nothing changed."""
        changed = self.splits_changed or self.dividends_changed
        return not (self.symbols_changed or self.details or self.closures_recorded or changed)


def fetch_meta(
    store: Store,
    source: MetaSource,
    state: State,
    *,
    now: datetime,
    details: int = 0,
    universe: frozenset[str] | None = None,
    progress: Progress = silent,
) -> MetaReport:
    """Bring symbols, splits, dividends and announced closures up to what the provider says at `now`. Idempotent.

    `details` is how many tickers' details may be asked for, one request each: new ones first, then the stalest beyond 30
    days. What the provider says lands first, then it is recorded.
    """
    report = MetaReport()
    _land_tickers(store, source, now, universe, report)
    progress("fetch meta: tickers", 1, 5)
    report.symbols_changed = record_symbols(store, state, report.landed, now=now, universe=universe)
    _land_actions(store, source, now, universe, report, progress)
    wanted = state.stale_details(details, now) if details else []
    asked = _land_details(store, source, wanted, now, never, report)
    record_symbols(store, state, asked, now=now, universe=universe)
    report.landed += asked
    progress("fetch meta: details", 5, 5)
    return _told(report)


def land_meta(
    store: Store,
    source: MetaSource,
    *,
    now: datetime,
    details: Sequence[str] = (),
    listings: bool = True,
    universe: frozenset[str] | None = None,
    stop: Stop = never,
    progress: Progress = silent,
) -> MetaReport:
    """Land what the provider says at `now`, and bring what the lake itself keeps of it up to date. Idempotent.

    That is the ledger of splits and dividends, and announced closures. Symbols and their details are for the state
    database: `record_symbols` takes them from `report.landed`. `details` names the tickers to ask about, one request each;
    without `listings` nothing else is asked.
    """
    report = MetaReport()
    if listings:
        _land_tickers(store, source, now, universe, report)
        progress("fetch meta: tickers", 1, 5)
        _land_actions(store, source, now, universe, report, progress)
    report.landed += _land_details(store, source, details, now, stop, report)
    progress("fetch meta: details", 5, 5)
    return _told(report)


def _told(report: MetaReport) -> MetaReport:
    for line in report.left:
        warn("metadata_left", what=line)
    return report


def _wanted(symbol: str, universe: frozenset[str] | None) -> bool:
    return universe is None or symbol in universe


def _land_tickers(
    store: Store, source: MetaSource, now: datetime, universe: frozenset[str] | None, report: MetaReport
) -> None:
    """Land both lists in one: a ticker that was used again stands in both, and the listed company counts."""
    given = [{"active": active, **row} for active in (True, False) for row in source.tickers(active)]
    rows, bad = parse_rows(given, symbol_of)
    report.symbols = sum(_wanted(row.symbol, universe) for row in rows)
    report.left += [f"ticker {line}" for line in bad]
    report.landed.append(_land(store, "tickers", given, now))


def _land_actions(
    store: Store,
    source: MetaSource,
    now: datetime,
    universe: frozenset[str] | None,
    report: MetaReport,
    progress: Progress,
) -> None:
    """Land splits and dividends, and bring their ledgers and the closures up to date.

    An action keeps when it was first seen; one that the provider no longer gives is marked as withdrawn, never deleted. A
    listing with fewer than half of the actions known is not believed: nothing is withdrawn and it stands in `left`.
    """
    _splits(store, source, now, universe, report)
    progress("fetch meta: splits", 2, 5)
    _dividends(store, source, now, universe, report)
    progress("fetch meta: dividends", 3, 5)
    _closures(store, source, report)
    progress("fetch meta: closures", 4, 5)


def _splits(
    store: Store, source: MetaSource, now: datetime, universe: frozenset[str] | None, report: MetaReport
) -> None:
    given = source.splits()
    splits, bad = parse_rows(given, partial(split_of, seen=now))
    report.left += [f"split {line}" for line in bad]
    splits = [split for split in splits if _wanted(split.symbol, universe)]
    report.splits = len(splits)
    if _is_believable("splits", splits, read_splits(store), report):
        _land(store, "splits", given, now)
        report.splits_changed = update_splits(store, lambda known: merge_actions(known, splits, now))


def _dividends(
    store: Store, source: MetaSource, now: datetime, universe: frozenset[str] | None, report: MetaReport
) -> None:
    given = source.dividends()
    dividends, bad = parse_rows(given, partial(dividend_of, seen=now))
    report.left += [f"dividend {line}" for line in bad]
    dividends = [dividend for dividend in dividends if _wanted(dividend.symbol, universe)]
    report.dividends = len(dividends)
    if _is_believable("dividends", dividends, read_dividends(store), report):
        _land(store, "dividends", given, now)
        report.dividends_changed = update_dividends(store, lambda known: merge_actions(known, dividends, now))


def _is_believable(kind: str, given: Sequence[Action], known: Sequence[Action], report: MetaReport) -> bool:
    current = sum(action.withdrawn_at is None for action in known)
    if len(given) * 2 >= current:
        return True
    report.left.append(f"short listing: {len(given)} {kind}, {current} are known; the ledger stays; fetch again later")
    return False


def _land(store: Store, kind: layout.ListingKind, rows: Sequence[dict[str, Any]], now: datetime) -> str:
    """Land a listing unless the last one that landed has the same rows; return the key under which they lie."""
    texts = sorted(json.dumps(row, sort_keys=True) for row in rows)
    body = f'{{"results": [{", ".join(texts)}]}}'.encode()
    digest = hashlib.sha256(body).hexdigest()[:16]
    found = [(info.key, layout.parse_landing_key(info.key)) for info in store.list(layout.landing_prefix(kind))]
    landed = [(known.instant, key, known) for key, known in found if known is not None]
    _, key, last = max(landed, default=(now, "", None))
    if last is not None and last.digest == digest:
        return key
    # Later than the last one even by a clock that went back, or that one would look like the last for ever.
    key = layout.listing_landing_key(kind, next_instant(now, last), digest)
    store.put(key, pack(body))
    event("listing_landed", kind=kind, rows=len(rows))
    return key


def _closures(store: Store, source: MetaSource, report: MetaReport) -> None:
    calendar = Calendar.shipped(read_closures(store))
    try:
        days = closures_of(source.market_upcoming(), calendar.is_session)
    except ValueError as error:
        report.left.append(f"announced closures: {error}; fetch again later")
        return
    if days and record_closures(store, days):
        report.closures_recorded = len(days)
        warn("closures_recorded", days=",".join(map(str, days)), effect="silver is rebuilt by the next resample")


def _land_details(
    store: Store, source: MetaSource, symbols: Sequence[str], now: datetime, stop: Stop, report: MetaReport
) -> list[str]:
    """Ask for the details of some tickers and land what came; return the key under which it lies, if anything came."""
    given: list[dict[str, Any]] = []
    for done, symbol in enumerate(symbols):
        if stop():
            report.remaining = list(symbols[done:])
            break
        try:
            row = {**(source.ticker_details(symbol) or {}), "ticker": symbol}
        except TransientError as error:
            report.left.append(f"details of {symbol}: {error}")
            continue
        good, bad = parse_rows([row], partial(details_of, now=now))
        report.left += [f"details of {symbol} {line}" for line in bad]
        report.details += len(good)
        given.append(row)
    return [_land(store, "details", given, now)] if given else []
