"""What a person sees at the end of the demonstration: tables as text, as wide as the terminal."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from condvest.demo.holdings import Holding
from condvest.demo.stage import Step
from condvest.domain.actions import Split

_NARROWEST: Final = 100
_WIDEST: Final = 140
_KIB: Final = 1024


def steps_table(steps: Sequence[Step]) -> str:
    """Return what each step did and took."""
    rows = [
        (
            step.when,
            step.name if step.runs == 1 else f"{step.name} × {step.runs}",
            step.said,
            f"{step.requests:,}",
            f"{step.puts:,}",
            f"{step.deletes:,}",
            f"{step.seconds:.1f}",
        )
        for step in steps
    ]
    names = ("New York time", "condvest", "what came of it", "requests>", "PUT>", "DELETE>", "seconds>")
    return _table("What was done", names, rows)


def layers_table(layers: Sequence[Holding]) -> str:
    """Return what lies where."""
    rows = [
        (
            layer.meaning,
            layer.pattern,
            f"{layer.objects:,}",
            "" if layer.rows is None else f"{layer.rows:,}",
            shown_size(layer.size_bytes),
        )
        for layer in layers
    ]
    return _table("What lies where", ("what", "where", "objects>", "rows>", "size>"), rows)


def restatements_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the bars that came otherwise next morning, with the values that changed."""
    shown = [
        (row["symbol"], str(row["date"]), name, f"{row[f'old_{name}']:,.10g}", f"{row[f'new_{name}']:,.10g}")
        for row in rows
        for name in ("open", "high", "low", "close", "volume")
        if row[f"old_{name}"] != row[f"new_{name}"]
    ]
    return _table(
        "Bars that the provider restated over night", ("symbol", "session", "of", "evening>", "final>"), shown
    )


def split_table(symbol: str, interval_sessions: int, split: Split, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the bars around a split, as stored and adjusted: `rows` hold both, the adjusted ones with `adjusted_`."""
    names = ("open", "high", "low", "close")
    shown = [
        (
            f"{row['date']} to {row['end_date']}",
            *(f"{row[name]:.2f}" for name in names),
            f"{row['volume'] / 1e6:,.1f} M",
            *(f"{row[f'adjusted_{name}']:.2f}" for name in names),
            f"{row['adjusted_volume'] / 1e6:,.1f} M",
        )
        for row in rows
    ]
    title = (
        f"{symbol}, bars of {interval_sessions} sessions around the {split.split_to:g}:{split.split_from:g} split of"
        f" {split.execution_date}: as stored, and split-adjusted"
    )
    heads = [*names, "volume"]
    return _table(title, ("sessions", *(f"{name}>" for name in heads), *(f"adj.\n{name}>" for name in heads)), shown)


def shown_size(size_bytes: int) -> str:
    """Return a size as a person reads it."""
    if size_bytes < _KIB:
        return f"{size_bytes} B"
    kib = size_bytes / _KIB
    return f"{kib:,.1f} KiB" if kib < _KIB else f"{kib / _KIB:,.1f} MiB"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a table; a column whose name ends with `>` stands to the right."""
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        is_number = name.endswith(">")
        table.add_column(
            name.rstrip(">"),
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    width = min(max(shutil.get_terminal_size((_WIDEST, 24)).columns, _NARROWEST), _WIDEST)
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, force_terminal=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
