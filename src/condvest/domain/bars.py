"""Daily bars: their columns, the rules that each must keep, and which of two values of one bar wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.symbols import is_valid_symbol

UTC_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")

#: The values of a bar: what the provider says. Prices in USD, raw (unadjusted); volume in shares (fractions are real).
VALUE_FIELDS: Final = (
    pa.field("open", pa.float64()),
    pa.field("high", pa.float64()),
    pa.field("low", pa.float64()),
    pa.field("close", pa.float64()),
    pa.field("volume", pa.float64()),
    pa.field("vwap", pa.float64()),
    pa.field("transactions", pa.int64()),
)
VALUE_NAMES: Final = tuple(field.name for field in VALUE_FIELDS)
PRICE_NAMES: Final = ("open", "high", "low", "close")

#: A bar as an answer holds it: `symbol`, `date` (the session, a New York date), then the values. `vwap` and
#: `transactions` are null where the provider gives none.
ANSWER_SCHEMA: Final = pa.schema([pa.field("symbol", pa.string()), pa.field("date", pa.date32()), *VALUE_FIELDS])

#: A bar as the lake holds it: `ingested_at` (UTC) is when this value was first seen.
DAILY_SCHEMA: Final = pa.schema([*ANSWER_SCHEMA, pa.field("ingested_at", UTC_MICROSECONDS)])

#: What is computed with, of one symbol's bars: the session and the values.
SERIES_NAMES: Final = ("date", *VALUE_NAMES)

#: No price and no volume is larger. Sums, products and split factors of larger ones would leave the range of floats.
MOST_VALUE: Final = 1e30
#: A thousand times the trades of a whole market's day. Sums of any length stay below 2^53, as they are added up as floats.
MOST_TRANSACTIONS: Final = 10**10

# Typed once: Arrow takes longer to find the type of a Python number than to compare a column with it.
_ZERO: Final = pa.scalar(0.0, pa.float64())
_MOST: Final = pa.scalar(MOST_VALUE, pa.float64())
_NO_COUNT: Final = pa.scalar(0, pa.int64())
_MOST_COUNT: Final = pa.scalar(MOST_TRANSACTIONS, pa.int64())
_FALSE: Final = pa.scalar(False, pa.bool_())
_TRUE: Final = pa.scalar(True, pa.bool_())


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that breaks a rule, as it goes to quarantine."""

    symbol: str
    session: date
    rule: str
    detail: str
    raw: str


def broken_rules(bars: pa.Table) -> dict[str, pa.BooleanArray]:
    """Return, per rule, which rows of a table with the `ANSWER_SCHEMA` columns break it.

    Rules: `symbol` (impossible symbol), `price` (missing, no number up to `MOST_VALUE` or not positive), `high_below_low`,
    `volume` (missing, no such number or negative), `vwap` (given, but negative or no such number) and
    `transactions` (given, but negative or above `MOST_TRANSACTIONS`).
    """
    symbols = bars["symbol"].to_pylist()
    bad_symbol = pa.array([not (symbol is not None and is_valid_symbol(symbol)) for symbol in symbols], pa.bool_())
    bad_price = pa.array([False] * len(symbols), pa.bool_())
    for name in PRICE_NAMES:
        sound = pc.and_(pc.less_equal(bars[name], _MOST), pc.greater(bars[name], _ZERO))
        bad_price = pc.or_(bad_price, pc.invert(pc.fill_null(sound, _FALSE)))
    sound_volume = pc.and_(pc.less_equal(bars["volume"], _MOST), pc.greater_equal(bars["volume"], _ZERO))
    sound_vwap = pc.and_(pc.less_equal(bars["vwap"], _MOST), pc.greater_equal(bars["vwap"], _ZERO))
    count = bars["transactions"]
    sound_count = pc.and_(pc.greater_equal(count, _NO_COUNT), pc.less_equal(count, _MOST_COUNT))
    return {
        "symbol": _flat(bad_symbol),
        "price": _flat(bad_price),
        "high_below_low": _flat(pc.fill_null(pc.less(bars["high"], bars["low"]), _FALSE)),
        "volume": _flat(pc.invert(pc.fill_null(sound_volume, _FALSE))),
        "vwap": _flat(pc.invert(pc.fill_null(sound_vwap, _TRUE))),
        "transactions": _flat(pc.invert(pc.fill_null(sound_count, _TRUE))),
    }


