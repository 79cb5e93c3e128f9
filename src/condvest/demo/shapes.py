"""The provider's answers, made from a market: pure functions from data to the JSON that the vendor documents.

Shapes follow the vendor's documentation and the recorded answers in the tests of its Python client.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import cast
from urllib.parse import parse_qsl, urlencode

from condvest.demo.market import NEW_YORK, Bar, Market, new_york_ms

Row = dict[str, object]
Seen = Callable[[date, str, Bar], Bar]

_LISTED = (
    "ticker", "name", "market", "locale", "primary_exchange", "type", "active", "currency_name",
    "cik", "composite_figi", "share_class_figi", "last_updated_utc", "delisted_utc",
)  # fmt: skip
_INDICES = (
    "s_and_p",
    "societe_generale",
    "msci",
    "ftse_russell",
    "mstar",
    "mstarc",
    "cccy",
    "nasdaq",
    "dow_jones",
    "cgi",
)
_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "": lambda value, wanted: value == wanted,
    ".gt": lambda value, wanted: value > wanted,
    ".gte": lambda value, wanted: value >= wanted,
    ".lt": lambda value, wanted: value < wanted,
    ".lte": lambda value, wanted: value <= wanted,
    ".any_of": lambda value, wanted: value in wanted.split(","),
}


def grouped_rows(
    market: Market, session: date, *, include_otc: bool, factor: Callable[[str], float], seen: Seen
) -> list[Row]:
    """Return the rows of one session, `t` = 16:00 New York (the END of the window), raw rows last."""
    stamp = new_york_ms(session, 16)
    rows = [
        {"T": symbol} | _bar_row(seen(session, symbol, bar), stamp, factor(symbol))
        for symbol, bar in market.bars.get(session, {}).items()
        if include_otc or not bar.otc
    ]
    return rows + market.raw_rows.get(session, [])


def range_rows(
    market: Market, symbol: str, sessions: Iterable[date], *, factor: Callable[[date], float], seen: Seen
) -> list[Row]:
    """Return one symbol's rows in the order of `sessions`, `t` = 00:00 New York (the START of the window)."""
    return [
        _bar_row(seen(session, symbol, market.bars[session][symbol]), new_york_ms(session, 0), factor(session))
        for session in sessions
        if symbol in market.bars[session]
    ]


def aggregates(rows: list[Row], *, adjusted: bool, status: str) -> Row:
    """Return the frame around rows of bars. A holiday, a future date, an unknown ticker: no `results` at all."""
    frame: Row = {"queryCount": len(rows), "resultsCount": len(rows), "adjusted": adjusted}
    if rows:
        frame["results"] = rows
    return frame | {"status": status, "count": len(rows)}


def ticker_rows(market: Market, query: Mapping[str, str]) -> list[Row]:
    """Return the tickers that a query asks for, by symbol; `active` is true unless it says otherwise, as of `date`."""
    active = query.get("active", "true") == "true"
    day = query.get("date")
    rows = []
    for symbol in sorted(market.tickers, reverse=query.get("order") == "desc"):
        info = market.tickers[symbol]
        if day is not None and str(info.get("list_date", "")) > day:
            continue
        ended = str(info.get("delisted_utc", ""))[:10]
        alive = bool(info["active"]) if day is None or not ended else day < ended
        if alive == active:
            row = {name: info[name] for name in _LISTED if name in info} | {"active": alive}
            rows.append({name: value for name, value in row.items() if not (alive and name == "delisted_utc")})
    return [row for row in rows if _matches(row, query, ("ticker", "market", "type"))]


def details(market: Market, symbol: str) -> Row | None:
    """Return all that is known of one ticker; None when it is unknown (case counts)."""
    info = market.tickers.get(symbol)
    return None if info is None else dict(info)


def split_rows(market: Market, query: Mapping[str, str]) -> list[Row]:
    """Return the splits of a query with the cumulated factor of each: the one for prices just before its date."""
    rows = [row | {"historical_adjustment_factor": _split_factor_at(market, row)} for row in market.splits]
    rows = [row for row in rows if _matches(row, query, ("ticker", "execution_date", "adjustment_type"))]
    return _ordered(rows, query.get("sort", "execution_date.desc"))


