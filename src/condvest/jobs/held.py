"""Which bars bronze does not hold: answered from the files themselves, `date=` and `data.parquet`, never from a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import ANSWER_SCHEMA, DAILY_SCHEMA, changed_history, changed_rows, merge_history, same_values
from condvest.jobs.bronze import blocks, read_each
from condvest.storage import layout
from condvest.storage.parquet import concat
from condvest.storage.store import Store

#: Of a symbol that lacks more days than this its folder is listed, which costs what a dozen reads do: of a history that is
#: new, one `date=` file a day would be asked for that is not there.
_LIST_FROM: Final = 12


def not_held_of_session(store: Store, bars: pa.Table) -> pa.Table:
    """Return those of one session's bars (`DAILY_SCHEMA`) whose values bronze does not hold, one request a bar.

    A file that cannot be read, at a second look neither, holds nothing.
    """
    if bars.num_rows == 0:
        return bars
    session = bars["date"][0].as_py()
    keys = [layout.daily_key(symbol, session) for symbol in bars["symbol"].to_pylist()]
    rows = [file.bars for file in read_each(store, keys) if file.bars is not None]
    lacking = _unlike(concat(rows, DAILY_SCHEMA), bars)
    if lacking.num_rows == 0:
        return lacking
    symbols = lacking["symbol"].to_pylist()
    parts = ((symbol, lacking.slice(place, 1)) for place, symbol in enumerate(symbols))
    return concat([found for _, found in not_held(store, parts)], DAILY_SCHEMA)


def not_held(
    store: Store, histories: Iterable[tuple[str, pa.Table]], *, by_value: bool = False
) -> Iterator[tuple[str, pa.Table]]:
    """Yield each symbol whose bars bronze does not all hold, and those that it lacks, ascending.

    A symbol's `data.parquet` is read first, then the `date=` files of what is not in it. Memory is bounded by a block of
    symbols. Of several values of one bar the last `ingested_at` counts, as everywhere; `by_value`: a bar that bronze holds
    with the same values and an earlier `ingested_at` is held too.
    """
    lacks: Callable[[Sequence[pa.Table], pa.Table], pa.Table] = _other if by_value else _newer
    for block in blocks(histories):
        data = read_each(store, [layout.data_key(symbol) for symbol, _ in block])
        held = [[file.bars] if file.bars is not None else [] for file in data]
        lacking = [lacks(have, bars) for have, (_, bars) in zip(held, block, strict=True)]
        if not any(lack.num_rows for lack in lacking):
            continue
        # One reading for all symbols of the block: each of them may lack but a day.
        keys = _daily_keys(store, block, lacking)
        daily = read_each(store, (key for some in keys for key in some))
        for (symbol, _), have, lack, some in zip(block, held, lacking, keys, strict=True):
            rows = [next(daily).bars for _ in some]
            left = lacks([*have, *(row for row in rows if row is not None)], lack) if rows else lack
            if left.num_rows:
                yield symbol, left


def _daily_keys(store: Store, block: Sequence[tuple[str, pa.Table]], lacking: Sequence[pa.Table]) -> list[list[str]]:
    """Return, for each symbol, the `date=` files that may hold what it lacks; of many days, those that lie there."""
    wanted = [
        [layout.daily_key(symbol, day) for day in lack["date"].to_pylist()]
        for (symbol, _), lack in zip(block, lacking, strict=True)
    ]
    many = [symbol for (symbol, _), keys in zip(block, wanted, strict=True) if len(keys) > _LIST_FROM]
    there = {info.key for info in store.list_many(map(layout.symbol_prefix, many))} if many else set()
    return [[key for key in keys if key in there] if len(keys) > _LIST_FROM else keys for keys in wanted]


def _newer(held: Sequence[pa.Table], bars: pa.Table) -> pa.Table:
    """Return the bars that would change what is held."""
    dates = bars["date"].combine_chunks()
    near = [table.filter(pc.is_in(table["date"], value_set=dates)) for table in held]
    before = merge_history(near)
    return changed_history(before, merge_history([before, bars]))


def _other(held: Sequence[pa.Table], bars: pa.Table) -> pa.Table:
    """Return the bars that would change a value of what is held."""
    lacking, before = _newer(held, bars), merge_history([table for table in held if table.num_rows])
    where = pc.index_in(lacking["date"], value_set=before["date"].combine_chunks())
    is_known = pc.is_valid(where).combine_chunks()
    again = lacking.filter(is_known)
    differs = pc.invert(same_values(again, before.take(where.combine_chunks().filter(is_known))))
    return (
        pa.concat_tables([lacking.filter(pc.invert(is_known)), again.filter(differs)]).sort_by("date").combine_chunks()
    )


def _unlike(known: pa.Table, bars: pa.Table) -> pa.Table:
    """Return the bars of one session whose values are not among the known ones."""
    if known.num_rows == 0:
        return bars
    at = bars["ingested_at"][0].as_py()
    symbols = changed_rows(known, bars.select(ANSWER_SCHEMA.names), at)[0]["symbol"].combine_chunks()
    return bars.filter(pc.is_in(bars["symbol"], value_set=symbols)).combine_chunks()
