"""Fetch metadata: symbols active and delisted, their details within a budget, splits, dividends, announced closures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from condvest.domain.actions import Dividend, Split
from condvest.domain.calendar import Calendar
from condvest.domain.metadata import (
    LISTINGS,
    Following,
    Listing,
    ListingName,
    ListingPage,
    closures_of,
    details_of,
    dividend_of,
    merge_actions,
    parse_rows,
    split_of,
    symbol_of,
    symbols_unread,
)
from condvest.errors import DataError, TimeOver, TransientError
from condvest.jobs.landed import traded
from condvest.jobs.progress import Progress, silent
from condvest.jobs.read_listing import ListingReader
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

    def pages(self, listing: Listing, after: Following | None = None) -> Iterator[ListingPage]:
        """Yield a listing page by page, from its begin or from a page that an earlier one told of."""

    def ticker_details(self, symbol: str) -> dict[str, Any] | None:
        """Return what is known of one ticker, None when nothing is."""

    def market_upcoming(self) -> list[dict[str, Any]]:
        """Return announced closures and early closes."""


@dataclass(slots=True)
class MetaReport:
    """What a metadata fetch did: counts of what changed; `left` names rows that cannot be read and listings that are short.

    `pages`: how many pages of listings came. `remaining_listings` and `remaining`: listings, and symbols whose details, it did
    not come to, as the time was over; `unfinished_since`: when the first of these listings began, if its pages are kept.
    """

    symbols: int = 0
    symbols_changed: int = 0
    details: int = 0
    splits: int = 0
    splits_changed: bool = False
    dividends: int = 0
    dividends_changed: bool = False
    closures_recorded: int = 0
    pages: int = 0
    left: list[str] = field(default_factory=list)
    remaining_listings: list[ListingName] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)
    unfinished_since: datetime | None = None

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
    fetch = _Fetch(
        store, source, now, universe, ListingReader(store, source, now, never), never, MetaReport(), progress
    )
    report = fetch.report
    _land_listings(fetch, ["tickers"])
    recorded = record_symbols(store, state, universe=universe)
    report.symbols_changed = recorded.changed
    _land_listings(fetch, LISTINGS[1:])
    _land_details(fetch, state.stale_details(details, now) if details else [])
    report.left += recorded.left
    if report.details:
        record_symbols(store, state, universe=universe)
    return _told(fetch)


def land_meta(
    store: Store,
    source: MetaSource,
    *,
    now: datetime,
    details: Sequence[str] = (),
    listings: Sequence[ListingName] = LISTINGS,
    resume: datetime | None = None,
    universe: frozenset[str] | None = None,
    stop: Stop = never,
    progress: Progress = silent,
) -> MetaReport:
    """Land what the provider says at `now`, and bring what the lake itself keeps of it up to date. Idempotent.

    That is the ledger of splits and dividends, and announced closures. Symbols and their details are for the state
    database: `record_symbols` finds what landed. `listings` names what to ask for, `details` the tickers to ask about, one
    request each. Asked to stop, also between two pages, it names the rest; `resume` is the `unfinished_since` of that
    report, so that no page is asked for twice.
    """
    reader = ListingReader(store, source, now, stop, resume)
    fetch = _Fetch(store, source, now, universe, reader, stop, MetaReport(), progress)
    if _land_listings(fetch, listings):
        _land_details(fetch, details)
    else:
        fetch.report.remaining = list(details)
    return _told(fetch)


@dataclass(frozen=True, slots=True)
class _Fetch:
    """What every step of one fetch needs."""

    store: Store
    source: MetaSource
    now: datetime
    universe: frozenset[str] | None
    reader: ListingReader
    stop: Stop
    report: MetaReport
    progress: Progress


def _land_listings(fetch: _Fetch, listings: Sequence[ListingName]) -> bool:
    """Land some listings in their order; say whether the time was enough for all."""
    steps: dict[ListingName, Callable[[_Fetch], bool]] = {
        "tickers": _tickers,
        "splits": _splits,
        "dividends": _dividends,
        "closures": _closures,
    }
    wanted = [name for name in LISTINGS if name in listings]
    for done, name in enumerate(wanted):
        if not steps[name](fetch):
            fetch.report.remaining_listings = list(wanted[done:])
            return False
        fetch.progress(f"fetch meta: {name}", LISTINGS.index(name) + 1, len(LISTINGS) + 1)
    return True


def _told(fetch: _Fetch) -> MetaReport:
    report = fetch.report
    report.pages, report.unfinished_since = fetch.reader.pages, fetch.reader.unfinished_since
    fetch.progress("fetch meta: details", len(LISTINGS) + 1, len(LISTINGS) + 1)
    for line in report.left:
        warn("metadata_left", what=line)
    return report


def _wanted(symbol: str, universe: frozenset[str] | None) -> bool:
    return universe is None or symbol in universe


def _tickers(fetch: _Fetch) -> bool:
    """Land both lists in one: a ticker that was used again stands in both, and the listed company counts."""
    given = fetch.reader.read("tickers")
    if given is None:
        return False
    rows, bad = parse_rows(given, symbol_of)
    fetch.report.symbols = sum(_wanted(row.symbol, fetch.universe) for row in rows)
    fetch.report.left += [f"ticker {line}" for line in bad]
    _land(fetch.store, "tickers", given, fetch.now)
    return True


def _splits(fetch: _Fetch) -> bool:
    """Land splits, and bring their ledger up to date.

    An action keeps when it was first seen; one that the provider no longer gives is marked as withdrawn, never deleted. A
    listing with fewer than half of the actions known is not believed: nothing is withdrawn and it stands in `left`. So does a
    row that cannot be read; no action of its symbol is withdrawn.
    """
    given, store, report = fetch.reader.read("splits"), fetch.store, fetch.report
    if given is None:
        return False
    splits, bad = parse_rows(given, partial(split_of, seen=fetch.now))
    report.left += [f"split {line}" for line in bad]
    unread = symbols_unread(given, splits)
    splits = [split for split in splits if _wanted(split.symbol, fetch.universe)]
    report.splits = len(splits)
    if _is_believable("splits", splits, _of_universe(read_splits(store), fetch.universe), report):
        _land(store, "splits", given, fetch.now)
        report.splits_changed = update_splits(store, lambda known: _merged(fetch, known, splits, unread))
    return True


def _dividends(fetch: _Fetch) -> bool:
    """Land dividends, and bring their ledger up to date, as that of splits."""
    given, store, report = fetch.reader.read("dividends"), fetch.store, fetch.report
    if given is None:
        return False
    dividends, bad = parse_rows(given, partial(dividend_of, seen=fetch.now))
    report.left += [f"dividend {line}" for line in bad]
    unread = symbols_unread(given, dividends)
    dividends = [dividend for dividend in dividends if _wanted(dividend.symbol, fetch.universe)]
    report.dividends = len(dividends)
    if _is_believable("dividends", dividends, _of_universe(read_dividends(store), fetch.universe), report):
        _land(store, "dividends", given, fetch.now)
        report.dividends_changed = update_dividends(store, lambda known: _merged(fetch, known, dividends, unread))
    return True


def _of_universe(actions: Sequence[Action], universe: frozenset[str] | None) -> list[Action]:
    return [action for action in actions if _wanted(action.symbol, universe)]


def _merged(
    fetch: _Fetch, known: Sequence[Action], given: Sequence[Action], unread: frozenset[str] | None
) -> list[Action]:
    """Merge the actions of the universe; those of other symbols stay as they are, since none of them were taken."""
    others = [action for action in known if not _wanted(action.symbol, fetch.universe)]
    return others + merge_actions(_of_universe(known, fetch.universe), given, fetch.now, unread=unread)


def _is_believable(kind: str, given: Sequence[Action], known: Sequence[Action], report: MetaReport) -> bool:
    current = sum(action.withdrawn_at is None for action in known)
    if len(given) * 2 >= current:
        return True
    report.left.append(f"short listing: {len(given)} {kind}, {current} are known; the ledger stays; fetch again later")
    return False


def _land(
    store: Store, kind: layout.ListingKind, rows: Sequence[dict[str, Any]], now: datetime, *, daily: bool = False
) -> None:
    """Land a listing unless the last one that landed has the same rows; with `daily`, and is of the same UTC day."""
    texts = sorted(json.dumps(row, sort_keys=True) for row in rows)
    body = b"".join((b'{"results": [', ", ".join(texts).encode(), b"]}"))
    del texts  # as large as the body
    digest = hashlib.sha256(body).hexdigest()[:16]
    landed = [layout.parse_landing_key(info.key) for info in store.list(layout.landing_prefix(kind))]
    last = max((known for known in landed if known is not None), key=lambda known: known.instant, default=None)
    if last is not None and last.digest == digest and not (daily and last.instant.date() < now.astimezone(UTC).date()):
        return
    # Later than the last one even by a clock that went back, or that one would look like the last for ever.
    store.put(layout.listing_landing_key(kind, next_instant(now, last), digest), pack(body))
    event("listing_landed", kind=kind, rows=len(rows))


def _closures(fetch: _Fetch) -> bool:
    """Record announced closures in the lake."""
    store, report = fetch.store, fetch.report
    calendar = Calendar.shipped(read_closures(store))
    if fetch.stop():
        return False
    try:
        days = closures_of(fetch.source.market_upcoming(), calendar.is_session)
    except TimeOver:
        return False
    except ValueError as error:
        report.left.append(f"announced closures: {error}; fetch again later")
        return True
    for day in traded(store, days):
        days.remove(day)
        report.left.append(
            f"announced closure {day}: what landed of that day is not empty, so the exchange was open; it is not recorded"
        )
    if days and record_closures(store, days):
        report.closures_recorded = len(days)
        warn("closures_recorded", days=",".join(map(str, days)), effect="silver is rebuilt by the next resample")
    return True


def _land_details(fetch: _Fetch, symbols: Sequence[str]) -> None:
    """Ask for the details of some tickers and land what came, at least once a day: when they were asked for counts too."""
    given: list[dict[str, Any]] = []
    report = fetch.report
    for done, symbol in enumerate(symbols):
        try:
            found = None if fetch.stop() else {**(fetch.source.ticker_details(symbol) or {}), "ticker": symbol}
        except TimeOver:
            found = None
        except (TransientError, DataError) as error:  # of this ticker alone
            report.left.append(f"details of {symbol}: {error}")
            continue
        if found is None:
            report.remaining = list(symbols[done:])
            break
        good, bad = parse_rows([found], partial(details_of, now=fetch.now))
        report.left += [f"details of {symbol} {line}" for line in bad]
        report.details += len(good)
        given.append(found)
    if given:
        _land(fetch.store, "details", given, fetch.now, daily=True)
