"""Trials that end a real process with SIGKILL: at a chosen write, between two calls of a batch, or at any moment."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count

from faults.lakes import Address, Lakes
from faults.nursery import Child, Nursery, Request
from faults.outcome import different, held, lost, outcome_of
from faults.scenarios import SCENARIOS
from faults.stops import StopTrials, Verdict

_LONGEST_SECONDS = 0.2


class CrashTrials:
    """Kills over the lakes of one place; `environment` is what a child needs to reach them."""

    def __init__(
        self, lakes: Lakes, nursery: Nursery, *, variant: str = "sound", environment: Mapping[str, str] | None = None
    ) -> None:
        """Take lakes and a nursery; clean runs are made when they are first needed."""
        self._lakes = lakes
        self._nursery = nursery
        self._variant = variant
        self._environment = dict(environment or {})
        self._stops = StopTrials(lakes)

    def at_each_write(self, scenario: str, seed: int) -> Iterator[Verdict]:
        """Kill a job before its first write, before its second, and so on to its last."""
        for number in range(self._stops.clean(scenario, seed)[1]):
            yield self.at_write(scenario, seed, number)

    def at_write(self, scenario: str, seed: int, number: int) -> Verdict:
        """Kill a job before its write of this number (from 0)."""
        name = f"kill/{self._lakes.kind}/{scenario}/{seed}/{number}"
        return self._try(name, scenario, seed, lambda address: self._gated(address, scenario, seed, number))

    def at_each_call(self, scenario: str, seed: int, *, step: int = 1) -> Iterator[Verdict]:
        """Kill a job between any two calls that change the disk (each `step`-th of them), to the last."""
        for number in count(0, step):
            verdict = self.at_call(scenario, seed, number)
            if not verdict.stops:
                return
            yield verdict

    def at_call(self, scenario: str, seed: int, number: int) -> Verdict:
        """Kill a job before its call of this number that changes the disk (from 0). Folders only."""
        name = f"torn/{self._lakes.kind}/{scenario}/{seed}/{number}"
        return self._try(name, scenario, seed, lambda address: self._free(address, scenario, seed, dies_at_call=number))

    def at_any_moment(self, scenario: str, seed: int, chance: int) -> Verdict:
        """Kill a job after a random time. The name gives the time, not what the job had done by then."""
        name = f"moment/{self._lakes.kind}/{scenario}/{seed}/{chance}"
        seconds = random.Random(name).uniform(0.0, _LONGEST_SECONDS)
        return self._try(name, scenario, seed, lambda address: self._free(address, scenario, seed, seconds=seconds))

    def _try(self, name: str, scenario: str, seed: int, kill: Callable[[Address], Child]) -> Verdict:
        verdict, (clean, _) = Verdict(name, 0), self._stops.clean(scenario, seed)
        with self._lakes.copy(scenario, seed) as address:
            with address.site(scenario, seed) as site:
                before = held(site)
            child = kill(address)
            verdict.stops = int(child.ended == "killed")
            if child.ended not in ("killed", "done"):
                verdict.problems.append(f"{child.ended}: {child.said}")
            verdict.trace.append(f"{child.ended} before {child.waits_at}")
            with address.site(scenario, seed) as site:
                verdict.problems += [f"lost {bar}" for bar in lost(before, held(site))]
                if verdict.stops:
                    SCENARIOS[scenario].job(site)
                verdict.rows = clean.rows
                verdict.problems += different(outcome_of(site), clean)
        return verdict

    def _request(self, address: Address, scenario: str, seed: int) -> Request:
        return Request(address, scenario, seed, job=scenario, variant=self._variant, environment=self._environment)

    def _gated(self, address: Address, scenario: str, seed: int, number: int) -> Child:
        child = self._nursery.start(self._request(address, scenario, seed))
        child.listen()
        left = iter(range(number))
        while child.ended is None:
            step = child.waits_at or ""
            if step.startswith("write ") and next(left, None) is None:
                child.kill()
                child.waits_at = step
            else:
                child.advance()
        return child

    def _free(
        self,
        address: Address,
        scenario: str,
        seed: int,
        *,
        dies_at_call: int | None = None,
        seconds: float | None = None,
    ) -> Child:
        request = self._request(address, scenario, seed)
        child = self._nursery.start(request.freely(dies_at_call=dies_at_call))
        if seconds is not None:
            time.sleep(seconds)
            child.kill()
        while child.ended is None:
            child.listen()
        return child
