"""The rows of the provider's answers: those that keep the rules become bars, the others keep the reason why not. Pure."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import ANSWER_SCHEMA, Reject, split_by_rules
from condvest.domain.calendar import new_york_date
from condvest.errors import ConfigError, DataError

#: The values of a bar and their keys in a row; its symbol stands under `T`.
KEYS: Final = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "vwap": "vw", "transactions": "n"}
_ZEROS: Final = {kind: pa.scalar(0, pa.int32()).cast(kind) for kind in (pa.date32(), pa.float64(), pa.int64())}
#: The largest whole numbers that a column takes as they are: every one up to it is a float64, or an int64.
_MOST_WHOLE: Final = {name: 2**63 - 1 if name == "transactions" else 2**53 for name in KEYS}
_MOST_LEVELS: Final = 50


@dataclass(frozen=True)
class ParsedBars:
    """What one answer holds.

    `bars`: the rows that keep the rules, `ANSWER_SCHEMA`, sorted by date and symbol. `rejects`: the others. `total`: the
    count of rows in the answer.
    """

    bars: pa.Table
    rejects: tuple[Reject, ...]
    total: int

    @cached_property
    def digest(self) -> str:
        """16 hex digits over the values of all rows, whatever their order and the request's id.

        Two answers with the same values have the same digest.
        """
        return _digest(self.bars, self.rejects)


def read_rows(rows: list[Any], sessions: list[date]) -> ParsedBars:
    """Read rows as JSON gives them, each with its session; none is dropped silently, and none spoils another.

    DataError: a row that must be rejected is nested too deeply to be kept.
    """
    malformed: dict[int, tuple[str, str]] = {}
    if _are_plain(rows):
        sound = list(range(len(rows)))
        bars = _table(rows, sessions)
    else:
        malformed = _set_apart(rows, sessions)
        sound = [index for index in range(len(rows)) if index not in malformed]
        bars = _table([_plain(rows[index]) for index in sound], [sessions[index] for index in sound])
    rejects = [_reject(rows[index], sessions[index], *why) for index, why in malformed.items()]
    good, broken = split_by_rules(bars)
    for index, rule in broken.items():
        row = rows[sound[index]]
        rejects.append(_reject(row, sessions[sound[index]], rule, _detail(rule)))
    rejects.sort(key=lambda reject: (reject.session, reject.symbol, reject.raw))
    return ParsedBars(good, tuple(rejects), len(rows))


def _are_plain(rows: list[Any]) -> bool:
    """Say whether all rows fit the columns as they are, as the provider's do: by columns, which is quicker than row by row."""
    if not all(isinstance(row, dict) for row in rows):
        return False
    symbols = [row.get("T") for row in rows]
    if not set(map(type, symbols)) <= {str, type(None)} or not "".join(filter(None, symbols)).isascii():
        return False
    for name, key in KEYS.items():
        values = [row.get(key) for row in rows]
        kinds = set(map(type, values))
        # No bool, which Arrow would take for 0 or 1, and no fraction for a count.
        if not kinds <= ({int, type(None)} if name == "transactions" else {int, float, type(None)}):
            return False
        if int in kinds and max(abs(value) for value in values if type(value) is int) > _MOST_WHOLE[name]:
            return False
    return True


def _set_apart(rows: list[Any], sessions: list[date]) -> dict[int, tuple[str, str]]:
    """Return the rule and the reason of each row that fits no column, and of other rows for its symbol and session."""
    malformed = {index: ("malformed", problem) for index, row in enumerate(rows) if (problem := _malformed(row))}
    unclear = {(sessions[index], _symbol(rows[index])) for index in malformed} - {(day, "") for day in sessions}
    for index, row in enumerate(rows):
        if index not in malformed and (sessions[index], _symbol(row)) in unclear:
            malformed[index] = ("duplicate", _detail("duplicate"))
    return malformed


