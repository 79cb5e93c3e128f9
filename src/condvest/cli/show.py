"""The commands that look, and the few that are neither look nor job: closures, db upgrade, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from condvest.cli.cost import show_cost
from condvest.cli.options import opened, options_of
from condvest.cli.output import Format, print_json, print_rows, print_table, shown_size
from condvest.errors import ConfigError

if TYPE_CHECKING:
    from condvest.app.status import Status

_SHOWN_GAPS = 10

FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="table (default), csv, json (one object) or parquet (bytes, to a file or a pipe)."),
]


def add_views(application: typer.Typer) -> None:
    """Add the commands to the application."""
    application.command("status")(_status)
    application.command("bars")(_bars)
    application.command("query")(_query)
    application.command("closures")(_closures)
    database = typer.Typer(help="The state database.")
    database.callback()(_database)
    database.command("upgrade")(_upgrade)
    application.add_typer(database, name="db")
    application.command("demo")(_demo)


def _status(
    context: typer.Context,
    cost: Annotated[
        bool,
        typer.Option(
            "--cost", help="Instead: what a month costs on S3, by the requests of the last 31 days and what lies there."
        ),
    ] = False,
    prices: Annotated[
        Path | None,
        typer.Option(
            "--prices", metavar="FILE", help="With --cost: another price table (JSON) than the one that comes along."
        ),
    ] = None,
) -> None:
    """Show sessions by state, the watermark, gaps, sizes, pending files and the last runs; or what a month costs."""
    from condvest.app.runs import fields
    from condvest.app.status import read_status

    if cost:
        show_cost(context, prices)
        return
    if prices is not None:
        raise ConfigError("--prices goes with --cost, which it is for; add --cost, or leave --prices out")
    with opened(context) as app:
        status = read_status(app)
    if options_of(context).as_json:
        print_json(fields(status))
    else:
        _print_status(status)


def _print_status(status: Status) -> None:
    gaps = ", ".join(str(day) for day in status.gaps[:_SHOWN_GAPS])
    more = len(status.gaps) - _SHOWN_GAPS
    known = [(name, count) for name, count in status.sessions.items() if count]
    print_rows(
        ("lake", status.lake),
        [
            ("state", status.state),
            ("last closed session", str(status.last_closed)),
            ("first session", str(status.first_session or "none")),
            ("watermark", str(status.watermark or "none")),
            ("sessions", ", ".join(f"{count} {name}" for name, count in known) or "none"),
            ("gaps", (gaps + (f" and {more} more" if more > 0 else "")) or "none"),
            ("due now", str(status.due)),
            ("symbols", str(status.symbols)),
            ("pending files", str(status.pending_files)),
        ],
    )
    typer.echo()
    print_rows(
        ("layer", "objects", "size"),
        [(name, layer.objects, shown_size(layer.size_bytes)) for name, layer in sorted(status.layers.items())],
    )
    if status.runs:
        typer.echo()
        print_rows(
            ("run", "job", "started", "outcome", "PUT", "DELETE", "requests", "error"),
            [
                (run.id, run.job, run.started_at, run.outcome, *_cost(run.traffic), (run.error or "")[:80])
                for run in status.runs
            ],
        )


def _cost(traffic: Any) -> tuple[int, int, int]:
    return traffic.puts, traffic.deletes, traffic.requests


def _bars(
    context: typer.Context,
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="As the provider writes it; case matters.")],
    interval: Annotated[
        str, typer.Option("--interval", metavar="Nd", help="1d for daily bars; any other number of sessions, as 13d.")
    ] = "1d",
    first: Annotated[str | None, typer.Option("--from", metavar="D", help="Bars from this date on.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="D", help="Bars up to this date, inclusive.")] = None,
    adjusted: Annotated[
        Literal["none", "splits", "all"],
        typer.Option("--adjusted", help="none: as traded. splits: on today's share basis. all: dividends as well."),
    ] = "none",
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="INSTANT", help="Adjust as it was known at this instant.")
    ] = None,
    anchor: Annotated[
        Literal["calendar", "listing"],
        typer.Option("--anchor", help="Count period bars by the calendar, or from the symbol's own first bar."),
    ] = "calendar",
    output: FormatOption = None,
) -> None:
    """Print the bars of one symbol, daily or of N sessions, raw or adjusted."""
    from condvest.analytics.reader import Lake
    from condvest.app.dates import read_date
    from condvest.config import read_instant

    chosen = _format(context, output)
    with opened(context) as app:
        from_date = None if first is None else read_date(first, name="--from")
        to_date = None if last is None else read_date(last, name="--to")
        known = None if as_of is None else read_instant(as_of, name="--as-of")
        app.require_lake()
        lake = Lake(app.store, calendar=app.calendar)
        table = lake.bars(
            symbol, interval=interval, first=from_date, last=to_date, adjusted=adjusted, as_of=known, anchor=anchor
        )
    print_table(table, chosen, {"symbol": symbol, "interval": interval, "adjusted": adjusted})


def _query(
    context: typer.Context,
    sql: Annotated[str, typer.Argument(metavar="SQL", help='For example "select count(*) from bronze".')],
    output: FormatOption = None,
) -> None:
    """Ask the lake in SQL (DuckDB): views bronze, silver_3d ... silver_34d, symbols, splits, dividends, and adjusted ones."""
    from condvest.analytics.reader import Lake

    chosen = _format(context, output)
    with opened(context) as app:
        app.require_lake()
        table = Lake(app.store, calendar=app.calendar, state=app.state).sql(sql)
    print_table(table, chosen, {})


def _format(context: typer.Context, output: Format | None) -> Format:
    if not options_of(context).as_json:
        return output or "table"
    if output not in (None, "json"):
        raise ConfigError(f"--format {output} does not go with --json, which prints one JSON object; leave one out")
    return "json"


def _closures(
    context: typer.Context,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add", metavar="D", help="Record that the exchange does not open on this date. May be repeated."
        ),
    ] = None,
) -> None:
    """List the closures that are recorded in this lake, on top of the calendar, or add some. None is taken back."""
    from condvest.app.commands import closures
    from condvest.app.dates import read_date

    with opened(context) as app:
        days = closures(app, add=[read_date(text, name="--add") for text in add or ()])
    if options_of(context).as_json:
        print_json({"closures": [day.isoformat() for day in days]})
    else:
        typer.echo("\n".join(str(day) for day in days) or "none recorded; the shipped calendar stands as it is")


def _database() -> None:
    """Keep the state database at this version."""


def _upgrade(context: typer.Context) -> None:
    """Bring the tables of the state database to this version; SQLite does it by itself. Idempotent."""
    from condvest.app.commands import upgrade_state

    with opened(context) as app:
        where = upgrade_state(app)
    if options_of(context).as_json:
        print_json({"state": where, "outcome": "done"})
    else:
        typer.echo(f"{where} is at this version")


def _demo(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Option(
            "--folder", metavar="DIR", help="Where the demo makes its lake; an earlier demo there is replaced."
        ),
    ] = Path("demo-lake"),
    keep: Annotated[
        bool,
        typer.Option("--keep/--no-keep", help="Keep the lake afterwards, or remove all but the page with the chart."),
    ] = True,
) -> None:
    """Show the whole job on real bars, from an empty lake to a chart, against a stand-in provider on this machine."""
    from condvest.demo.scenario import run_demo

    as_json = options_of(context).as_json
    result = run_demo(folder, keep=keep, say=lambda line: typer.echo(line, err=as_json))
    if as_json:
        print_json(result)
