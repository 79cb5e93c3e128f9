"""pyarrow's own ready-made ways as a peer: its default writer for one-row files, its dataset for one symbol in silver."""

from __future__ import annotations

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from command import SYMBOL_INTERVAL, Answer, Options, make_symbol_folders, median_seconds, row_path, run, timed


def session(options: Options) -> Answer:
    """Write each row of a table as a file of its own, with the writer's defaults."""
    bars = pq.read_table(options.bars)
    names = list(zip(bars["symbol"].to_pylist(), bars["date"].to_pylist(), strict=True))
    make_symbol_folders(options, (symbol for symbol, _ in names))

    def write() -> int:
        for at, (symbol, day) in enumerate(names):
            pq.write_table(bars.slice(at, 1), row_path(options, symbol, day))
        return bars.num_rows

    return timed(write)


def symbol(options: Options) -> Answer:
    """Read one symbol's bars from silver; the list of files and their footers are kept from call to call."""
    silver = ds.dataset(options.lake / f"silver/silver_{SYMBOL_INTERVAL}d", format="parquet")
    wanted = pc.field("symbol") == options.symbol
    rows = silver.to_table(filter=wanted).num_rows
    return {"from_silver": median_seconds(lambda: silver.to_table(filter=wanted), options.repeat), "rows": rows}


if __name__ == "__main__":
    run({"session": session, "symbol": symbol})
