"""The entry point: one line an error, one JSON object when asked for, and the exit codes 0, 1, 2 and 130."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer
from typer.core import TyperGroup

from condvest import __version__, process
from condvest.cli.jobs import add_jobs
from condvest.cli.options import Options, log_to_stderr
from condvest.cli.show import add_views
from condvest.errors import CondvestError, ConfigError

DONE, LEFT, WRONG, INTERRUPTED = 0, 1, 2, 130
#: What a disk says that takes no more. A store names the file, and makes an error of condvest of it.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

_HELP = """The batch layer of a market-data lake: daily bars of the US stock market in plain parquet files.

A first day: `condvest fetch bars --from 2020-01-02`, then `condvest fetch meta`, `condvest consolidate` and
`condvest resample`. Every later day: `condvest run`. To look: `condvest status`, `condvest bars AAPL`.

Settings come from the environment and from `.env` in the working folder (the README lists them): POLYGON_API_KEY is
needed to fetch, LAKE_URL says where the lake is.

Exit codes: 0 done, 1 something is left or broken, 2 wrong usage or settings, 130 interrupted.
"""

#: The commands in the order in which a newcomer needs them.
_ORDER = (
    "fetch",
    "consolidate",
    "resample",
    "vacuum",
    "run",
    "verify",
    "replay",
    "status",
    "bars",
    "query",
    "closures",
    "db",
    "demo",
)


class _InOrder(TyperGroup):
    """Lists commands and groups of commands together."""

    def list_commands(self, _ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's own class of contexts is private
        """Return the names in the order of `_ORDER`."""
        return sorted(self.commands, key=_ORDER.index)


application = typer.Typer(
    cls=_InOrder,
    name="condvest",
    help=_HELP,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@application.callback(invoke_without_command=True)
def _before(
    context: typer.Context,
    lake: Annotated[
        str | None,
        typer.Option(
            "--lake",
            metavar="URL",
            help="Where the lake is: a path, file:///path or s3://bucket/prefix. Default: LAKE_URL, else ./lake.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")] = False,
    now: Annotated[
        str | None,
        typer.Option(
            "--now",
            metavar="INSTANT",
            help="The instant that counts as now, for example 2025-11-20T21:30:00Z. Default: CONDVEST_NOW, else the clock.",
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    context.obj = Options(lake, as_json, now)
    if version:
        typer.echo(json.dumps({"version": __version__}) if as_json else f"condvest {__version__}")
        raise typer.Exit(DONE)
    if context.invoked_subcommand is None:
        if as_json:
            raise ConfigError("no command was given; name one after --json: condvest --json status")
        typer.echo(context.get_help())
        raise typer.Exit(WRONG)
    log_to_stderr()


add_jobs(application)
add_views(application)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 something left or broken, 2 wrong usage or settings.

    An error of condvest or of usage is one line on stderr, or with `--json` one object on stdout. Any other is a bug: it
    goes on with its traceback.
    """
    process.tune()
    _open_closed()
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words  # as well when the options cannot be read
    if as_json:
        sys.excepthook = _tell_bug
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What is no text in the terminal's encoding is escaped: a word of the command line need not be UTF-8 at all.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # As a command, since an application called as such puts a hook of its own in place of ours.
        code = typer.main.get_command(application)(args=words, prog_name="condvest", standalone_mode=False)
        sys.stdout.flush()
    except CondvestError as error:
        _tell(str(error), type(error).__name__, as_json)
        return WRONG if isinstance(error, ConfigError) else LEFT
    except typer.TyperException as error:
        _tell(_usage(error), "UsageError", as_json)
        return WRONG
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # Who read our output has seen enough; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return LEFT
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _tell(
            f"the output cannot be written ({error.strerror}); free some room, or send it elsewhere", "OSError", False
        )
        return LEFT
    if code == INTERRUPTED:
        _tell(
            "interrupted: what was acknowledged is kept; run the same command again to finish", "Interrupted", as_json
        )
    return int(code or DONE)


def _open_closed() -> None:
    """Let what is written to a stream that the caller closed (`>&-`) go nowhere: Python has None in its place."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process


def _tell_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell what nothing expects as JSON too: a program that asked for it reads one object on stdout whatever happens."""
    _tell("this is a bug in condvest; its traceback is on stderr: please report it", kind.__name__, True)
    sys.__excepthook__(kind, error, trace)


def _tell(message: str, kind: str, as_json: bool) -> None:
    line = " ".join(message.split())
    if as_json:
        typer.echo(json.dumps({"error": line, "kind": kind}, ensure_ascii=False))
    else:
        typer.echo(f"error: {line}", err=True)


def _usage(error: typer.TyperException) -> str:
    """Return what is wrong with the words of the command, and where to look."""
    message = error.format_message().rstrip(".").replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "condvest"
    if path != "condvest" and any(f"No such option: {name}" in message for name in ("--lake", "--json", "--now")):
        return f"{message}; options of condvest itself go before the command: condvest --json status"
    return f"{message}; see `{path} --help`"
