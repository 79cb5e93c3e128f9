"""The provider's answers, read: bodies in, checked bars out. Pure; what asks for them lives in `sources`.

Shapes: the vendor's OpenAPI document for grouped daily and custom bars, and its flat-file documentation.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import ANSWER_SCHEMA, Reject, split_by_rules
from condvest.domain.calendar import new_york_date
from condvest.errors import DataError

_KEYS: Final = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "vwap": "vw", "transactions": "n"}
_REQUIRED: Final = ("open", "high", "low", "close", "volume")
_ZEROS: Final = {kind: pa.scalar(0, pa.int32()).cast(kind) for kind in (pa.date32(), pa.float64(), pa.int64())}
_FLAT_COLUMNS: Final = ("ticker", "volume", "open", "close", "high", "low", "window_start", "transactions")
#: Spellings that a float of Python or C would take but that are no number of the provider's.
_DIGITS: Final = frozenset("0123456789+-.eE")


@dataclass(frozen=True, slots=True)
class ParsedBars:
    """What one answer holds.

    `bars`: the rows that keep the rules, `ANSWER_SCHEMA`, sorted by symbol and date. `rejects`: the others. `total`: the
    count of rows in the answer. `digest`: 16 hex digits over the values of all rows, whatever their order and the
    request's id, so two answers with the same values have the same digest.
    """

    bars: pa.Table
    rejects: tuple[Reject, ...]
    total: int
    digest: str


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
    return _parsed(rows, [session] * len(rows), "T")


def parse_range(body: bytes, symbol: str) -> ParsedBars:
    """Read a custom-bars answer of one symbol: `{"ticker": ..., "results": [...]}`, all pages in one.

    The session is the New York date of `t` (milliseconds UTC), which there is the window's START. DataError: no JSON
    object, another ticker, prices adjusted, or a `t` that is no time.
    """
    what = f"range answer for {symbol}"
    answer = _json_object(body, what)
    if answer.get("ticker", symbol) != symbol:
        raise DataError(f"{what}: it is for {answer['ticker']!r}, not for {symbol!r}; nothing was taken; fetch again")
    if answer.get("adjusted") is True:
        raise DataError(f"{what}: prices are adjusted, the lake holds raw ones; ask with adjusted=false")
    rows = [{**row, "T": symbol} if isinstance(row, dict) else row for row in _results(answer, what)]
    return _parsed(rows, [_start_session(row, what) for row in rows], "T")


def parse_flat_file(body: bytes, session: date) -> ParsedBars:
    """Read a day-aggregates flat file (CSV, unadjusted). `window_start` is in NANOseconds UTC.

    A file whose rows are of another session is refused as a whole (DataError), as is one with other columns.
    """
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"flat file of {session}: not CSV in UTF-8 ({error}); fetch it again") from error
    if not lines or tuple(lines[0]) != _FLAT_COLUMNS:
        found = ",".join(lines[0]) if lines else "nothing"
        raise DataError(f"flat file of {session}: columns are {found}, expected {','.join(_FLAT_COLUMNS)}")
    rows = [_flat_row(line) for line in lines[1:]]
    for row in rows:
        start = row.get("window_start")
        if isinstance(start, int) and new_york_date(datetime.fromtimestamp(start // 10**9, UTC)) != session:
            raise DataError(f"flat file of {session}: window_start {start} is another day's; fetch it again")
    return _parsed(rows, [session] * len(rows), "T")


def _flat_row(line: list[str]) -> dict[str, Any]:
    if len(line) != len(_FLAT_COLUMNS):
        return {"T": line[0] if line else "", "raw": line}
    named = dict(zip(_FLAT_COLUMNS, line, strict=True))
    row: dict[str, Any] = {"T": named["ticker"], "window_start": _number(named["window_start"], int)}
    for name in ("open", "high", "low", "close", "volume"):
        row[_KEYS[name]] = _number(named[name], float)
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
    try:
        if isinstance(start, bool) or not isinstance(start, int | float):
            raise ValueError(start)
        return new_york_date(datetime.fromtimestamp(start / 1000, UTC))
    except (ValueError, OverflowError, OSError) as error:
        raise DataError(f"{what}: t={start!r} is no time in milliseconds; nothing was taken; fetch again") from error


def _parsed(rows: list[Any], sessions: list[date], symbol_key: str) -> ParsedBars:
    malformed: dict[int, str] = {}
    try:
        bars = _table(rows, sessions, symbol_key)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, AttributeError, TypeError):
        malformed = {index: problem for index, row in enumerate(rows) if (problem := _malformed(row, symbol_key))}
        sound = [index for index in range(len(rows)) if index not in malformed]
        bars = _table([_plain(rows[index]) for index in sound], [sessions[index] for index in sound], symbol_key)
    else:
        sound = list(range(len(rows)))
    rejects = [_reject(rows[index], sessions[index], "malformed", why) for index, why in malformed.items()]
    good, broken = _checked(bars)
    for index, rule in broken.items():
        row = rows[sound[index]]
        rejects.append(_reject(row, sessions[sound[index]], rule, _detail(rule)))
    rejects.sort(key=lambda reject: (reject.session, reject.symbol, reject.raw))
    return ParsedBars(good, tuple(rejects), len(rows), _digest(good, rejects))


def _checked(bars: pa.Table) -> tuple[pa.Table, dict[int, str]]:
    """Apply the rules session by session (a symbol may stand once in each)."""
    if bars.num_rows == 0 or pc.count_distinct(bars["date"]).as_py() == 1:
        return split_by_rules(bars)
    indexed = bars.append_column("index", pa.array(range(bars.num_rows), pa.int64()))
    parts, broken = [], {}
    for day in pc.unique(bars["date"]).sort():
        part = indexed.filter(pc.equal(indexed["date"], day))
        index = part["index"].to_pylist()
        good, bad = split_by_rules(part.drop_columns("index"))
        parts.append(good)
        broken.update({index[position]: rule for position, rule in bad.items()})
    return pa.concat_tables(parts).combine_chunks(), broken


def _table(rows: list[dict[str, Any]], sessions: list[date], symbol_key: str) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "symbol": pa.array([row.get(symbol_key) for row in rows], pa.string()),
        "date": pa.array(sessions, pa.date32()),
    }
    for name, key in _KEYS.items():
        columns[name] = _column([row.get(key) for row in rows], ANSWER_SCHEMA.field(name).type)
    return pa.table(columns, schema=ANSWER_SCHEMA)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    # Told the type, Arrow takes true for 1 and cuts fractions off; left to find it, it does not.
    found = pa.array(values)
    if not (pa.types.is_floating(found.type) or pa.types.is_integer(found.type) or pa.types.is_null(found.type)):
        raise pa.ArrowTypeError(f"expected numbers, found {found.type}")
    return found.cast(kind)


def _malformed(row: object, symbol_key: str) -> str | None:
    if not isinstance(row, dict):
        return f"a {type(row).__name__}, expected an object"
    if not isinstance(row.get(symbol_key), str):
        return "its symbol is no text"
    for name, key in _KEYS.items():
        value = row.get(key)
        if value is None and name not in _REQUIRED:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{name} is {value!r}, expected a number"
        if name == "transactions" and (value != value or abs(value) >= 2**63 or value != int(value)):
            return f"transactions is {value!r}, expected a whole number below 2^63"
        if isinstance(value, int) and abs(value) >= 2**1023:
            return f"{name} is beyond the range of a float"
    return None


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with its numbers in the types of the columns."""
    floats = {
        key: float(row[key]) for name, key in _KEYS.items() if name != "transactions" and row.get(key) is not None
    }
    return {**row, **floats, "n": None if row.get("n") is None else int(row["n"])}


