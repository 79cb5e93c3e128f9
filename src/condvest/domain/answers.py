"""The provider's answers, read: bodies in, checked bars out. Pure; what asks for them lives in `sources`.

Shapes: the vendor's OpenAPI document for grouped daily and custom bars, and its flat-file documentation.
"""

from __future__ import annotations

import csv
import io
import json
import reprlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, Literal, Protocol

from condvest.domain.answer_rows import KEYS, ParsedBars, read_rows
from condvest.domain.calendar import new_york_date
from condvest.errors import ConfigError, DataError

__all__ = [
    "MOST_BODY_BYTES",
    "ParsedBars",
    "SessionAnswer",
    "SessionRefusal",
    "SessionSource",
    "gunzip",
    "parse_flat_file",
    "parse_grouped",
    "parse_range",
    "parse_session",
]

#: A whole market's session is 1.5 MB. What unpacks to more than this is no answer, and would fill the memory.
MOST_BODY_BYTES: Final = 256 << 20

_FLAT_COLUMNS: Final = ("ticker", "volume", "open", "close", "high", "low", "window_start", "transactions")
#: Spellings that a float of Python or C would take but that are no number of the provider's.
_DIGITS: Final = frozenset("0123456789+-.eE")


@dataclass(frozen=True, slots=True)
class SessionAnswer:
    """The provider's answer for one session, as received and as read."""

    session: date
    body: bytes
    parsed: ParsedBars


@dataclass(frozen=True, slots=True)
class SessionRefusal:
    """Why there is no answer for one session: it stays `pending`, or the plan does not include it."""

    session: date
    state: Literal["pending", "not_entitled"]
    reason: str


class SessionSource(Protocol):
    """Where whole sessions come from: the REST API or the flat files."""

    @property
    def kind(self) -> Literal["grouped", "flat_files"]:
        """The landing folder of its answers, and with it their shape."""

    @property
    def requests(self) -> int:
        """How many requests it made so far."""

    def fetch_sessions(self, sessions: Sequence[date]) -> Iterator[SessionAnswer | SessionRefusal]:
        """Yield one outcome a session, in the order given, several requests in flight."""


def gunzip(packed: bytes) -> bytes:
    """Return the body in a gzip file. EOFError or zlib.error: it is none, or not whole. DataError: it is a bomb."""
    body, rest = b"", packed
    while rest or not packed:
        member = zlib.decompressobj(wbits=31)
        body += member.decompress(rest, MOST_BODY_BYTES + 1 - len(body))
        if len(body) > MOST_BODY_BYTES:
            raise DataError(f"{len(packed)} bytes hold more than {MOST_BODY_BYTES >> 20} MiB, as no answer does")
        if not member.eof:
            raise EOFError("it ends in the middle" if packed else "it is empty")
        rest = member.unused_data.lstrip(b"\0")
    return body


def parse_session(kind: str, body: bytes, session: date) -> ParsedBars:
    """Read a landed answer for one session: `kind` is `grouped` or `flat_files`."""
    return parse_grouped(body, session) if kind == "grouped" else parse_flat_file(body, session)


def parse_grouped(body: bytes, session: date) -> ParsedBars:
    """Read a grouped daily answer. The session is the one asked for: `t` there is the window's END and decides nothing.

    An answer without `results` has `total` 0. DataError: no JSON object, `results` no list, or prices adjusted.
    """
    answer = _json_object(body, f"grouped answer for {session}")
    if answer.get("adjusted") is True:
        raise DataError(
            f"grouped answer for {session}: prices are adjusted, the lake holds raw ones; ask with adjusted=false"
        )
    rows = _results(answer, f"grouped answer for {session}")
    return read_rows(rows, [session] * len(rows))


