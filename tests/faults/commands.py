"""A folder, settings and a provider for whole commands: what each printed, how it ended, and what it left.

    with Desk(tmp_path, monkeypatch) as desk:
        desk.at(evening(DAYS[0]))
        assert desk.run("fetch", "bars", "--date", str(DAYS[0])).code == 0
        assert desk.states() == {DAYS[0]: "provisional"}

Commands run in this process with the waits between two tries made short; everything else is as a person has it.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from condvest.app import wiring
from condvest.cli import main
from condvest.config import settings_table
from condvest.demo.market import NEW_YORK, Market
from condvest.demo.standin import StandIn
from condvest.domain.calendar import Calendar
from condvest.domain.records import RunRow
from condvest.state import State
from condvest.storage.opening import open_store
from integration.jobs_kit import DAYS, QUICK, market_of

GROUPED = "/v2/aggs/grouped"
TICKERS = "/v3/reference/tickers"
SPLITS = "/stocks/v1/splits"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        (line,) = self.out.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found


class Desk:
    """One lake in a folder, worked on by commands alone, open for the length of a `with` block."""

    def __init__(
        self,
        folder: Path,
        environ: pytest.MonkeyPatch,
        *,
        market: Market | None = None,
        plan_start: date | None = None,
        page_size: int | None = None,
    ) -> None:
        """Prepare a lake in `folder`; the provider's options are those of `StandIn`."""
        self.folder = folder
        self.now = datetime(2025, 11, 3, tzinfo=UTC)
        self.provider = StandIn(
            market or market_of(DAYS), now=lambda: self.now, plan_start=plan_start, page_size=page_size
        )
        self._environ = environ
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        known = {setting.name for setting in settings_table()}
        for name in [*os.environ]:
            if name in known or name.startswith(("CONDVEST_", "MASSIVE_", "AWS_")):
                self._environ.delenv(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._environ.chdir(self.folder)
        self._environ.setattr(wiring, "_retry_policy", lambda *_: QUICK)
        self._stack.enter_context(self.provider)
        self.set(
            LAKE_URL="lake",
            POLYGON_BASE_URL=self.provider.url,
            POLYGON_API_KEY=self.provider.api_key,
            POLYGON_REQUESTS_PER_MINUTE="0",
            CONDVEST_FSYNC="false",
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def set(self, **settings: str) -> Self:
        """Set variables of the environment."""
        for name, value in settings.items():
            self._environ.setenv(name, value)
        return self

    def evening(self, session: date) -> Self:
        """Set the clock to 16:05 in New York: bars are out, and provisional."""
        return self.at(datetime.combine(session, time(16, 5), tzinfo=NEW_YORK))

    def next_morning(self, session: date) -> Self:
        """Set the clock to five minutes after a session's bars are final."""
        return self.at(Calendar.shipped().final_due(session) + timedelta(minutes=5))

    def at(self, instant: datetime) -> Self:
        """Set the clock of the provider and of the commands."""
        self.now = instant.astimezone(UTC)
        return self.set(CONDVEST_NOW=self.now.isoformat())

    def run(self, *words: str) -> Outcome:
        """Run one command in this process."""
        logger, err = logging.getLogger("condvest"), io.StringIO()
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        kept = logger.handlers[:], logger.level, logger.propagate
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(words)
        finally:
            logger.handlers[:], logger.level, logger.propagate = kept
        out.seek(0)
        return Outcome(code, out.read(), err.getvalue())

    def asked(self, *words: str) -> tuple[Outcome, list[str]]:
        """Run one command; return what came of it, and the paths that it asked the provider for."""
        before = len(self.provider.requests)
        outcome = self.run(*words)
        return outcome, [request.path for request in self.provider.requests[before:]]

    @property
    def state(self) -> State:
        """The state database of the lake; the caller closes it."""
        return State.open(f"sqlite:///{self.folder}/lake/.condvest/state.sqlite", migrate=False)

    def states(self) -> dict[date, str]:
        """Return the state of each session in the ledger."""
        with self.state as state:
            return {row.session_date: row.state for row in state.sessions()}

    def last_run(self) -> RunRow:
        """Return the record of the last run."""
        with self.state as state:
            return state.recent_runs(1)[0]

    def symbols(self) -> list[str]:
        """Return the symbols that the state knows."""
        with self.state as state:
            return [row.symbol for row in state.symbols()]

    def listed(self, prefix: str = "") -> list[str]:
        """Return the keys of the lake under a prefix."""
        return [info.key for info in open_store(str(self.folder / "lake")).list(prefix)]

    def objects(self) -> dict[str, bytes]:
        """Return every object of the lake."""
        store = open_store(str(self.folder / "lake"))
        return {info.key: store.get(info.key).data for info in store.list("")}
