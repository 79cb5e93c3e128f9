"""How far a long job is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from condvest.cli.options import log_to_stderr
from condvest.log import event

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from condvest.jobs.progress import Progress

#: Plain lines come no faster than this.
EVERY_SECONDS: Final = 5.0


class Lines:
    """Progress as log lines: the first after `every_seconds`, then one at most in that time, whatever the steps."""

    def __init__(self, every_seconds: float = EVERY_SECONDS) -> None:
        """Start the clock."""
        self._every_seconds = every_seconds
        self._last = time.monotonic()

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Log how far a step is, if it is time to."""
        now = time.monotonic()
        if now - self._last >= self._every_seconds:
            self._last = now
            event("progress", step=step, done=done, total=total)


class Bars:
    """Progress as bars on a terminal, one a step."""

    def __init__(self, progress: RichProgress) -> None:
        """Take a display that was started."""
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Show how far a step is."""
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done, total=total)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Return what a job tells its progress to; bars go away when the job is done, and log lines stand above them."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            log_to_stderr()  # through the display from here on
            yield Bars(progress)
    finally:
        log_to_stderr()
