"""One session of 10,000 symbols written as `date=` files, beside pyarrow's default writer and other tools."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from goals import Goal, at_most
from harness import PEERS, Measured, tool
from sizes import Bench

from subjects.resampling import fresh

OURS = "write_bars, one session"
PYARROW = "pyarrow's default writer, a row a file"
_OTHERS = ("polars", "duckdb", "pandas")


def measure(bench: Bench) -> list[Goal]:
    """Measure in a folder in memory."""
    file = session_file(bench)
    bench.board.in_turn(
        {
            PYARROW: partial(_peer, bench, "pyarrow", file),
            OURS: lambda: tool("steps.py", "session", str(fresh(bench, "session")), str(file)),
        }
    )
    bench.board.in_turn({f"{name}, a row a file": partial(_peer, bench, name, file) for name in _OTHERS}, rounds=1)
    ratio = bench.board.seconds(OURS) / bench.board.seconds(PYARROW)
    return [at_most(f"one session, {bench.size.session_symbols:,} symbols, folder", "x pyarrow's writer", ratio, 0.75)]


def session_file(bench: Bench) -> Path:
    """Return a file with one session's bars."""
    path = bench.folder / "session.parquet"
    if not path.exists():
        tool("lakes.py", "session", str(path), "--symbols", str(bench.size.session_symbols))
    return path


def _peer(bench: Bench, name: str, file: Path) -> Measured:
    out = fresh(bench, "session")
    return tool(f"peers/{name}_peer.py", "session", "--bars", str(file), "--out", str(out), python=PEERS)
