"""What an ordinary day costs as history and market grow: requests, bytes, seconds and memory of each of its parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from goals import Goal, at_most
from harness import PEERS, ROOT, Measured, copy_lake, job, tool
from report import table
from sizes import Bench

PARTS = ("write", "consolidate", "resample", "vacuum")
PICTURE = ROOT / "docs" / "growth.svg"
_DRAWN = PARTS[:3]
_KINDS = ("gets", "puts", "lists", "deletes")


@dataclass(frozen=True)
class Day:
    """The parts of one day on a lake of so many symbols and years."""

    symbols: int
    years: int

    def name(self, part: str) -> str:
        """Return what a part is called among all that is measured."""
        return f"a day, {self.years} y x {self.symbols:,}: {part}"


def measure(bench: Bench) -> list[Goal]:
    """Measure one day on lakes of more and more years, and of more and more symbols."""
    size = bench.size
    by_years = [Day(size.symbols, years) for years in size.growth_years]
    by_symbols = [Day(symbols, size.years) for symbols in size.growth_symbols]
    for day in dict.fromkeys(by_years + by_symbols):
        _measure(bench, day)
    bench.remarks.append(_remark(bench, by_years, by_symbols))
    if bench.draws:
        _draw(bench, by_years, by_symbols)
    short, long = by_years[0], by_years[-1]
    what = f"a day at {long.years} y of history"
    seconds = [bench.board.seconds(day.name("resample")) for day in (short, long)]
    return [
        at_most(what, f"x the requests at {short.years} y", _total(bench, long) / _total(bench, short), 1.05),
        at_most(what, f"x the seconds of a resample at {short.years} y", seconds[1] / seconds[0], 1.5),
    ]


def _measure(bench: Bench, day: Day) -> None:
    size, name = bench.size, f"growth-{day.years}-{day.symbols}"
    if is_shared := day.symbols == size.symbols and day.years in (1, size.years):
        name, lake = ("market", bench.market) if day.years == size.years else ("one-year", bench.one_year)
    else:
        lake = bench.made(name, day.symbols, day.years, pending=1)
    work, rows = bench.folder / "work", bench.folder / f"{name}.parquet"

    def written() -> Measured:
        return tool("steps.py", "session", str(copy_lake(lake, work)), str(rows))

    jobs = {day.name(part): partial(job, work, part) for part in PARTS[1:]}
    bench.board.in_turn({day.name("write"): written, **jobs})
    shutil.rmtree(work)
    if not is_shared:
        shutil.rmtree(lake)


def _remark(bench: Bench, by_years: Iterable[Day], by_symbols: Iterable[Day]) -> str:
    columns = ("years", "symbols", "part", "seconds", "GET", "PUT", "LIST", "DELETE", "MB in", "MB out", "peak MiB")
    rows = [_row(bench, day, part) for day in dict.fromkeys([*by_years, *by_symbols]) for part in PARTS]
    return "\n\n".join(
        [
            "## A day as the lake grows",
            "One new session written as `date=` files (that step alone), consolidated and resampled, and a vacuum that finds"
            " nothing past retention (whole processes); in a folder, where requests are counted as S3 counts them.",
            table(columns, rows),
        ]
    )


def _row(bench: Bench, day: Day, part: str) -> tuple[str, ...]:
    found, name = bench.board.last(day.name(part)).traffic, day.name(part)
    return (
        str(day.years),
        f"{day.symbols:,}",
        part,
        f"{bench.board.seconds(name):.2f}",
        *(f"{found[kind]:,}" for kind in _KINDS),
        *(f"{found[kind] / 1e6:,.1f}" for kind in ("bytes_in", "bytes_out")),
        f"{bench.board.peak_mib(name):,.0f}",
    )


def _requests(found: Measured) -> int:
    return sum(found.traffic[kind] for kind in _KINDS)


def _total(bench: Bench, day: Day) -> int:
    return sum(_requests(bench.board.last(day.name(part))) for part in PARTS)


def _draw(bench: Bench, by_years: list[Day], by_symbols: list[Day]) -> None:
    """Let the picture of the document be drawn, by the environment that can."""
    figures = bench.folder / "growth.json"
    series = {
        axis: {part: [_point(bench, day, part, getattr(day, axis)) for day in days] for part in _DRAWN}
        for axis, days in (("years", by_years), ("symbols", by_symbols))
    }
    fixed = {"years": bench.size.symbols, "symbols": bench.size.years}
    figures.write_text(json.dumps({"series": series, "fixed": fixed}))
    tool("draw_growth.py", str(figures), str(PICTURE), python=PEERS)


def _point(bench: Bench, day: Day, part: str, at: int) -> dict[str, float]:
    found = bench.board.last(day.name(part))
    moved = found.traffic["bytes_in"] + found.traffic["bytes_out"]
    return {
        "at": at,
        "seconds": bench.board.seconds(day.name(part)),
        "requests": _requests(found),
        "megabytes": moved / 1e6,
    }
