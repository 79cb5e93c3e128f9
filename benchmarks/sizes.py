"""How large a benchmark is, and the lakes that its subjects share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harness import Board, copy_lake, job, tool


@dataclass(frozen=True)
class Size:
    """Counts of symbols, years and rounds; `tenth`: the symbols of the lake on which the slowest peers are measured."""

    symbols: int
    years: int
    rounds: int
    tenth_step: int
    session_symbols: int
    backfill_symbols: int
    backfill_years: int
    larger: int
    growth_years: tuple[int, ...]
    growth_symbols: tuple[int, ...]


SIZES = {
    "full": Size(5_400, 20, 3, 10, 10_000, 10_000, 20, 4, (1, 5, 20), (1_000, 5_400, 12_000)),
    "small": Size(300, 20, 1, 10, 1_000, 200, 1, 2, (1, 20), (100, 300)),
}


@dataclass
class Bench:
    """One run: its size, where it works, and all that was measured so far. `draws`: the pictures of docs/ are drawn anew."""

    size: Size
    folder: Path
    board: Board
    remarks: list[str] = field(default_factory=list)
    draws: bool = False

    @cached_property
    def market(self) -> Path:
        """The lake of the whole market up to the session before the last: consolidated and resampled."""
        return self.made("market", self.size.symbols, self.size.years, pending=1)

    @cached_property
    def one_year(self) -> Path:
        """As many symbols as `market` has, with one year of history, likewise."""
        return self.made("one-year", self.size.symbols, 1, pending=1)

    @cached_property
    def tenth(self) -> Path:
        """Each tenth symbol of `market`, likewise."""
        lake = self.folder / "tenth"
        tool("lakes.py", "part", str(self.market), str(lake), "--step", str(self.size.tenth_step))
        return _settled(lake)

    def made(self, name: str, symbols: int, years: int, *, pending: int) -> Path:
        """Make a lake; the bars of its last `pending` sessions lie in a file beside it, see `with_pending`."""
        lake, rows = self.folder / name, self.folder / f"{name}.parquet"
        counts = ["--symbols", str(symbols), "--years", str(years), "--pending", str(pending)]
        made = tool("lakes.py", "market", str(lake), *counts, "--rows", str(rows))
        print(f"  {name}: {symbols:,} symbols, {made.said['rows']:,} daily bars", flush=True)
        return _settled(lake)

    def with_pending(self, lake: Path, rows: str, to: str) -> Path:
        """Return a copy of a lake with the sessions of a file of `made` as `date=` files."""
        copied = copy_lake(lake, self.folder / to)
        tool("lakes.py", "pending", str(copied), "--rows", str(self.folder / f"{rows}.parquet"))
        return copied


def _settled(lake: Path) -> Path:
    """Let the manifest, the recent bars, silver and the state be what an ordinary day finds."""
    job(lake, "consolidate")
    job(lake, "resample")
    return lake
