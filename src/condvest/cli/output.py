"""What commands print: results as text for people or as JSON, tables of bars in four formats."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import typer

from condvest.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from condvest.app.runs import JobResult

Format: TypeAlias = Literal["table", "csv", "json", "parquet"]
#: So many lines of what is left go to a person; JSON has all.
_LINES: Final = 20
_COLUMN_GAP: Final = "  "
_UNIT: Final = 1024


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object; numbers that JSON does not know become null."""
    typer.echo(json.dumps(_json(value), ensure_ascii=False, allow_nan=False))


def print_job(result: JobResult) -> None:
    """Print what a job did; what it left goes to stderr, the first lines of it."""
    cost = f"{result.traffic.puts} PUT, {result.traffic.deletes} DELETE"
    asked = f", {result.traffic.requests} provider requests" if result.traffic.requests else ""
    typer.echo(f"{result.job}: {_said(result)}: {cost}{asked} ({result.seconds:.1f} s)")
    for step, counts in result.counts.get("steps", {}).items():
        typer.echo(f"  {step}: {_counted(counts) or 'nothing new'}")
    if line := _counted(result.counts):
        typer.echo(f"  {line}")
    if result.counts.get("dry_run"):
        for key in result.counts["removed"]:
            typer.echo(f"would remove {key}")
    for found in result.counts.get("found", ()):
        if found["level"] == "broken":
            typer.echo(f"found: {found['rule']}: {found['what']}")
    for line in result.counts.get("repaired", ()):
        typer.echo(f"repaired: {line}")
    for found in result.counts.get("findings", ()):
        if found["level"] == "notice":
            typer.echo(f"notice: {found['rule']}: {found['what']}; {found['remedy']}")
    for line in result.left[:_LINES]:
        typer.echo(f"left: {' '.join(line.split())}", err=True)
    if len(result.left) > _LINES:
        typer.echo(f"left: and {len(result.left) - _LINES} more; --json names all", err=True)


def _said(result: JobResult) -> str:
    """Return what came of a job in a few words."""
    if result.job == "verify --repair":
        repaired = len(result.counts["repaired"])
        begun = f"{repaired} repaired" if repaired else "nothing repaired" if result.left else "nothing to repair"
        return f"{begun}, {f'{len(result.left)} left' if result.left else 'every rule holds'}"
    if result.job == "verify":
        rules = {found["rule"] for found in result.counts["findings"] if found["level"] == "broken"}
        return f"{len(rules)} {'rule' if len(rules) == 1 else 'rules'} broken" if rules else "every rule holds"
    return "nothing new" if result.outcome == "nothing_new" else result.outcome


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their columns' names, aligned; numbers to the right."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [
        max(len(name), *(len(row[place]) for row in texts)) if texts else len(name)
        for place, name in enumerate(columns)
    ]
    numeric = [
        bool(rows) and all(isinstance(row[place], int | float | None) for row in rows) for place in range(len(columns))
    ]

    def line(cells: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return _COLUMN_GAP.join(parts).rstrip()

    typer.echo(line(columns))
    if texts:
        typer.echo("\n".join(line(row) for row in texts))


def print_table(table: pa.Table, output: Format, about: Mapping[str, Any]) -> None:
    """Print an Arrow table. JSON is one object: `about`, and the rows under `rows`.

    Raises:
        ConfigError: parquet onto a terminal, or a column that the format cannot hold.
    """
    if output == "json":
        twice = next((name for name in table.column_names if table.column_names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"--format json: two columns are named {twice!r}; give each a name of its own with AS")
        columns = [_listed(table, place, output) for place in range(table.num_columns)]
        rows = [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]
        print_json({**about, "columns": table.column_names, "rows": rows})
    elif output == "table":
        columns = [_listed(table, place, output) for place in range(table.num_columns)]
        print_rows(table.column_names, list(zip(*columns, strict=True)))
    elif output == "csv":
        _write_bytes(_as_csv(table))
    else:
        if sys.stdout.isatty():
            raise ConfigError(
                "--format parquet is binary and stdout is a terminal; send it to a file: ... > bars.parquet"
            )
        _write_bytes(_as_parquet(table))


def shown_size(size_bytes: int) -> str:
    """Return a size as a person reads it."""
    size, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < _UNIT:
            break
        size, unit = size / _UNIT, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _listed(table: pa.Table, place: int, output: Format) -> list[Any]:
    """Return the values of a column; as text those that Python has no type for, such as nanoseconds and the year 10000."""
    import pyarrow as pa

    column = table.column(place)
    try:
        values = list(column.to_pylist())
        if pa.types.is_decimal(column.type) and column.type.scale == 0:  # a sum of whole numbers
            return [None if value is None else int(value) for value in values]
        return values
    except (OverflowError, ValueError):
        pass
    try:
        return list(column.cast(pa.string()).to_pylist())
    except (pa.ArrowException, ValueError):
        raise ConfigError(
            f"--format {output} cannot hold column {table.column_names[place]!r} ({column.type}); cast it to text in the"
            " query, or use --format parquet"
        ) from None


def _as_csv(table: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.csv

    sink = io.BytesIO()
    try:
        pyarrow.csv.write_csv(table, sink)
    except pa.ArrowException as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"--format csv cannot hold this result ({first}); use --format json or parquet") from None
    return sink.getvalue()


def _as_parquet(table: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    sink = io.BytesIO()
    try:
        pyarrow.parquet.write_table(table, sink)
    except pa.ArrowException as error:
        first = str(error).splitlines()[0]
        raise ConfigError(
            f"--format parquet cannot hold this result ({first}); cast that column to text in the query, or use --format json"
        ) from None
    return sink.getvalue()


def _write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _json(value: object) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")  # whole: an instant may be asked for again
    return _text(value)


def _text(value: object) -> str:
    """Return a value as a person reads it: instants in UTC, floats without the digits that binary fractions add."""
    if value is None:
        return ""
    if isinstance(value, float):
        shown = f"{value:.6f}".rstrip("0").rstrip(".") if math.isfinite(value) and abs(value) < 1e15 else str(value)
        return shown if float(shown) or not value else f"{value:g}"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def _counted(counts: Mapping[str, Any]) -> str:
    """Return what there is to count in one line: lists by their length, nothing that is zero."""
    parts = []
    for name, value in counts.items():
        if not value or name == "steps":
            continue
        shown: object = "" if value is True else value
        if isinstance(value, Mapping):
            shown = " ".join(f"{key}={item}" for key, item in value.items()) if len(value) <= _LINES else len(value)
        elif isinstance(value, list):
            shown = len(value)
        parts.append(f"{name.replace('_', ' ')} {shown}".rstrip())
    return ", ".join(parts)
