"""The whole day: fetch bars, fetch metadata, consolidate with cleanup, resample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from condvest.domain.answers import SessionSource
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.errors import CondvestError, ConfigError
from condvest.jobs.consolidate import consolidate
from condvest.jobs.fetch_bars import fetch_bars
from condvest.jobs.fetch_meta import MetaSource, fetch_meta
from condvest.jobs.progress import Progress, silent
from condvest.jobs.resample import resample
from condvest.jobs.vacuum import check_retention
from condvest.log import event, warn
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State


class StepReport(Protocol):
    """What every step's report tells."""

    @property
    def nothing_new(self) -> bool:
        """Whether the lake is as it was."""
        ...


@dataclass(slots=True)
class DayReport:
    """What each step did, by its name in the order of the steps, and which failed, with the reason.

    `left`: what the steps left, each line with the step's name first; empty when all is done.
    """

    steps: dict[str, StepReport] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> list[str]:
        """What is left, or failed, for the next run."""
        lines = [f"{step}: {line}" for step, report in self.steps.items() for line in getattr(report, "left", ())]
        return lines + [f"{step}: {reason}" for step, reason in self.failed.items()]

    @property
    def nothing_new(self) -> bool:
        """Whether no step changed anything, and none failed."""
        return not self.failed and all(report.nothing_new for report in self.steps.values())


def run_day(
    store: Store,
    source: SessionSource,
    meta_source: MetaSource,
    state: State,
    *,
    calendar: Callable[[], Calendar],
    now: datetime,
    intervals: Sequence[int] = INTERVALS,
    universe: frozenset[str] | None = None,
    accept_short: bool = False,
    details: int = 0,
    retention_days: int = 30,
    progress: Progress = silent,
) -> DayReport:
    """Do all that is due at `now`, step by step. Idempotent; may be killed anywhere and run again.

    A step that leaves something or fails does not stop the next ones: each works on what is there, so an outage of the
    provider never keeps landed bars from being merged. What is left stands in the report, and the next run does it. A
    wrong setting stops at once, as it would be wrong for the other steps too. `source` brings bars, `meta_source` the
    rest. `calendar` is asked before the steps that need one, as fetched metadata may announce a closure.

    Raises:
        ConfigError: a setting is wrong, or the provider refuses the key.
    """
    check_retention(retention_days)
    common: dict[str, Any] = {"now": now, "universe": universe, "progress": progress}
    bars = partial(fetch_bars, store, source, state, accept_short=accept_short, **common)
    meta = partial(fetch_meta, store, meta_source, state, details=details, **common)
    merge = partial(consolidate, store, retention_days=retention_days, **common)
    return _do(
        {
            "fetch bars": lambda: bars(calendar=calendar()),
            "fetch meta": meta,
            "consolidate": lambda: merge(calendar=calendar()),
            "resample": lambda: resample(
                store, calendar=calendar(), intervals=intervals, universe=universe, progress=progress
            ),
        }
    )


def _do(steps: Mapping[str, Callable[[], StepReport]]) -> DayReport:
    """Take the steps in order, whatever became of the ones before."""
    report = DayReport()
    for name, step in steps.items():
        event("step_started", step=name)
        try:
            report.steps[name] = step()
        except ConfigError:
            raise
        except CondvestError as error:
            warn("step_failed", step=name, kind=type(error).__name__, error=error)
            report.failed[name] = str(error)
    return report