def split_by_rules(bars: pa.Table) -> tuple[pa.Table, dict[int, str]]:
    """Return the rows that keep every rule, sorted by date and symbol, and for each other row its index and its rule.

    Besides `broken_rules`: of two or more rows of one symbol and session that differ, all break `duplicate`; equal ones
    count once.
    """
    broken: dict[int, str] = {}
    if not _is_sound(bars):
        for rule, mask in broken_rules(bars).items():
            for index in pc.indices_nonzero(mask).to_pylist():
                broken.setdefault(index, rule)
    if not broken and _is_in_order(bars):
        return bars, broken
    names = list(zip(bars["date"].to_pylist(), bars["symbol"].to_pylist(), strict=True))
    keep = [index for index in range(len(names)) if index not in broken]
    if len(set(names)) < len(names):
        keep = _without_duplicates(bars, names, broken)
    keep.sort(key=names.__getitem__)
    return bars.take(pa.array(keep, pa.int64())).combine_chunks(), broken


def _is_in_order(bars: pa.Table) -> bool:
    """Say whether rows without nulls in both are strictly ascending by date, then symbol."""
    days, symbols = _flat(bars["date"]), _flat(bars["symbol"])
    later, same = pc.less(days[:-1], days[1:]), pc.equal(days[:-1], days[1:])
    return pc.all(pc.or_(later, pc.and_(same, pc.less(symbols[:-1], symbols[1:])))).as_py() is not False


def _is_sound(bars: pa.Table) -> bool:
    """Say whether surely no row breaks a rule of `broken_rules`; a few whole columns tell, for the usual answer.

    The sum of a row's numbers is in bounds only if each is (one that is too large for a sum is looked at row by row).
    """
    required = [bars[name] for name in (*PRICE_NAMES, "volume")]
    if any(column.null_count for column in (bars["symbol"], *required)):
        return False
    if not all(map(is_valid_symbol, bars["symbol"].to_pylist())):
        return False
    numbers = required + [bars["vwap"]] * (bars["vwap"].null_count < bars.num_rows)
    sums = [reduce(pc.add, numbers[:5]), *numbers[5:]]
    return (
        all(pc.all(pc.less_equal(column, _MOST)).as_py() is not False for column in sums)
        and all(pc.all(pc.greater(column, _ZERO)).as_py() is not False for column in required[:4])
        and all((pc.min(column).as_py() or 0) >= 0 for column in (*numbers[4:], bars["transactions"]))
        and (pc.max(bars["transactions"]).as_py() or 0) <= MOST_TRANSACTIONS
        and pc.all(pc.less_equal(bars["low"], bars["high"])).as_py() is not False
    )


def _without_duplicates(bars: pa.Table, names: list[tuple[date, str]], broken: dict[int, str]) -> list[int]:
    """Return the indices to keep; of bars with several different rows, all are added to `broken`."""
    of_name: dict[tuple[date, str], list[int]] = {}
    for index, name in enumerate(names):
        of_name.setdefault(name, []).append(index)
    keep: list[int] = []
    for indices in of_name.values():
        sound = [index for index in indices if index not in broken]
        if len(indices) == 1:
            keep += sound
            continue
        rows = {repr(bars.slice(index, 1).to_pylist()) for index in indices}
        if len(rows) == 1:
            keep += sound[:1]
        else:
            broken.update(dict.fromkeys(sound, "duplicate"))
    return keep


def same_values(left: pa.Table, right: pa.Table) -> pa.BooleanArray:
    """Compare two tables row by row over the values of a bar; two nulls are equal, a null and a value are not."""
    equal: Any = None
    for name in VALUE_NAMES:
        a, b = left[name], right[name]
        both_null = pc.and_(pc.is_null(a), pc.is_null(b))
        column = pc.or_(pc.fill_null(pc.equal(a, b), _FALSE), both_null)
        equal = column if equal is None else pc.and_(equal, column)
    return _flat(equal)


def stamp(bars: pa.Table, instant: datetime) -> pa.Table:
    """Add `ingested_at`, the same for all rows, to a table with the `ANSWER_SCHEMA` columns."""
    stamps = pa.repeat(pa.scalar(instant, UTC_MICROSECONDS), bars.num_rows)
    return bars.append_column(DAILY_SCHEMA.field("ingested_at"), stamps)


