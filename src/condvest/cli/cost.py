"""What a month costs, as tables for a person and as JSON: `condvest status --cost`."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from condvest.cli.options import opened, options_of
from condvest.cli.output import print_json, shown_size

if TYPE_CHECKING:
    from condvest.app.cost import LakeCost
    from condvest.domain.cost import JobCost, Prices

_NARROWEST: Final = 110
_WIDEST: Final = 140
_SMALLEST: Final = 0.0001  # a smaller amount is shown as less than this
_KINDS: Final = ("GET>", "PUT>", "LIST>", "DELETE>", "provider>", "read>", "written>")
_NOT_COUNTED: Final = (
    "Not counted, as they leave no run in this database: bars, query, status; on AWS all parts but record-session"
    " (docs/aws.md)."
)
_NOT_PRICED: Final = (
    "Not priced: Lambda, Batch, database and other fixed parts, older versions of objects: docs/aws.md, `make price`."
)


def show_cost(context: typer.Context, file: Path | None) -> None:
    """Print what the lake costs a month, by the shipped price table or the one in `file`; ConfigError when that is none."""
    from condvest.app.cost import load_prices, read_cost
    from condvest.app.runs import fields

    prices, _ = load_prices(file)
    with opened(context) as app:
        cost = read_cost(app, prices)
    if options_of(context).as_json:
        print_json(fields(cost))
        return
    typer.echo(_runs_table(cost))
    typer.echo(_storage_table(cost))
    typer.echo("\n".join(_remarks(cost)))


def _runs_table(cost: LakeCost) -> str:
    """Return what each job asked in the last 31 days, and its price."""
    currency = cost.prices.currency
    columns = ("job", "runs>", *_KINDS, f"{currency}>", f"{currency} a month>")
    rows = [_job_row(job, found) for job, found in cost.jobs.items()]
    title = f"Runs of the last 31 days, since {cost.since:%Y-%m-%d}"
    return _table(title, columns, [*rows, _job_row("all", cost.runs)])


def _job_row(job: str, found: JobCost) -> tuple[str, ...]:
    asked = found.traffic
    counts = (asked.gets, asked.puts, asked.lists, asked.deletes, asked.requests)
    return (
        job,
        f"{found.runs:,}",
        *(f"{count:,}" for count in counts),
        shown_size(asked.bytes_in),
        shown_size(asked.bytes_out),
        _amount(found.total),
        _amount(found.month),
    )


def _storage_table(cost: LakeCost) -> str:
    """Return what lies in the lake now, and the price of that."""
    rows = [
        (name, f"{layer.objects:,}", shown_size(layer.size_bytes), _amount(layer.month))
        for name, layer in [*cost.layers.items(), ("all", cost.storage)]
    ]
    return _table("What lies in the lake", ("layer", "objects>", "size>", f"{cost.prices.currency} a month>"), rows)


def _remarks(cost: LakeCost) -> Iterator[str]:
    """Yield the month's price, and what has to be known of it."""
    currency = cost.prices.currency
    storage = f"storage {_amount(cost.storage.month)}"
    if cost.month is not None:
        runs = f"requests {_amount(cost.runs.month)}"
        yield f"A month: {_amount(cost.month)} {currency}, {runs} and {storage}."
    else:
        yield f"A month: {currency} {storage}; of the requests too little is on record to say."
    yield _scaled(cost)
    if cost.unfinished:
        runs = "1 run of these days has" if cost.unfinished == 1 else f"{cost.unfinished} runs of these days have"
        yield f"{runs} no end on record (under way, or killed): what was asked is not known."
    if not cost.on_aws:
        yield "This lake is not on AWS, which takes nothing for it: on S3 the same requests and bytes would cost this."
    yield _priced_by(cost.prices)
    yield _NOT_COUNTED
    yield _NOT_PRICED


def _scaled(cost: LakeCost) -> str:
    """Say how the month follows from the runs, or why it does not."""
    from condvest.domain.cost import LEAST_DAYS, MONTH_DAYS, WINDOW

    if cost.first_run is None:
        last = f"; the last one on record began {cost.last_run:%Y-%m-%d}" if cost.last_run is not None else ""
        return f"No run that has ended began in the last 31 days{last}: there is nothing to price a month by."
    days = "1 day" if cost.recorded_days == 1 else f"{cost.recorded_days} days"
    span = f"Runs are on record for {days} of the last {WINDOW.days}"
    if cost.factor is None:
        return f"{span}; a month is told from {LEAST_DAYS} days on: what stands above is the price of the runs so far."
    return (
        f"{span}: for a month of {MONTH_DAYS} days their price is taken {cost.factor:.3f} times, also that of what was done once,"
        " such as a backfill."
    )


def _priced_by(prices: Prices) -> str:
    by = f"Prices of {prices.region}, {prices.date}, in {prices.currency}: {prices.source}."
    if prices.s3_delete_per_1000 or prices.s3_transfer_out_gb:
        return by
    return f"{by} DELETE and bytes to and from machines of that region are free; bytes to elsewhere are not, and are not in it."


def _amount(amount: float | None) -> str:
    if amount is None:
        return "not known"
    return f"<{_SMALLEST}" if 0 < amount < _SMALLEST else f"{amount:,.4f}"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a table, the last row as its sum; a column whose name ends with `>` stands to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        is_number = name.endswith(">")
        table.add_column(Text(name.rstrip(">")), justify="right" if is_number else "left", no_wrap=is_number)
    for number, row in enumerate(rows, start=2):
        table.add_row(*(Text(cell) for cell in row), end_section=number == len(rows))
    width = min(max(shutil.get_terminal_size((_WIDEST, 24)).columns, _NARROWEST), _WIDEST)
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, force_terminal=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