def _table(rows: list[dict[str, Any]], sessions: list[date]) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "symbol": pa.array([row.get("T") for row in rows], pa.string()),
        "date": pa.array(sessions, pa.date32()),
    }
    for name, key in KEYS.items():
        columns[name] = pa.array([row.get(key) for row in rows], ANSWER_SCHEMA.field(name).type)
    return pa.table(columns, schema=ANSWER_SCHEMA)


def _malformed(row: object) -> str | None:
    """Return why a row fits no column; a value that is absent fits, and breaks another rule where it is needed."""
    if not isinstance(row, dict):
        return f"a {type(row).__name__}, expected an object"
    if row.get("T") is not None and not _is_text(row["T"]):
        return "its symbol is no text"
    for name, key in KEYS.items():
        value = row.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{name} is {reprlib.repr(value)}, expected a number"
        if name == "transactions" and (value != value or abs(value) >= 2**63 or value != int(value)):
            return f"transactions is {reprlib.repr(value)}, expected a whole number below 2^63"
        if isinstance(value, int) and abs(value) >= 2**1023:
            return f"{name} is beyond the range of a float"
    return None


def _is_text(value: object) -> bool:
    """Say whether a value is text that UTF-8 can hold: JSON may name half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


def _symbol(row: object) -> str:
    """Return a row's symbol, empty where it has none that can be read."""
    symbol = row.get("T") if isinstance(row, dict) else None
    return symbol if isinstance(symbol, str) and _is_text(symbol) else ""


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with its numbers in the types of the columns."""
    floats = {key: float(row[key]) for name, key in KEYS.items() if name != "transactions" and row.get(key) is not None}
    return {**row, **floats, "n": None if row.get("n") is None else int(row["n"])}


def check_levels(value: object, what: str) -> None:
    """Refuse with DataError what is nested deeper than any answer of the provider.

    Where a parser gives up depends on how deep it was called: what one call could read the next one could not write.
    """
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise DataError(f"{what}: nested more than {_MOST_LEVELS} levels deep, as no answer is; fetch it again")


def _reject(row: object, session: date, rule: str, detail: str) -> Reject:
    check_levels(row, f"a row of {session}")
    raw = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return Reject(_symbol(row), session, rule, detail, raw)


def _detail(rule: str) -> str:
    return {
        "symbol": "the symbol is impossible: 1 to 32 printable characters, the first a letter or digit",
        "price": "open, high, low and close must be numbers above 0, up to 1e30",
        "high_below_low": "high must not be below low",
        "volume": "volume must be a number not below 0, up to 1e30",
        "vwap": "vwap, where given, must be a number not below 0, up to 1e30",
        "transactions": "transactions, where given, must be from 0 to 10^10",
        "duplicate": "the answer holds two different rows for this symbol",
    }[rule]


def _digest(bars: pa.Table, rejects: Sequence[Reject]) -> str:
    digest = hashlib.sha256()
    digest.update("\n".join(bars["symbol"].to_pylist()).encode())
    for name in bars.column_names[1:]:
        for chunk in bars[name].chunks:
            digest.update(b"|" + name.encode() + b"|")
            if chunk.null_count:
                digest.update(_bytes(pc.cast(pc.is_null(chunk), pa.uint8())))
                chunk = pc.fill_null(chunk, _ZEROS[chunk.type])
            digest.update(_bytes(chunk))
    for reject in rejects:
        digest.update(f"\n{reject.session}|{reject.symbol}|{reject.raw}".encode())
    return digest.hexdigest()[:16]


def _bytes(values: pa.Array) -> bytes:
    width = values.type.bit_width // 8
    buffer = values.buffers()[1]
    return bytes(memoryview(buffer)[values.offset * width : (values.offset + len(values)) * width])


def day_of(start: float, parts_of_a_second: int) -> date | None:
    """Return the New York date of a time since 1970, in parts of a second; None for a number that is no time."""
    try:
        return new_york_date(datetime.fromtimestamp(start / parts_of_a_second, UTC))
    except (ValueError, OverflowError, OSError, ConfigError):
        return None
