"""What every peer needs: its command line, the files of a lake, the clock, and one JSON object as the answer.

    PYTHON benchmarks/peers/X_peer.py COMMAND --lake FOLDER --out FOLDER [--sessions FILE] [--symbol S] [--bars FILE]

A peer is another tool that does a job of condvest as well as that tool can. It runs in `.venv-peers` (`make peers`) and does
not import condvest. This module imports the standard library alone, so that a peer's memory is that of its tool.

| command | work | answer |
|---|---|---|
| `resample` | all `data.parquet` to period bars, under `OUT/silver_Nd/year=Y/month=M/` | `seconds`, `rows` written |
| `consolidate` | `date=` files merged into `data.parquet`, under OUT with the lake's keys | `seconds`, `rows` written |
| `session` | a table of bars in memory to one-row files, `OUT/symbol=X/date=D.parquet` | `seconds`, `rows` written |
| `symbol` | one symbol's period bars of 13 sessions, again and again | `from_data`, `from_silver`: median seconds; `rows` |

Seconds are wall time of the work, without imports. Symbols must need no encoding in a key: those of a generated market do not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

#: The lengths of period bars, in sessions.
INTERVALS = (3, 5, 8, 13, 21, 34)
#: The length whose bars of one symbol are read.
SYMBOL_INTERVAL = 13
#: As many as condvest's own jobs use.
THREADS = 2
BRONZE = "bronze/raw_ohlcv"

Answer = Mapping[str, float]

_NEEDED = {
    "resample": ("lake", "out", "sessions"),
    "consolidate": ("lake", "out"),
    "session": ("bars", "out"),
    "symbol": ("lake", "sessions", "symbol"),
}


@dataclass(frozen=True)
class Options:
    """The options of a command; those that it does not need may be None, whatever their type says."""

    lake: Path
    out: Path
    sessions: Path  # parquet with date (date32) and ordinal (int32): the calendar
    bars: Path  # parquet with daily bars, one row a symbol
    symbol: str
    repeat: int

    @property
    def histories(self) -> str:
        """Return the pattern of all consolidated files."""
        return f"{self.lake}/{BRONZE}/symbol=*/data.parquet"

    @property
    def history(self) -> str:
        """Return the consolidated file of the symbol."""
        return f"{self.lake}/{BRONZE}/symbol={self.symbol}/data.parquet"

    @property
    def silver(self) -> str:
        """Return the pattern of all month files of condvest's period bars that `symbol` reads."""
        name = f"{SYMBOL_INTERVAL}d"
        return f"{self.lake}/silver/silver_{name}/year=*/month=*/data_{name}_*.parquet"


@dataclass(frozen=True)
class Pending:
    """A symbol with `date=` files beside its `data.parquet`."""

    symbol: str
    data: str
    dated: list[str]
    target: str


def run(commands: Mapping[str, Callable[[Options], Answer]]) -> None:
    """Do what the command line says and print the answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=commands)
    for name in ("lake", "out", "sessions", "bars"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--symbol")
    parser.add_argument("--repeat", type=int, default=50)
    given: dict[str, Any] = vars(parser.parse_args())
    command = given.pop("command")
    for name in _NEEDED[command]:
        if given[name] is None:
            parser.error(f"{command} needs --{name}")
    if "out" in _NEEDED[command]:
        given["out"].mkdir(parents=True, exist_ok=True)
        if any(given["out"].iterdir()):
            parser.error(f"--out {given['out']} is not empty; remove what is in it, or name another folder")
    print(json.dumps(commands[command](Options(**given))))


def timed(work: Callable[[], int]) -> dict[str, float]:
    """Do the work, which returns how many rows it wrote; return `seconds` and `rows`."""
    begin = time.perf_counter()
    rows = work()
    return {"seconds": time.perf_counter() - begin, "rows": rows}


def compared(options: Options, from_data: Callable[[], int], from_silver: Callable[[], int]) -> Answer:
    """Return the median seconds of two ways to one symbol's bars, both warm; each returns how many it found."""
    if (rows := from_data()) != from_silver():
        raise SystemExit(
            f"{options.symbol}: {rows} bars from its data.parquet, {from_silver()} in silver: build it anew"
        )
    return {
        "from_data": median_seconds(from_data, options.repeat),
        "from_silver": median_seconds(from_silver, options.repeat),
        "rows": rows,
    }


def median_seconds(work: Callable[[], object], repeat: int) -> float:
    """Return the median seconds of a call of work."""
    return statistics.median(_seconds(work) for _ in range(repeat))


def pending(options: Options) -> list[Pending]:
    """Return the symbols that have something to merge, and make the folders of their new files."""
    found = []
    with os.scandir(options.lake / BRONZE) as folders:
        for folder in sorted(folders, key=lambda entry: entry.name):
            dated = sorted(file.path for file in os.scandir(folder) if file.name.startswith("date="))
            if dated:
                target = options.out / BRONZE / folder.name
                target.mkdir(parents=True)
                symbol = unquote(folder.name.removeprefix("symbol="))  # AUX is no name of a folder everywhere
                found.append(Pending(symbol, f"{folder.path}/data.parquet", dated, f"{target}/data.parquet"))
    return found


def make_symbol_folders(options: Options, symbols: Iterable[str]) -> None:
    """Make the folders of one-row files. In a lake they are there, so nobody's seconds count them."""
    for symbol in symbols:
        (options.out / f"symbol={symbol}").mkdir()


def row_path(options: Options, symbol: str, session: object) -> str:
    """Return where the bar of one symbol and session goes; a session writes itself as YYYY-MM-DD."""
    return f"{options.out}/symbol={symbol}/date={session}.parquet"


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
