"""One symbol's bars, warm: beside the decode of its file, and the best read of the same bars from silver."""

from __future__ import annotations

from functools import partial

from goals import Goal, at_least, at_most
from harness import PEERS, Measured, tool
from sizes import Bench

from subjects.resampling import sessions_file

OURS = "Lake.bars, daily"
ADJUSTED = "Lake.bars, daily, adjusted by dividends"
PERIODS = "Lake.bars, 13 sessions"
DECODE = "floor: decode that data.parquet"
_SILVER = ("duckdb", "polars", "pyarrow")
_FROM_DATA = ("duckdb", "polars")
_SYMBOL = "E"  # listed for long, pays dividends


def measure(bench: Bench) -> list[Goal]:
    """Measure calls inside one process each."""
    board, lake, sessions = bench.board, bench.market, sessions_file(bench)
    found: dict[str, Measured] = {}

    def ours(which: str, key: str) -> Measured:
        if which == "first":
            found["ours"] = tool("steps.py", "bars", str(lake), _SYMBOL)
        whole = found["ours"]
        return Measured(float(whole.said[key]), whole.cpu_seconds, whole.peak_mib, whole.said)

    def peer(name: str, key: str) -> Measured:
        given = ["--lake", str(lake), "--symbol", _SYMBOL, "--sessions", str(sessions)]
        whole = tool(f"peers/{name}_peer.py", "symbol", *given, python=PEERS)
        return Measured(float(whole.said[key]), whole.cpu_seconds, whole.peak_mib, whole.said)

    board.in_turn(
        {
            OURS: partial(ours, "first", "seconds"),
            ADJUSTED: partial(ours, "same", "adjusted_seconds"),
            PERIODS: partial(ours, "same", "period_seconds"),
            DECODE: partial(ours, "same", "decode_seconds"),
            **{f"{name}, 13 sessions from silver": partial(peer, name, "from_silver") for name in _SILVER},
            **{f"{name}, 13 sessions from data.parquet": partial(peer, name, "from_data") for name in _FROM_DATA},
        }
    )
    silver = min(board.seconds(f"{name}, 13 sessions from silver") for name in _SILVER)
    return [
        at_most("Lake.bars(symbol), warm", "x decode of the file", board.seconds(OURS) / board.seconds(DECODE), 2),
        at_least("Lake.bars(symbol, 13d), warm", "x faster than silver", silver / board.seconds(PERIODS), 50),
    ]
