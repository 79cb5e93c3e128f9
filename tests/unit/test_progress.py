"""How far a long job is: plain lines at a bounded rate, bars on a terminal."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from condvest.cli.progress import Bars, Lines, shown_progress


class Terminal(io.StringIO):
    """A stderr that says that a person watches it."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def _quiet_logger() -> Iterator[None]:
    """Leave the logger as it was."""
    logger = logging.getLogger("condvest")
    kept = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = kept


def test_lines_come_no_faster_than_told() -> None:
    """Ten thousand steps in no time are no line; without a bound each is one."""
    shown = io.StringIO()
    logger = logging.getLogger("condvest")
    logger.handlers[:], logger.propagate = [logging.StreamHandler(shown)], False
    logger.setLevel(logging.INFO)
    often = Lines(every_seconds=60)
    for done in range(10_000):
        often("merge", done, 10_000)
    assert shown.getvalue() == ""
    Lines(every_seconds=0)("merge", 3, None)
    assert shown.getvalue() == "progress step=merge done=3\n"


def test_bars_stand_on_a_terminal_and_go_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bar a step; an unknown total is no error; warnings are shown above the bars."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with shown_progress() as progress:
        assert isinstance(progress, Bars)
        for done in range(1, 4):
            progress("land sessions", done, 3)
        progress("count", 1, None)
        logging.getLogger("condvest").info("not shown")
        logging.getLogger("condvest").warning("look at this")
    shown = terminal.getvalue()
    assert "land sessions" in shown
    assert "look at this" in shown
    assert "not shown" not in shown


def test_elsewhere_there_are_lines() -> None:
    """A log file gets no control characters."""
    with shown_progress() as progress:
        assert isinstance(progress, Lines)
