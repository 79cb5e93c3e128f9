"""The commands that change the lake, and `verify`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from condvest.cli.options import opened, options_of
from condvest.cli.output import print_job, print_json
from condvest.cli.progress import shown_progress

if TYPE_CHECKING:
    from condvest.app import App
    from condvest.app.runs import JobResult
    from condvest.jobs.progress import Progress


_MOST_DIGITS = 9


def whole_number(value: str | int) -> int:
    """Return the whole number in a text, or a default as it is; typer's own message would not repeat the text."""
    text = str(value)
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        raise typer.BadParameter(f"{text!r} is no whole number from 0 to 999999999")
    return int(text)


Source = Annotated[
    Literal["rest", "flat-files"],
    typer.Option(
        "--source", help="Where bars come from: the provider's REST API, or its flat files (keys of their own)."
    ),
]
AcceptShort = Annotated[
    bool,
    typer.Option(
        "--accept-short", help="Take answers with fewer than half of the usual rows, which else stay pending."
    ),
]
Symbols = Annotated[
    str | None, typer.Option("--symbols", metavar="A,B", help="Only these symbols, case as the provider writes it.")
]
Retention = Annotated[
    int,
    typer.Option(
        "--retention-days",
        metavar="N",
        parser=whole_number,
        help="Keep date= files of the last N days, at least 7; only `vacuum --force` takes fewer.",
    ),
]
Details = Annotated[
    int,
    typer.Option(
        "--details",
        metavar="N",
        parser=whole_number,
        help="Refresh the details of at most N tickers, one request each.",
    ),
]
ForceFull = Annotated[
    bool, typer.Option("--force-full", help="Trust no manifest or checkpoint: read and build all anew.")
]


def add_jobs(application: typer.Typer) -> None:
    """Add the commands to the application, in the order in which a day uses them."""
    fetch = typer.Typer(help="Fetch bars or metadata from the provider.")
    fetch.command("bars")(_fetch_bars)
    fetch.command("meta")(_fetch_meta)
    application.add_typer(fetch, name="fetch")
    application.command("consolidate")(_consolidate)
    application.command("vacuum")(_vacuum)
    application.command("resample")(_resample)
    application.command("run")(_run)
    application.command("verify")(_verify)
    application.command("replay")(_replay)


def _do(context: typer.Context, job: Callable[[App, Progress], JobResult]) -> None:
    """Run a job on the lake of this call, print what came of it, and end with its exit code."""
    with opened(context) as app, shown_progress() as progress:
        result = job(app, progress)
    if options_of(context).as_json:
        print_json(result.as_json())
    else:
        print_job(result)
    raise typer.Exit(result.exit_code)


def _fetch_bars(
    context: typer.Context,
    day: Annotated[
        str | None, typer.Option("--date", metavar="D", help="One session, again if it is there already.")
    ] = None,
    first: Annotated[
        str | None,
        typer.Option("--from", metavar="D", help="The first date of a range; the sessions inside are fetched."),
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="D", help="Its last date. Default: the last session that has closed.")
    ] = None,
    symbols: Annotated[
        str | None,
        typer.Option(
            "--symbols",
            metavar="A,B",
            help="Just these, by the range endpoint; the session ledger stays as it is. Default range: the whole lake.",
        ),
    ] = None,
    source: Source = "rest",
    accept_short: AcceptShort = False,
) -> None:
    """Fetch daily bars: one request brings a session's whole market.

    Without dates: every session that is missing or pending, and provisional ones once their final bars are out (11:00
    New York time of the next day), up to the last session that has closed. An empty lake needs `--from`.
    """

    def job(app: App, progress: Progress) -> JobResult:
        from condvest.app.dates import DateOptions
        from condvest.app.fetching import fetch_bars

        dates = DateOptions(day=day, first=first, last=last)
        return fetch_bars(
            app, dates=dates, symbols=symbols, source=source, accept_short=accept_short, progress=progress
        )

    _do(context, job)


def _fetch_meta(context: typer.Context, details: Details = 0) -> None:
    """Fetch tickers (active and delisted), splits and dividends, and details of some tickers."""

    def job(app: App, progress: Progress) -> JobResult:
        from condvest.app.fetching import fetch_meta

        return fetch_meta(app, details=details, progress=progress)

    _do(context, job)