def _reject(row: object, session: date, rule: str, detail: str) -> Reject:
    symbol = row.get("T") if isinstance(row, dict) else None
    raw = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return Reject(symbol if isinstance(symbol, str) else "", session, rule, detail, raw)


def _detail(rule: str) -> str:
    return {
        "symbol": "the symbol is impossible: 1 to 32 printable characters, the first a letter or digit",
        "price": "open, high, low and close must be finite and above 0",
        "high_below_low": "high must not be below low",
        "volume": "volume must be finite and not below 0",
        "vwap": "vwap, where given, must be finite and not below 0",
        "transactions": "transactions, where given, must not be below 0",
        "duplicate": "the answer holds two different rows for this symbol",
    }[rule]


def _digest(bars: pa.Table, rejects: Sequence[Reject]) -> str:
    digest = hashlib.sha256()
    digest.update("\n".join(bars["symbol"].to_pylist()).encode())
    for name in bars.column_names[1:]:
        for chunk in bars[name].chunks:
            digest.update(b"|" + name.encode() + b"|")
            nulls = pc.is_null(chunk)
            digest.update(_bytes(pc.fill_null(chunk, _ZEROS[chunk.type]) if chunk.null_count else chunk))
            digest.update(_bytes(pc.cast(nulls, pa.uint8())))
    for reject in rejects:
        digest.update(f"\n{reject.session}|{reject.symbol}|{reject.raw}".encode())
    return digest.hexdigest()[:16]


def _bytes(values: pa.Array) -> bytes:
    width = values.type.bit_width // 8
    buffer = values.buffers()[1]
    return bytes(memoryview(buffer)[values.offset * width : (values.offset + len(values)) * width])
