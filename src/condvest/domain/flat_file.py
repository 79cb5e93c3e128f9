"""The provider's flat files: a CSV of the whole market's daily bars of one session, read into checked bars. Pure.

Shape: the provider's flat-file documentation (day aggregates of US stocks).
"""

from __future__ import annotations

import csv
import io
from datetime import date
from functools import reduce
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.answer_rows import KEYS, ParsedBars, day_of, read_rows
from condvest.domain.bars import ANSWER_SCHEMA, split_by_rules
from condvest.errors import DataError

_COLUMNS: Final = ("ticker", "volume", "open", "close", "high", "low", "window_start", "transactions")
_NUMBERS: Final = ("open", "high", "low", "close", "volume")
_HEADER: Final = (",".join(_COLUMNS) + "\n").encode()
_TYPES: Final = {
    "ticker": pa.string(),
    **dict.fromkeys(_NUMBERS, pa.float64()),
    **dict.fromkeys(("window_start", "transactions"), pa.int64()),
}
#: Spellings that a float of Python or C would take but that are no number of the provider's.
_DIGITS: Final = frozenset("0123456789+-.eE")
_LONGEST: Final = 1000  # bytes of a line; usual are 100
#: What no usual file holds, since no symbol and no number does.
_NOT_PLAIN: Final = (b'"', b" ", b"\t", b"\r", b"\0", b"\f", b"\v", b"0x", b"0X")


def parse_flat_file(body: bytes, session: date) -> ParsedBars:
    """Read a day-aggregates flat file (CSV, unadjusted). `window_start` is in NANOseconds UTC.

    A file whose rows are of another session is refused as a whole (DataError), as is one with other columns.
    """
    return _read_columns(body, session) or read_lines(body, session)


def _read_columns(body: bytes, session: date) -> ParsedBars | None:
    """Read the usual file: column by column, every row sound. None for any other, which is then looked at line by line.

    What Arrow would take for a number and the lines' reader would not (spaces, quotes, hexadecimal digits, no digits at all)
    must not be anywhere in the file.
    """
    from pyarrow import csv as arrow_csv  # what reads no flat file does not wait for it

    if (
        not body.startswith(_HEADER)
        or any(sign in body for sign in _NOT_PLAIN)
        or max(map(len, body.split(b"\n"))) > _LONGEST
    ):
        return None
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(body),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(body) + 1),
            arrow_csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(column_types=_TYPES, null_values=[""], strings_can_be_null=False),
        )
    except pa.ArrowException:
        return None
    numbers = [table[name] for name in _NUMBERS]
    if any(column.null_count for column in (*numbers, table["window_start"])) or not table.num_rows:
        return None
    # Of the sums of rows, one is not finite where any number is not.
    if not pc.all(pc.is_finite(reduce(pc.add, numbers))).as_py():
        return None
    if any(day_of(start, 10**9) != session for start in pc.unique(table["window_start"]).to_pylist()):
        return None
    columns = {
        "symbol": table["ticker"],
        "date": pa.repeat(pa.scalar(session, pa.date32()), table.num_rows),
        **{name: table[name] for name in _NUMBERS},
        "vwap": pa.nulls(table.num_rows, pa.float64()),
        "transactions": table["transactions"],
    }
    bars, broken = split_by_rules(pa.table(columns).select(ANSWER_SCHEMA.names).cast(ANSWER_SCHEMA))
    return None if broken else ParsedBars(bars, (), table.num_rows)


def read_lines(body: bytes, session: date) -> ParsedBars:
    """Read any file, so that each line that breaks a rule is kept with the reason why."""
    try:
        # Strict: else a quote that is never closed takes all later rows into one.
        lines = list(csv.reader(io.StringIO(body.decode("utf-8")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"flat file of {session}: not CSV in UTF-8 ({error}); fetch it again") from error
    if not lines or tuple(lines[0]) != _COLUMNS:
        found = ",".join(lines[0]) if lines else "nothing"
        raise DataError(f"flat file of {session}: columns are {found}, expected {','.join(_COLUMNS)}")
    rows = [_flat_row(line) for line in lines[1:]]
    for row in rows:
        start = row.get("window_start")
        if isinstance(start, int) and day_of(start, 10**9) != session:
            raise DataError(f"flat file of {session}: window_start {start} is another day's; fetch it again")
    return read_rows(rows, [session] * len(rows))


def _flat_row(line: list[str]) -> dict[str, Any]:
    if len(line) != len(_COLUMNS):
        return {"T": line[0] if line else "", "raw": line}
    named = dict(zip(_COLUMNS, line, strict=True))
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
