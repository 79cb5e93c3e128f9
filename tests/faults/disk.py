"""Trials on a disk that fails: one of the calls by which a folder store changes it ends with an error, or all from then on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any, Final

from condvest.errors import ConfigError, TransientError
from faults.lakes import Lakes
from faults.outcome import different, held, lost, outcome_of
from faults.scenarios import SCENARIOS
from faults.site import Site
from faults.stops import StopTrials, Verdict
from faults.torn import watched_calls

#: How a disk fails: the error, and whether it is full or broken from then on or just that once.
FAILURES: Final = {"io": (errno.EIO, False), "full": (errno.ENOSPC, True), "quota": (errno.EDQUOT, False)}
_NEEDS_SPACE: Final = ("write", "mkdir", "replace", "fsync")


class DiskTrials:
    """A failing disk under the lakes of a folder."""

    def __init__(self, lakes: Lakes, *, spoil: Callable[[Site], object] = lambda _: None) -> None:
        """Take lakes; clean runs are made when they are first needed."""
        self._lakes = lakes
        self._spoil = spoil
        self._stops = StopTrials(lakes)

    def at_each_call(self, scenario: str, seed: int, how: str, *, step: int = 1) -> Iterator[Verdict]:
        """Let the disk fail at each of a job's calls in turn (each `step`-th of them), to the last."""
        for number in count(0, step):
            verdict = self.at_call(scenario, seed, how, number)
            if not verdict.stops:
                return
            yield verdict

    def at_call(self, scenario: str, seed: int, how: str, number: int) -> Verdict:
        """Let the disk fail at the job's call of this number (from 0), and run the job again on a sound one."""
        verdict = Verdict(f"disk/{scenario}/{seed}/{how}/{number}", 0)
        clean, _ = self._stops.clean(scenario, seed)
        with self._lakes.copy(scenario, seed) as linked:
            address = replace(linked, fsync=True)
            with address.site(scenario, seed) as site:
                before = held(site)
                self._spoil(site)
                if _says_all_is_well(site, scenario, how, number, verdict):
                    verdict.problems += [
                        f"all was said to be well: {line}" for line in different(outcome_of(site), clean)
                    ]
            with address.site(scenario, seed) as site:
                verdict.problems += [f"lost {bar}" for bar in lost(before, held(site))]
                SCENARIOS[scenario].job(site)
                verdict.rows = clean.rows
                verdict.problems += different(outcome_of(site), clean)
        return verdict


def _says_all_is_well(site: Site, scenario: str, how: str, number: int, verdict: Verdict) -> bool:
    """Run a job on a disk that fails, and say whether it ended without an error and left nothing."""
    try:
        with _failing_disk(how, number, verdict):
            report = SCENARIOS[scenario].job(site)
    except (TransientError, ConfigError) as error:
        verdict.trace.append(type(error).__name__)
        return False
    return not getattr(report, "left", None)


@contextmanager
def _failing_disk(how: str, number: int, verdict: Verdict) -> Iterator[None]:
    code, stays = FAILURES[how]
    left = iter(range(number))

    def listen(name: str, _what: Any) -> None:
        is_hit = next(left, None) is None and (not verdict.stops or (stays and name in _NEEDS_SPACE))
        if is_hit and (not stays or name in _NEEDS_SPACE):
            verdict.stops += 1
            verdict.trace.append(f"{os.strerror(code)} at {name}")
            raise OSError(code, os.strerror(code), "the disk")

    with watched_calls(listen):
        yield
