"""Null controls: the same trials on variants that are broken on purpose. If one is not caught, the trials prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from faults.crashes import CrashTrials
from faults.disk import DiskTrials
from faults.grounds import Grounds
from faults.races import RACES, RaceTrials
from faults.stops import Verdict
from faults.variants import VARIANTS

_CHANCES: Final = 20


def _killed(grounds: Grounds, variant: str, scenario: str) -> Iterator[Verdict]:
    return CrashTrials(grounds.lakes("folder"), grounds.nursery, variant=variant).at_each_write(scenario, 1)


def _torn(grounds: Grounds, variant: str, scenario: str) -> Iterator[Verdict]:
    return CrashTrials(grounds.lakes("folder"), grounds.nursery, variant=variant).at_each_call(scenario, 1)


def _raced(grounds: Grounds, variant: str, scenario: str, *jobs: str) -> Iterator[Verdict]:
    races = RaceTrials(grounds.lakes("folder"), grounds.nursery, variant=variant)
    return (races.gated(RACES.index((scenario, jobs)), chance) for chance in range(_CHANCES))


def _overtaken(grounds: Grounds, variant: str, scenario: str, *jobs: str) -> Iterator[Verdict]:
    races = RaceTrials(grounds.lakes("folder"), grounds.nursery, variant=variant)
    return races.overtaken_at_each_step(RACES.index((scenario, jobs)))


def _on_bad_disk(grounds: Grounds, variant: str, scenario: str) -> Iterator[Verdict]:
    return DiskTrials(grounds.lakes("folder"), spoil=VARIANTS[variant]).at_each_call(scenario, 1, "io")


#: By variant, the trials that have to catch it.
CONTROLS: Final[dict[str, Callable[[Grounds], Iterator[Verdict]]]] = {
    "ledger_before_data": lambda grounds: _killed(grounds, "ledger_before_data", "fetch-evening"),
    "delete_before_verify": lambda grounds: _raced(grounds, "delete_before_verify", "consolidate", "merge", "clean-up"),
    "plain_overwrite": lambda grounds: _overtaken(
        grounds, "plain_overwrite", "backfill-pending", "merge", "backfill-pending"
    ),
    "write_in_place": lambda grounds: _torn(grounds, "write_in_place", "consolidate"),
    "failures_passed_over": lambda grounds: _on_bad_disk(grounds, "failures_passed_over", "fetch-evening"),
    "landing_after_bronze": lambda grounds: _raced(
        grounds, "landing_after_bronze", "fetch-evening", "fetch-evening", "fetch-evening"
    ),
    "no_turns": lambda grounds: _raced(grounds, "no_turns", "fetch-evening", "fetch-evening", "fetch-evening"),
}


def caught(grounds: Grounds, control: str) -> str | None:
    """Run a control's trials until one fails, and return its name and first problem; None where none does."""
    for verdict in CONTROLS[control](grounds):
        if verdict.problems:
            return f"{verdict.name}: {verdict.problems[0]}"
    return None