def _consolidate(
    context: typer.Context,
    symbols: Symbols = None,
    force_full: ForceFull = False,
    retention_days: Retention = 30,
    skip_cleanup: Annotated[bool, typer.Option("--skip-cleanup", help="Remove no date= file.")] = False,
) -> None:
    """Merge new date= files into each symbol's data.parquet, then remove old ones that are proven to be in it."""

    def job(app: App, progress: Progress) -> JobResult:
        from condvest.app.commands import consolidate

        return consolidate(
            app,
            symbols=symbols,
            force_full=force_full,
            retention_days=retention_days,
            skip_cleanup=skip_cleanup,
            progress=progress,
        )

    _do(context, job)


def _vacuum(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing.")
    ] = False,
    symbols: Symbols = None,
    retention_days: Retention = 30,
    force: Annotated[
        bool, typer.Option("--force", help="Allow a retention below 7 days. Use it while no fetch runs.")
    ] = False,
) -> None:
    """Remove date= files that are past retention and proven, by content, to be in the committed data.parquet."""

    def job(app: App, progress: Progress) -> JobResult:
        from condvest.app.commands import vacuum

        return vacuum(
            app, symbols=symbols, retention_days=retention_days, dry_run=dry_run, force=force, progress=progress
        )

    _do(context, job)


def _resample(
    context: typer.Context,
    intervals: Annotated[
        str | None,
        typer.Option(
            "--intervals",
            metavar="3,5,...",
            help="Which of 3,5,8,13,21,34 to build, in sessions. Default: RESAMPLING_INTERVALS, else all.",
        ),
    ] = None,
    force_full: ForceFull = False,
) -> None:
    """Build period bars of 3, 5, 8, 13, 21 and 34 sessions from the consolidated bars; only what changed."""

    def job(app: App, progress: Progress) -> JobResult:
        from condvest.app.commands import resample
        from condvest.app.lists import read_intervals

        wanted = None if intervals is None else read_intervals(intervals, name="--intervals")
        return resample(app, intervals=wanted, force_full=force_full, progress=progress)

    _do(context, job)


def _run(
    context: typer.Context,
    source: Source = "rest",
    accept_short: AcceptShort = False,
    details: Details = 0,
    retention_days: Retention = 30,
) -> None:
    """Do the whole day: fetch bars, fetch meta, consolidate with cleanup, resample.

    A step that leaves something or fails does not stop the next ones; the exit code is 1 then, and the next run does
    what is left. A wrong setting stops at once.
    """

    def job(app: App, progress: Progress) -> JobResult:
        from condvest.app.fetching import run

        return run(
            app,
            source=source,
            accept_short=accept_short,
            details=details,
            retention_days=retention_days,
            progress=progress,
        )

    _do(context, job)


def _verify(
    context: typer.Context,
    with_repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Then build again what follows from the rest: manifest, recent bars, checkpoints, silver, ledger,"
            " watermarks. Untrue fetched bars are removed; landing, bronze and all else are only read.",
        ),
    ] = False,
) -> None:
    """Read the whole lake and check its rules, the sanity of bars and price jumps at splits; exit 1 where one is broken.

    Run it while no other job writes.
    """

    def job(app: App, progress: Progress) -> JobResult:
        from condvest.app.commands import repair, verify

        return repair(app, progress=progress) if with_repair else verify(app, progress=progress)

    _do(context, job)


def _replay(
    context: typer.Context,
    first: Annotated[str, typer.Option("--from", metavar="D", help="The first date of the range.")],
    last: Annotated[str, typer.Option("--to", metavar="D", help="Its last date; the sessions inside are replayed.")],
    symbols: Annotated[
        str | None,
        typer.Option("--symbols", metavar="A,B", help="Just these; the session ledger stays as it is."),
    ] = None,
) -> None:
    """Bring the bars of some sessions back to bronze from what landed, without the provider; no key is needed.

    What bronze holds already is not written, and nothing is removed. A data.parquet that is lost or cannot be read is
    named: `consolidate --force-full` rebuilds it whole.
    """

    def job(app: App, progress: Progress) -> JobResult:
        from condvest.app.commands import replay
        from condvest.app.dates import DateOptions

        return replay(app, dates=DateOptions(first=first, last=last), symbols=symbols, progress=progress)

    _do(context, job)