def parse_range(body: bytes, symbol: str) -> ParsedBars:
    """Read a custom-bars answer of one symbol: `{"ticker": ..., "results": [...]}`, all pages in one.

    The session is the New York date of `t` (milliseconds UTC), which there is the window's START. DataError: no JSON
    object, another ticker, prices adjusted, or a `t` that is no time.
    """
    what = f"range answer for {symbol}"
    answer = _json_object(body, what)
    if answer.get("ticker", symbol) != symbol:
        raise DataError(
            f"{what}: it is for {reprlib.repr(answer['ticker'])}, not for {symbol!r}; nothing was taken; fetch again"
        )
    if answer.get("adjusted") is True:
        raise DataError(f"{what}: prices are adjusted, the lake holds raw ones; ask with adjusted=false")
    rows = [{**row, "T": symbol} if isinstance(row, dict) else row for row in _results(answer, what)]
    return read_rows(rows, [_start_session(row, what) for row in rows])


def parse_flat_file(body: bytes, session: date) -> ParsedBars:
    """Read a day-aggregates flat file (CSV, unadjusted). `window_start` is in NANOseconds UTC.

    A file whose rows are of another session is refused as a whole (DataError), as is one with other columns.
    """
    try:
        # Strict: else a quote that is never closed takes all later rows into one.
        lines = list(csv.reader(io.StringIO(body.decode("utf-8")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"flat file of {session}: not CSV in UTF-8 ({error}); fetch it again") from error
    if not lines or tuple(lines[0]) != _FLAT_COLUMNS:
        found = ",".join(lines[0]) if lines else "nothing"
        raise DataError(f"flat file of {session}: columns are {found}, expected {','.join(_FLAT_COLUMNS)}")
    rows = [_flat_row(line) for line in lines[1:]]
    for row in rows:
        start = row.get("window_start")
        if isinstance(start, int) and _day_of(start, 10**9) != session:
            raise DataError(f"flat file of {session}: window_start {start} is another day's; fetch it again")
    return read_rows(rows, [session] * len(rows))


def _flat_row(line: list[str]) -> dict[str, Any]:
    if len(line) != len(_FLAT_COLUMNS):
        return {"T": line[0] if line else "", "raw": line}
    named = dict(zip(_FLAT_COLUMNS, line, strict=True))
    start = _number(named["window_start"], int)
    if not isinstance(start, int):  # whose day it is nobody can tell
        return {"T": named["ticker"], "raw": line}
    row: dict[str, Any] = {"T": named["ticker"], "window_start": start}
    for name in ("open", "high", "low", "close", "volume"):
        row[KEYS[name]] = _number(named[name], float)
    if named["transactions"]:
        row["n"] = _number(named["transactions"], int)
    return row


def _number(text: str, kind: type) -> Any:
    """Return the number, or the text itself where it is none (its row then breaks the rule `malformed`)."""
    try:
        return kind(text) if text and set(text) <= _DIGITS else text
    except ValueError:
        return text


def _json_object(body: bytes, what: str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what}: not JSON ({error}); fetch it again") from error
    if not isinstance(answer, dict):
        raise DataError(f"{what}: expected a JSON object, found {type(answer).__name__}; fetch it again")
    return answer


def _results(answer: Mapping[str, Any], what: str) -> list[Any]:
    rows = answer.get("results")
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise DataError(f"{what}: `results` is a {type(rows).__name__}, expected a list; fetch it again")
    return rows


def _start_session(row: object, what: str) -> date:
    start = row.get("t") if isinstance(row, dict) else None
    day = None if isinstance(start, bool) or not isinstance(start, int | float) else _day_of(start, 1000)
    if day is None:
        raise DataError(f"{what}: t={reprlib.repr(start)} is no time in milliseconds; nothing was taken; fetch again")
    return day


def _day_of(start: float, parts_of_a_second: int) -> date | None:
    """Return the New York date of a time since 1970; None for a number that is no time."""
    try:
        return new_york_date(datetime.fromtimestamp(start / parts_of_a_second, UTC))
    except (ValueError, OverflowError, OSError, ConfigError):
        return None