def changed_rows(known: pa.Table, answer: pa.Table, instant: datetime) -> tuple[pa.Table, int]:
    """Return the rows of a later answer for one session that are new or differ from what is known, and how many differ.

    `known` has the `DAILY_SCHEMA` columns, `answer` those of `ANSWER_SCHEMA`; symbols are unique in each. A row with
    the known values is left out: its `ingested_at` stays. A changed row gets `instant`, or one microsecond after the known
    `ingested_at` where that is later (a clock that went back or stands still must not hide a restatement).
    """
    where = pc.index_in(answer["symbol"], value_set=known["symbol"].combine_chunks())
    is_known = _flat(pc.is_valid(where))
    fresh = stamp(answer.filter(pc.invert(is_known)), instant)
    again = answer.filter(is_known)
    before = known.take(_flat(where).filter(is_known))
    differs = pc.invert(same_values(again, before))
    restated, before = again.filter(differs), before.filter(differs)
    one_later = pc.add(pc.cast(before["ingested_at"], pa.int64()), 1)
    at = pa.scalar(instant, UTC_MICROSECONDS).cast(pa.int64())
    stamps = pc.cast(pc.max_element_wise(one_later, at), UTC_MICROSECONDS)
    restated = restated.append_column(DAILY_SCHEMA.field("ingested_at"), stamps)
    return pa.concat_tables([fresh, restated]).sort_by("symbol").combine_chunks(), restated.num_rows


def overlay(known: pa.Table, changed: pa.Table) -> pa.Table:
    """Return the bars of one session after a change: `changed` replaces or joins the rows of `known`. Sorted by symbol."""
    if known.num_rows == 0 or changed.num_rows == 0:
        return changed if known.num_rows == 0 else known
    kept = known.filter(pc.invert(pc.is_in(known["symbol"], value_set=changed["symbol"].combine_chunks())))
    return pa.concat_tables([kept, changed]).sort_by("symbol").combine_chunks()


def merge_history(tables: list[pa.Table]) -> pa.Table:
    """Merge tables of one symbol's daily bars into one row a session, ascending.

    Of several rows for one session the one with the last `ingested_at` wins; should two share it, the values decide, so
    that the result does not depend on the order of the tables.
    """
    tables = [table for table in tables if table.num_rows]
    if not tables:
        return DAILY_SCHEMA.empty_table()
    if len(tables) == 1 and tables[0].num_rows == 1:  # what most days bring
        return tables[0]
    rows = pa.concat_tables(tables).combine_chunks()
    if is_history(rows):
        return rows
    order = [("date", "ascending"), ("ingested_at", "ascending"), *((name, "ascending") for name in VALUE_NAMES)]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order)).combine_chunks()
    dates = rows["date"].combine_chunks()
    last_of_date = pc.not_equal(dates[:-1], dates[1:])
    keep = pa.concat_arrays([_flat(last_of_date), pa.array([True])])
    return rows.filter(keep).combine_chunks()


def changed_history(before: pa.Table, after: pa.Table) -> pa.Table:
    """Return the rows of one symbol's history that are new or differ from an earlier version of it, ascending."""
    if before.num_rows == 0:
        return after
    where = pc.index_in(after["date"], value_set=before["date"].combine_chunks())
    known = _flat(pc.is_valid(where))
    kept, old = after.filter(known), before.take(_flat(where).filter(known))
    differs = pc.invert(pc.and_(same_values(kept, old), _flat(pc.equal(kept["ingested_at"], old["ingested_at"]))))
    parts = [after.filter(pc.invert(known)), kept.filter(differs)]
    return pa.concat_tables(parts).sort_by("date").combine_chunks()


def contained(bars: pa.Table, rows: Sequence[pa.Table]) -> list[bool]:
    """Say of one-row tables of bars which are, by content, in a symbol's bars: the same value, or a later one of that session."""
    if not rows:
        return []
    wanted = pa.concat_tables(rows)
    at = pc.index_in(wanted["date"], value_set=bars["date"].combine_chunks()).to_pylist()
    # As Python's values: for a few rows that is several times faster than a comparison of columns.
    found = iter(bars.take(pa.array([where for where in at if where is not None], pa.int64())).to_pylist())
    held = [None if where is None else next(found) for where in at]
    return [
        have is not None and (have["ingested_at"] > row["ingested_at"] or have == row)
        for have, row in zip(held, wanted.to_pylist(), strict=True)
    ]


def is_history(bars: pa.Table) -> bool:
    """Say whether bars of one symbol are strictly ascending by session: one row each."""
    dates = bars["date"].combine_chunks()
    return bars.num_rows < 2 or bool(pc.all(pc.less(dates[:-1], dates[1:])).as_py())


def _flat(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    return values
