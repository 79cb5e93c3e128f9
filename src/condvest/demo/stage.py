"""The steps of the demonstration: each opens the lake as a command does, and what came of it is kept for the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from condvest.app import App
from condvest.app.runs import JobResult
from condvest.config import Settings
from condvest.demo.market import NEW_YORK
from condvest.errors import DataError, WorkLeft

Say = Callable[[str], None]
Command = Callable[[App], JobResult]

#: Count of a report -> what a person calls it.
_CALLED: Final = {
    "final": "sessions final",
    "provisional": "sessions provisional",
    "restated": "bars restated",
    "details": "tickers",
    "splits": "splits",
    "dividends": "dividends",
    "sessions_added": "bars merged",
    "sessions_changed": "bars changed",
    "bars_written": "period bars written",
    "files_removed": "files removed",
    "would_remove": "files would be removed",
}


def given_settings(provider_url: str, api_key: str) -> Settings:
    """Return the defaults and a provider: the environment and `.env` speak of the user's own lake, key and database."""
    return Settings.model_construct(
        polygon_base_url=provider_url, polygon_api_key=SecretStr(api_key), polygon_requests_per_minute=0
    )


@dataclass(slots=True)
class Step:
    """One line of the story: a command, or several runs of one, and what they did and took."""

    when: str
    name: str
    runs: int
    outcome: str
    counts: dict[str, int]
    requests: int
    puts: int
    deletes: int
    seconds: float

    @classmethod
    def of(cls, when: str, name: str, result: JobResult) -> Step:
        """Return the step that one run is."""
        cost = result.traffic
        counts: dict[str, int] = {}
        # A whole day's run has a report for each of its parts.
        for report in result.counts.get("steps", {"": result.counts}).values():
            for key, count in _counts(report).items():
                counts[key] = counts.get(key, 0) + count
        return cls(when, name, 1, result.outcome, counts, cost.requests, cost.puts, cost.deletes, result.seconds)

    def add(self, other: Step) -> None:
        """Take in another run of the same command."""
        self.runs += other.runs
        self.outcome = self.outcome if self.outcome == other.outcome else "done"
        for key, count in other.counts.items():
            self.counts[key] = self.counts.get(key, 0) + count
        self.requests += other.requests
        self.puts += other.puts
        self.deletes += other.deletes
        self.seconds = round(self.seconds + other.seconds, 3)

    @property
    def said(self) -> str:
        """What came of it, in words."""
        counted = [f"{self.counts[key]:,} {name}" for key, name in _CALLED.items() if key in self.counts]
        if "findings" in self.counts:
            counted.append(f"no rule is broken; notices: {self.counts['findings']}")
        return ", ".join(counted) or self.outcome.replace("_", " ")

    @property
    def cost(self) -> str:
        """What it took, in words."""
        asked = f", {self.requests:,} requests" if self.requests else ""
        return f"{self.puts:,} PUT, {self.deletes:,} DELETE{asked}, {self.seconds:.1f} s"


@dataclass(slots=True)
class Stage:
    """What the steps share: where the lake is, what time it is, and what came of the steps so far."""

    folder: Path
    settings: Settings
    now: datetime
    say: Say
    _steps: dict[tuple[str, str], Step] = field(default_factory=dict)

    @property
    def steps(self) -> list[Step]:
        """The steps so far, in the order in which each was first done."""
        return list(self._steps.values())

    def open(self) -> App:
        """Open the lake as a command does: nothing is kept from one step to the next."""
        return App(self.settings, lake=str(self.folder), now=self.now)

    def do(self, name: str, command: Command, *, when: str = "") -> JobResult:
        """Do one step and return what came of it; WorkLeft when something was left or broken.

        Steps with one name and one `when` (default: the time in New York) add up to one line.
        """
        with self.open() as app:
            result = command(app)
        if result.left:
            raise WorkLeft(
                f"demo: {name}: {len(result.left)} left or broken, first: {result.left[0]}; the lake is kept in {self.folder}"
            )
        when = when or new_york(self.now)
        step = Step.of(when, name, result)
        if (when, name) in self._steps:
            self._steps[when, name].add(step)
        else:
            self._steps[when, name] = step
        return result

    def tell(self, name: str, command: Command) -> JobResult:
        """Do one step and say what came of it."""
        result = self.do(name, command)
        step = self.steps[-1]
        self.say(f"  {step.name}: {step.said} ({step.cost})")
        return result

    def again(self, name: str, command: Command) -> None:
        """Do a step a second time; DataError when it writes or deletes anything."""
        result = self.tell(f"{name}, again", command)
        if result.outcome != "nothing_new":
            raise DataError(
                f"demo: {name} ran again with nothing new and made {self.steps[-1].cost}; a second run must write nothing;"
                " please report it"
            )


def new_york(instant: datetime) -> str:
    """Return an instant as the clocks of New York show it."""
    return f"{instant.astimezone(NEW_YORK):%Y-%m-%d %H:%M}"


def _counts(report: Mapping[str, Any]) -> dict[str, int]:
    """Return what one report counts, without what is zero, lists as their length."""
    counts = {name: len(value) if isinstance(value, list) else value for name, value in report.items()}
    for kind in ("splits", "dividends"):
        if not counts.get(f"{kind}_changed"):
            counts.pop(kind, None)
    if counts.get("dry_run"):
        counts["would_remove"] = counts.pop("files_removed")
    found = {name: counts[name] for name in _CALLED if counts.get(name)}
    return found | ({"findings": counts["findings"]} if "findings" in counts else {})
