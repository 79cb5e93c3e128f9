"""What a lake must hold, computed once more in plain Python from the answers that landed.

Nothing here imports condvest, Arrow or numpy: rules, folding, splits and groups are written a second time, from the
documents, so that an error would have to be made twice to go unseen. Slow and simple on purpose.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import unquote
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
ZERO_SESSION = date(1970, 1, 2)
EVIDENCE = timedelta(days=15)
_LANDED = re.compile(
    r"bronze/landing/(?P<kind>grouped|flat_files|range)/(?:date=(?P<session>[^/]+)|symbol=(?P<symbol>[^/]+))/"
    r"(?P<instant>\d{8}T\d{12}Z)-[0-9a-f]{16}(?:-[0-9_-]+)?\.(?:json|csv)\.gz"
)
_SYMBOL = re.compile(r"[A-Za-z0-9][!-~]{0,31}")


class Values(NamedTuple):
    """What the provider says of one symbol in one session."""

    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None
    transactions: int | None


class Daily(NamedTuple):
    """One bar as the lake holds it; `seen` is `ingested_at`."""

    values: Values
    seen: datetime


class Split(NamedTuple):
    """`old` shares become `new` before the open of `day`."""

    day: date
    old: float
    new: float


class Period(NamedTuple):
    """One period bar, its fields in the order of the columns."""

    symbol: str
    start: date
    end: date
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None
    transactions: int | None
    n_sessions: int
    complete: bool


History = dict[date, Daily]
Bars = dict[date, Values]


class Landed(NamedTuple):
    """One landed answer: when it came, and its rows that keep the rules."""

    instant: datetime
    rows: dict[tuple[str, date], Values]


# --- from landing to daily bars ---------------------------------------------------------------------------------


def histories(answers: Iterable[Landed], sessions: Iterable[date]) -> dict[str, History]:
    """Return each symbol's daily bars as the landed answers tell them, days without a session left out.

    The last value of a bar wins and carries the instant at which it came; a value that comes again changes nothing; a
    bar that a later answer no longer holds stays. AssertionError when two answers about one bar share their instant:
    then it would not be said which came last.
    """
    scheduled = set(sessions)
    said: dict[tuple[str, date], datetime] = {}
    found: dict[str, History] = {}
    for answer in sorted(answers, key=lambda answer: answer.instant):
        for (symbol, day), values in answer.rows.items():
            if day not in scheduled:
                continue
            assert said.get((symbol, day)) != answer.instant, f"{symbol} {day}: two answers at {answer.instant}"
            said[symbol, day] = answer.instant
            history = found.setdefault(symbol, {})
            if day not in history or history[day].values != values:
                history[day] = Daily(values, answer.instant)
    return {symbol: dict(sorted(found[symbol].items())) for symbol in sorted(found)}


def read_landed(key: str, data: bytes) -> Landed | None:
    """Read one landed answer about bars; None for any other object."""
    match = _LANDED.fullmatch(key)
    if match is None:
        return None
    instant = datetime.strptime(match["instant"], "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC)
    body = gzip.decompress(data)
    if match["kind"] == "range":
        symbol = unquote(match["symbol"])
        rows = [(symbol, _start_day(row["t"]), row) for row in json.loads(body).get("results", [])]
    else:
        session = date.fromisoformat(match["session"])
        said = json.loads(body).get("results", []) if match["kind"] == "grouped" else _flat_rows(body.decode())
        rows = [(row["T"], session, row) for row in said]
    return Landed(instant, sound_rows(rows))


def sound_rows(rows: Iterable[tuple[str, date, Mapping[str, Any]]]) -> dict[tuple[str, date], Values]:
    """Return the rows that keep the rules; where a symbol stands twice in one session with other values, neither."""
    found: dict[tuple[str, date], list[Values]] = {}
    for symbol, day, row in rows:
        said: Any = [row.get(key) for key in ("o", "h", "l", "c", "v", "vw")]
        opened, high, low, close, volume, vwap = (None if number is None else float(number) for number in said)
        bar: Any = (opened, high, low, close, volume, vwap, row.get("n"))
        found.setdefault((symbol, day), []).append(Values(*bar))
    return {key: said[0] for key, said in found.items() if len(set(said)) == 1 and is_sound(key[0], said[0])}


def is_sound(symbol: str, bar: Values) -> bool:
    """Say whether a row keeps every rule of a daily bar."""
    needed = bar[:5]
    if any(number is None or not number <= 1e30 for number in needed):
        return False
    priced = min(bar.open, bar.high, bar.low, bar.close) > 0 and bar.high >= bar.low
    counted = bar.volume >= 0 and (bar.transactions is None or 0 <= bar.transactions <= 10**10)
    weighted = bar.vwap is None or (0 <= bar.vwap <= 1e30)
    named = _SYMBOL.fullmatch(symbol) is not None and not set(symbol) & set("/\\\"'`") and ".." not in symbol
    return priced and counted and weighted and named


def _flat_rows(text: str) -> list[dict[str, Any]]:
    names = {"ticker": "T", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "transactions": "n"}
    rows: list[dict[str, Any]] = []
    for line in csv.DictReader(io.StringIO(text)):
        row: dict[str, Any] = {names[name]: value for name, value in line.items() if name in names and value != ""}
        rows.append({key: value if key == "T" else json.loads(value) for key, value in row.items()})
    return rows


def _start_day(milliseconds: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)).astimezone(NEW_YORK).date()


# --- splits -----------------------------------------------------------------------------------------------------


def applied(splits: Iterable[Split], bars: Bars, through: date) -> list[Split]:
    """Return the splits of one symbol that count, ascending: at most one a date, and none that the prices contradict.

    The jump is the last close before (no more than 15 days old) over the open of the date itself. A split is
    contradicted when the logarithms of jump and ratio part by more than half of the ratio's and by more than 0.25. Of
    several ratios on one date the nearest to the jump counts; without a jump only a single one does.
    """
    days, chosen = sorted(bars), []
    for day in sorted({split.day for split in splits if split.day <= through}):
        ratios = {split.old / split.new: split for split in splits if split.day == day}
        at = bisect_left(days, day)
        shown = 0 < at < len(days) and days[at] == day and day - days[at - 1] <= EVIDENCE
        if not shown:
            chosen += list(ratios.values()) if len(ratios) == 1 else []
            continue
        jump = math.log(bars[days[at - 1]].close / bars[day].open)
        misses = sorted((abs(jump + math.log(ratio)), ratio) for ratio in ratios)
        miss, ratio = misses[0]
        if miss <= max(abs(math.log(ratio)) / 2, 0.25):
            chosen.append(ratios[ratio])
    return chosen


def on_last_basis(bars: Bars, splits: Iterable[Split]) -> Bars:
    """Return the bars on the basis of the last one: prices before a split times old/new, volume times new/old."""
    adjusted = {}
    for day, bar in bars.items():
        factor = math.prod(split.old / split.new for split in splits if split.day > day)
        adjusted[day] = Values(
            open=bar.open * factor,
            high=bar.high * factor,
            low=bar.low * factor,
            close=bar.close * factor,
            volume=bar.volume / factor,
            vwap=None if bar.vwap is None else bar.vwap * factor,
            transactions=bar.transactions,
        )
    return adjusted


# --- period bars ------------------------------------------------------------------------------------------------


def groups(
    sessions: Sequence[date], length: int, first: date, last: date, origin: date = ZERO_SESSION
) -> list[list[date]]:
    """Cut a calendar's sessions into groups of `length` counted from `origin`, both ways; return those from first to last.

    `sessions` are all that the calendar has, ascending; a group at its end is shorter.
    """
    at = bisect_left(sessions, first)
    begin = at - (at - bisect_left(sessions, origin)) % length
    stop = bisect_right(sessions, last)
    return [list(sessions[max(start, 0) : start + length]) for start in range(begin, stop, length)]


def period_bars(
    symbol: str, bars: Bars, cut: Sequence[Sequence[date]], splits: Sequence[Split], reach: date
) -> list[Period]:
    """Return one symbol's period bars, ascending: one for each group (see `groups`) that holds any of its sessions.

    Every value stands on the basis of the group's last session. `splits` are those that count (see `applied`).
    """
    ends = [group[-1] for group in cut]
    inside: dict[int, Bars] = {}
    for day in sorted(bars):
        inside.setdefault(bisect_left(ends, day), {})[day] = bars[day]
    return [_period(symbol, cut[number], bars, splits, reach) for number, bars in inside.items()]


def _period(symbol: str, group: Sequence[date], bars: Bars, splits: Iterable[Split], reach: date) -> Period:
    start, end = group[0], group[-1]
    assert all(day in group for day in bars), f"{symbol}: a bar on a day without a session"
    inside = list(on_last_basis(bars, [split for split in splits if start < split.day <= end]).values())
    volume = math.fsum(bar.volume for bar in inside)
    traded = [bar for bar in inside if bar.volume > 0]
    known = bool(traded) and all(bar.vwap is not None for bar in traded)
    money = math.fsum((bar.vwap or 0.0) * bar.volume for bar in traded)
    counts = [bar.transactions for bar in inside]
    return Period(
        symbol=symbol,
        start=start,
        end=end,
        open=inside[0].open,
        high=max(bar.high for bar in inside),
        low=min(bar.low for bar in inside),
        close=inside[-1].close,
        volume=volume,
        vwap=money / volume if known else None,
        transactions=None if None in counts else sum(count for count in counts if count is not None),
        n_sessions=len(inside),
        complete=end <= reach,
    )


def silver(
    lake: Mapping[str, Bars], splits: Mapping[str, Sequence[Split]], sessions: Sequence[date], length: int
) -> dict[str, list[Period]]:
    """Return what silver of one length holds: for each month (`YYYY-MM`) the period bars whose group starts in it.

    Ordered by symbol, then date. `lake` has the consolidated bars by symbol, `splits` what the provider says, by symbol.
    """
    reach = max((max(bars) for bars in lake.values()), default=date.min)
    begin = min((min(bars) for bars in lake.values()), default=date.max)
    cut = groups(sessions, length, begin, reach) if lake else []
    months: dict[str, list[Period]] = {}
    for symbol in sorted(lake):
        count = applied(splits.get(symbol, ()), lake[symbol], reach)
        for bar in period_bars(symbol, lake[symbol], cut, count, reach):
            months.setdefault(bar.start.strftime("%Y-%m"), []).append(bar)
    return dict(sorted(months.items()))


# --- comparison -------------------------------------------------------------------------------------------------


def differences(found: Sequence[Sequence[Any]], expected: Sequence[Sequence[Any]]) -> list[str]:
    """Return how rows differ from those expected: floats by more than rounding (1 in 10^12), all else at all."""
    if len(found) != len(expected):
        counts = Counter(tuple(row[:2]) for row in found), Counter(tuple(row[:2]) for row in expected)
        return [f"{len(found)} rows, expected {len(expected)}: {counts[0] - counts[1]} {counts[1] - counts[0]}"]
    return [f"{have} expected {want}" for have, want in zip(found, expected, strict=True) if not _alike(have, want)]


def _alike(have: Sequence[Any], want: Sequence[Any]) -> bool:
    return len(have) == len(want) and all(_close(a, b) for a, b in zip(have, want, strict=True))


def _close(have: object, want: object) -> bool:
    if isinstance(have, float) and isinstance(want, float):
        return math.isclose(have, want, rel_tol=1e-12)
    return have == want