def dividend_rows(market: Market, query: Mapping[str, str]) -> list[Row]:
    """Return the dividends of a query. `cash_amount` is as declared; the amount on today's shares stands beside it."""
    rows = []
    for row in market.dividends:
        factor = market.split_factor(str(row["ticker"]), date.fromisoformat(str(row["ex_dividend_date"])), date.max)
        rows.append(row | {"split_adjusted_cash_amount": cast(float, row["cash_amount"]) * factor})
    rows = [
        row for row in rows if _matches(row, query, ("ticker", "ex_dividend_date", "frequency", "distribution_type"))
    ]
    return _ordered(rows, query.get("sort", "ticker.asc"))


def market_now(market: Market, now: datetime) -> Row:
    """Return the state of the exchanges at an instant: after 16:00 New York the market is never `open`."""
    local = now.astimezone(NEW_YORK)
    closed = {str(row["date"]): str(row.get("status")) for row in market.upcoming}
    free = local.weekday() >= 5 or closed.get(str(local.date())) == "closed"
    clock = local.time()
    early = not free and time(4) <= clock < time(9, 30)
    late = not free and time(16) <= clock < time(20)
    state = "extended-hours" if early or late else "open" if not free and time(9, 30) <= clock < time(16) else "closed"
    return {
        "afterHours": late,
        "currencies": {"crypto": "open", "fx": "open"},
        "earlyHours": early,
        "exchanges": {"nasdaq": state, "nyse": state, "otc": state},
        "indicesGroups": dict.fromkeys(_INDICES, state),
        "market": state,
        "serverTime": local.isoformat(timespec="seconds"),
    }


def upcoming_rows(market: Market, today: date) -> list[Row]:
    """Return announced closures from today on, by date, one row an exchange."""
    return sorted((row for row in market.upcoming if str(row["date"]) >= str(today)), key=lambda row: str(row["date"]))


def page(
    rows: list[Row], *, limit: int, offset: int, address: str, query: Mapping[str, str]
) -> tuple[list[Row], str | None]:
    """Return one page of rows and the address of the next; its cursor holds the query and never the key."""
    following = offset + limit
    if following >= len(rows):
        return rows[offset:following], None
    kept = {name: value for name, value in query.items() if name not in ("apiKey", "cursor")}
    packed = urlencode(kept | {"limit": str(limit), "page_marker": str(following)})
    cursor = base64.urlsafe_b64encode(packed.encode()).decode().rstrip("=")
    return rows[offset:following], f"{address}?cursor={cursor}"


def unpacked(cursor: str) -> dict[str, str]:
    """Return the query inside a cursor; ValueError when it is none of ours."""
    return dict(parse_qsl(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode(), strict_parsing=True))


def day_of(text: str) -> date:
    """Read a bound of a range: `YYYY-MM-DD` or UTC milliseconds (their New York date); ValueError for others."""
    if text.isdigit():
        return (datetime.fromtimestamp(0, NEW_YORK) + timedelta(milliseconds=int(text))).astimezone(NEW_YORK).date()
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=NEW_YORK).date()


def _bar_row(bar: Bar, stamp: int, factor: float) -> Row:
    row: Row = {
        "v": bar.volume / factor,
        "o": bar.open * factor,
        "c": bar.close * factor,
        "h": bar.high * factor,
        "l": bar.low * factor,
        "t": stamp,
    }
    if bar.vwap is not None:
        row["vw"] = bar.vwap * factor
    if bar.transactions is not None:
        row["n"] = bar.transactions
    if bar.otc:
        row["otc"] = True
    return row


def _split_factor_at(market: Market, row: Row) -> float:
    eve = date.fromisoformat(str(row["execution_date"])) - timedelta(days=1)
    return market.split_factor(str(row["ticker"]), eve, date.max)


def _matches(row: Row, query: Mapping[str, str], fields: Iterable[str]) -> bool:
    return all(
        compare(str(row.get(name)), query[name + suffix])
        for name in fields
        for suffix, compare in _COMPARISONS.items()
        if name + suffix in query
    )


def _ordered(rows: list[Row], sort: str) -> list[Row]:
    """Sort by `field.asc,other.desc`, the last field first, as sorts are stable."""
    for part in reversed(sort.split(",")):
        name, _, direction = part.partition(".")
        rows = sorted(rows, key=lambda row: str(row.get(name, "")), reverse=direction == "desc")
    return rows
