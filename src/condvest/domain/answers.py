"""The provider's answers, read: bodies in, checked bars out. Pure; what asks for them lives in `sources`.

Shapes: the vendor's OpenAPI document for grouped daily and custom bars, and its flat-file documentation.
"""

from __future__ import annotations

import json
import reprlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal, Protocol

from condvest.domain.answer_rows import ParsedBars, day_of, read_rows
from condvest.domain.flat_file import parse_flat_file
from condvest.errors import DataError

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
    day = None if isinstance(start, bool) or not isinstance(start, int | float) else day_of(start, 1000)
    if day is None:
        raise DataError(f"{what}: t={reprlib.repr(start)} is no time in milliseconds; nothing was taken; fetch again")
    return day
