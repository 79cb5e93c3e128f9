"""The options that stand before every command, and how a command opens the lake that they name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import typer

if TYPE_CHECKING:
    from condvest.app import App


@dataclass(frozen=True, slots=True)
class Options:
    """What stood before the command, as written."""

    lake: str | None
    as_json: bool
    now: str | None


def options_of(context: typer.Context) -> Options:
    """Return the options of this call."""
    return cast(Options, context.obj)


@contextmanager
def opened(context: typer.Context) -> Iterator[App]:
    """Open the lake of this call and close it at the end; ConfigError when a setting or option is wrong."""
    from condvest.app import App
    from condvest.config import load_settings, read_instant

    options = options_of(context)
    now = None if options.now is None else read_instant(options.now, name="--now")
    with App(load_settings(), lake=options.lake, now=now) as app:
        yield app


def log_to_stderr() -> None:
    """Send events to stderr: all of them as plain lines, or warnings alone where a person watches a progress bar."""
    import logging

    from condvest import log

    log.to_stderr(logging.WARNING if sys.stderr.isatty() else logging.INFO)
