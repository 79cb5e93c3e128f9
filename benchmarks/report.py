"""Tables of a run, and the page that keeps them."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata

from goals import Goal
from harness import PEERS
from sizes import SIZES, Bench

_OWN = ("condvest", "pyarrow", "numpy", "duckdb", "obstore")
_THEIRS = ("duckdb", "polars", "pandas", "pyarrow")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown, its columns as wide as they have to be."""
    lines = [tuple(columns), *map(tuple, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


def results(bench: Bench, goals: Sequence[Goal]) -> str:
    """Return the page of a run."""
    size = next(name for name, size in SIZES.items() if size == bench.size)
    missed = [goal for goal in goals if not goal.is_met]
    parts = [
        "# Results of the benchmark",
        f"Written by `make bench SIZE={size} ARGS=--write` on {datetime.now(UTC):%Y-%m-%d}; what each line means is told in"
        " [docs/performance.md](../docs/performance.md). Medians of"
        f" {bench.size.rounds} runs in turn. Jobs are whole processes, floors and peers are measured without their imports;"
        " where a line says so a job is held against them by its work alone."
        " Seconds are those of one machine on one day: only ratios within a run say something.",
        f"Machine: {_machine()}. Python {platform.python_version()}; {_versions()}. Peers: {_peer_versions()}.",
        f"## Goals: {len(goals) - len(missed)} of {len(goals)} met",
        table(("job", "measured as", "goal", "reached", ""), [goal.row() for goal in goals]),
        "## All that was measured",
        table(
            ("work", "seconds", "CPU s", "peak MiB", "GET", "PUT", "LIST", "DELETE", "MB in", "MB out"),
            [_row(bench, name) for name in bench.board.runs],
        ),
        *bench.remarks,
    ]
    return "\n\n".join(parts) + "\n"


def _row(bench: Bench, name: str) -> tuple[str, ...]:
    board = bench.board
    traffic = board.last(name).traffic
    counts = [f"{traffic[kind]:,}" if kind in traffic else "" for kind in ("gets", "puts", "lists", "deletes")]
    megabytes = [f"{traffic[kind] / 1e6:,.1f}" if kind in traffic else "" for kind in ("bytes_in", "bytes_out")]
    cpu = max(run.cpu_seconds for run in board.runs[name])
    return (name, f"{board.seconds(name):.4g}", f"{cpu:.2f}", f"{board.peak_mib(name):,.0f}", *counts, *megabytes)


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.machine()}"


def _versions() -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in _OWN)


def _peer_versions() -> str:
    code = f"from importlib.metadata import version; print(', '.join(f'{{n}} {{version(n)}}' for n in {_THEIRS}))"
    return subprocess.run([PEERS, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
