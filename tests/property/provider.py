"""A small provider that changes its mind: late sessions, restated, withdrawn and broken rows, splits true and false."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any, Literal, Protocol

from condvest.demo import shapes
from condvest.demo.market import NEW_YORK, Bar, Market, new_york_ms
from condvest.domain.answers import (
    ParsedBars,
    SessionAnswer,
    SessionRefusal,
    SessionSource,
    parse_flat_file,
    parse_grouped,
    parse_range,
)
from condvest.domain.calendar import Calendar
from condvest.domain.metadata import Following, Listing, ListingPage
from condvest.errors import NotEntitled
from condvest.jobs.fetch_meta import MetaSource
from condvest.jobs.fetch_symbols import RangeSource

Kind = Literal["grouped", "flat_files"]
Row = dict[str, Any]

#: Two that differ in case alone, one with a dot; the first trades every session, the others have gaps.
SYMBOLS = ("AAPL", "BCPC", "BCpC", "BRK.B")
ANCHOR = SYMBOLS[0]
#: Sessions that a provider knows, and how many of them are past when a lake begins.
WINDOW, PAST = 84, 44
#: Around ordinal 0, where floor division shows, and around a year's end with an early close.
ERAS = (date(1969, 10, 20), date(2024, 9, 3))
#: symbol -> (position of its session, old shares, new shares): the prices jump there, told of or not.
TRUE_SPLITS = {"AAPL": (38, 1, 4), "BCPC": (47, 10, 1), "BCpC": (41, 1, 2), "BRK.B": (60, 2, 3)}
_LISTED_AT = {"BRK.B": 25}
_GAPS = {"BCPC": range(8, 24), "BCpC": range(46, 49)}


class Source(SessionSource, RangeSource, MetaSource, Protocol):
    """All that the jobs ask of a provider."""


class World:
    """What is true, what the provider says of it, and what time it is."""

    def __init__(self, seed: int, era: date, *, entitled_from: int) -> None:
        """Make `WINDOW` sessions of bars from the first session after `era`; the plan begins at position `entitled_from`."""
        calendar = Calendar.shipped()
        first = calendar.ordinal(calendar.next_session(era))
        self.sessions = [calendar.session_at(first + position) for position in range(WINDOW)]
        self.plan_start = self.sessions[entitled_from]
        self.market = Market()
        self.now = evening(self.sessions[PAST - 1])
        self._random = random.Random(seed)
        self._base = {symbol: self._path(symbol) for symbol in SYMBOLS}
        self._variant: dict[tuple[date, str], int | None] = {}
        self._withheld: set[date] = set()
        self.closed: set[date] = set()
        for symbol in SYMBOLS:
            self.market.add_ticker(symbol)
        for session in self.sessions:
            self._tell(session)

    def _path(self, symbol: str) -> dict[date, Bar]:
        rand, price, bars = self._random, 100.0, {}
        at, old, new = TRUE_SPLITS[symbol]
        no_vwap = rand.random() < 0.3
        for position, session in enumerate(self.sessions):
            price = price * old / new if position == at else price
            opened = price * rand.uniform(0.97, 1.03)
            price = opened * rand.uniform(0.97, 1.03)
            low, high = min(opened, price) * 0.99, max(opened, price) * 1.01
            volume = rand.choice([0.0, 1000.0, 12.5, rand.uniform(1, 1e9), float(rand.randrange(1, 10**7))])
            vwap = None if no_vwap or rand.random() < 0.08 else (low + high) / 2
            count = None if rand.random() < 0.1 else rand.randrange(10**6)
            absent = position < _LISTED_AT.get(symbol, 0) or position in _GAPS.get(symbol, ())
            bars[session] = Bar(opened, high, low, price, volume, vwap, count)
            if symbol != ANCHOR and (absent or rand.random() < 0.1):
                bars[session] = replace(bars[session], otc=True)  # there, but not in the answers
        return bars

    def past(self) -> list[date]:
        """Return the sessions that are over."""
        return [session for session in self.sessions if evening(session) - timedelta(minutes=2) <= self.now]

    def tell(self, session: date, symbol: str, variant: int | None) -> None:
        """Change what is said of one bar: 0 as it was, 1 to 3 another value, None no bar at all (never of the anchor)."""
        if variant is not None or symbol != ANCHOR:
            self._variant[session, symbol] = variant
            self._tell(session)

    def withhold(self, session: date) -> None:
        """Have no answer for a session, until `release`."""
        self._withheld.add(session)
        self._tell(session)

    def release(self) -> None:
        """Have an answer again for every session."""
        sessions, self._withheld = self._withheld, set()
        for session in sessions:
            self._tell(session)

    def spoil(self, session: date, symbol: str, how: int) -> None:
        """Put a broken row into a session's answer (0: take it out again)."""
        sound: Row = {"T": symbol, "o": 5.0, "h": 6.0, "l": 4.0, "c": 5.0, "v": 10, "t": new_york_ms(session, 16)}
        broken: list[Row] = [{"h": 3.0}, {"c": float("nan")}, {"v": -1}, {"T": "A/B"}, {}]
        self.market.raw_rows[session] = [sound | broken[how - 1]] if how else []

    def close(self, session: date) -> None:
        """Announce that the exchange does not open on a session to come."""
        self.closed.add(session)
        self.market.add_closure(session, "Mourning")
        self._tell(session)

    def _tell(self, session: date) -> None:
        if session in self._withheld or session in self.closed:
            self.market.bars.pop(session, None)
            self.market.raw_rows.pop(session, None)
            return
        told = {}
        for symbol in SYMBOLS:
            bar, known = self._base[symbol][session], (session, symbol) in self._variant
            variant = self._variant.get((session, symbol), 0)
            if variant is not None and (known or not bar.otc):
                told[symbol] = _varied(replace(bar, otc=False), variant)
        self.market.bars[session] = told

    def rows(self, session: date, kind: Kind) -> list[Row]:
        """Return the rows that an answer of this kind holds now; none for a session that is refused."""
        return [] if session < self.plan_start else answer_rows(self.market, session, kind)

    def source(self, kind: Kind = "grouped") -> InProcess:
        """Return a source that serves this world without a network."""
        return InProcess(self.market, lambda: self.now, kind=kind, plan_start=self.plan_start)


def answer_rows(market: Market, session: date, kind: Kind) -> list[Row]:
    """Return the rows of a grouped answer; a flat file has the same without vwap, and none that is broken."""
    rows = shapes.grouped_rows(market, session, include_otc=False, factor=lambda _: 1.0, seen=_as_it_is)
    if kind == "grouped":
        return rows
    broken = market.raw_rows.get(session, [])
    return [{key: value for key, value in row.items() if key != "vw"} for row in rows if row not in broken]


def _as_it_is(_session: date, _symbol: str, bar: Bar) -> Bar:
    return bar


def evening(session: date) -> datetime:
    """Return 16:05 in New York, when every session is over."""
    return datetime.combine(session, time(16, 5), NEW_YORK)


def _varied(bar: Bar, variant: int) -> Bar:
    if variant == 1:
        return replace(bar, high=bar.high * 1.05, volume=bar.volume + 0.25)
    if variant == 2:  # far enough to change what a split's jump looks like
        return replace(bar, open=bar.open * 2, high=bar.high * 2, low=bar.low * 2, close=bar.close * 2)
    return replace(bar, vwap=None, transactions=7) if variant == 3 else bar


class InProcess:
    """A source that makes the provider's bodies and reads them with the real parsers, without a network between."""

    def __init__(
        self, market: Market, now: Callable[[], datetime], *, kind: Kind = "grouped", plan_start: date = date.min
    ) -> None:
        """Serve a market; `now` is the provider's clock, `plan_start` the plan's first session."""
        self._market = market
        self._now = now
        self._plan_start = plan_start
        self.kind = kind
        self.requests = 0

    def fetch_sessions(self, sessions: Sequence[date]) -> Iterator[SessionAnswer | SessionRefusal]:
        """Yield one outcome a session."""
        for session in sessions:
            self.requests += 1
            yield self._outcome(session)

    def _outcome(self, session: date) -> SessionAnswer | SessionRefusal:
        if session < self._plan_start:
            return SessionRefusal(session, "not_entitled", "the plan begins later")
        rows = answer_rows(self._market, session, self.kind)
        if not rows:
            return SessionRefusal(session, "pending", "empty answer")
        if self.kind == "grouped":
            body = _json(shapes.aggregates(rows, adjusted=False, status="OK"))
            return SessionAnswer(session, body, parse_grouped(body, session))
        body = _csv(rows, session)
        return SessionAnswer(session, body, parse_flat_file(body, session))

    def fetch_range(self, symbol: str, first: date, last: date) -> tuple[bytes, ParsedBars]:
        """Return one symbol's bars."""
        self.requests += 1
        if last < self._plan_start:
            raise NotEntitled(f"the plan begins on {self._plan_start}")
        start = max(first, self._plan_start)
        days = sorted(day for day in self._market.bars if start <= day <= last)
        rows = shapes.range_rows(self._market, symbol, days, factor=lambda _: 1.0, seen=_as_it_is)
        body = _json({"ticker": symbol, "adjusted": False, "results": rows})
        return body, parse_range(body, symbol)

    def pages(self, listing: Listing, after: Following | None = None) -> Iterator[ListingPage]:
        """Yield a listing in one page."""
        if listing in ("listed", "delisted"):
            asked = {"active": str(listing == "listed").lower(), "order": "asc"}
            yield ListingPage(list(shapes.ticker_rows(self._market, asked)), None)
        elif listing == "splits":
            yield ListingPage(shapes.split_rows(self._market, {"sort": "execution_date.asc"}), None)
        else:
            yield ListingPage(shapes.dividend_rows(self._market, {"sort": "ex_dividend_date.asc"}), None)

    def ticker_details(self, symbol: str) -> Row | None:
        """Return what is known of one ticker."""
        return shapes.details(self._market, symbol)

    def market_upcoming(self) -> list[Row]:
        """Return the announced closures."""
        return shapes.upcoming_rows(self._market, self._now().astimezone(NEW_YORK).date())


def in_process(world: World) -> AbstractContextManager[Source]:
    """Serve a world without a network."""
    return nullcontext(world.source())


def _json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body).encode()


def _csv(rows: Sequence[Row], session: date) -> bytes:
    start = new_york_ms(session, 0) * 10**6
    lines = ["ticker,volume,open,close,high,low,window_start,transactions"]
    for row in rows:
        values = [row["T"], row["v"], row["o"], row["c"], row["h"], row["l"], start, row.get("n", "")]
        lines.append(",".join(map(str, values)))
    return "\n".join(lines).encode() + b"\n"
