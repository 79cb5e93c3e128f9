"""Trials in which two or three real processes work on one lake at once.

Gated, they take turns step by step in an order that the name gives: the same name is the same race. Free, they run as the
machine lets them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from faults.lakes import Lakes
from faults.nursery import Child, Nursery, Request
from faults.outcome import held, outcome_of
from faults.soundness import settle, unsound
from faults.stepping import WAITS
from faults.stops import Verdict

#: Which scenario's lake, and who races on it. A process may be asked for what another one does already.
RACES: Final[Sequence[tuple[str, tuple[str, ...]]]] = (
    ("consolidate", ("merge", "merge")),
    ("consolidate", ("merge", "clean-up")),
    ("consolidate", ("merge", "merge-full")),
    ("consolidate", ("merge", "silver")),
    ("consolidate", ("merge", "clean-up", "silver")),
    ("vacuum", ("clean-up", "clean-up")),
    ("vacuum", ("clean-up", "merge-full")),
    ("resample", ("silver", "silver")),
    ("resample", ("silver", "silver-full")),
    ("resample-full", ("silver-full", "silver-full")),
    ("resample-split", ("silver", "silver-full", "merge")),
    ("fetch-evening", ("fetch-evening", "fetch-evening")),
    ("fetch-morning", ("fetch-restated", "fetch-restated")),
    ("fetch-morning", ("fetch-restated", "fetch-restated", "merge")),
    ("fetch-morning", ("fetch-due", "merge")),
    ("fetch-old", ("fetch-old", "merge")),
    ("fetch-old", ("fetch-old", "fetch-symbols-bulk")),
    ("backfill-flat-files", ("backfill-flat-files", "merge")),
    ("backfill-flat-files", ("backfill-flat-files", "fetch-restated")),
    ("backfill-pending", ("merge", "backfill-pending")),
    ("backfill", ("backfill", "backfill")),
    ("fetch-symbols", ("fetch-symbols", "fetch-due")),
    ("fetch-meta", ("fetch-meta", "fetch-meta")),
    ("record", ("record", "record")),
    ("record", ("record", "fetch-due")),
    ("replay", ("replay", "replay")),
    ("replay", ("replay", "merge")),
    ("run", ("whole-day", "whole-day")),
    ("run", ("whole-day", "clean-up", "silver-full")),
)
_MOST_STEPS = 5_000


class RaceTrials:
    """Races over the lakes of one place; `environment` is what a child needs to reach them."""

    def __init__(
        self, lakes: Lakes, nursery: Nursery, *, variant: str = "sound", environment: Mapping[str, str] | None = None
    ) -> None:
        """Take lakes and a nursery."""
        self._lakes = lakes
        self._nursery = nursery
        self._variant = variant
        self._environment = dict(environment or {})

    def gated(self, race: int, chance: int) -> Verdict:
        """Let the processes of a race take turns in a random order."""
        name = f"race/{self._lakes.kind}/{race}/{chance}"
        rand = random.Random(name)
        return self._try(name, race, 1 + chance % 2, lambda children, verdict: _take_turns(children, rand, verdict))

    def overtaken(self, race: int, number: int) -> Verdict:
        """Hold the first process of a race at its step of this number (from 0) until all others have ended."""
        name = f"overtaken/{self._lakes.kind}/{race}/{number}"
        return self._try(name, race, 1, lambda children, verdict: _overtake(children, number, verdict))

    def overtaken_at_each_step(self, race: int, *, step: int = 1) -> Iterator[Verdict]:
        """Hold the first process at each of its steps in turn (each `step`-th of them), to the last."""
        for number in itertools.count(0, step):
            verdict = self.overtaken(race, number)
            if verdict.stops <= number:
                return
            yield verdict

    def free(self, race: int, chance: int) -> Verdict:
        """Let the processes of a race run at the same time."""
        name = f"free/{self._lakes.kind}/{race}/{chance}"
        return self._try(name, race, 1 + chance % 2, lambda children, _: _run_freely(children), is_gated=False)

    def _try(
        self,
        name: str,
        race: int,
        seed: int,
        run: Callable[[Mapping[str, Child], Verdict], None],
        *,
        is_gated: bool = True,
    ) -> Verdict:
        (scenario, jobs), verdict = RACES[race], Verdict(name, 0)
        with self._lakes.copy(scenario, seed) as address:
            with address.site(scenario, seed) as site:
                before = held(site)
            children = {}
            for number, job in enumerate(jobs):
                request = Request(
                    address,
                    scenario,
                    seed,
                    job,
                    is_gated=is_gated,
                    variant=self._variant,
                    minutes_later=number,
                    environment=self._environment,
                )
                children[f"{number}:{job}"] = self._nursery.start(request)
            run(children, verdict)
            verdict.problems += [
                f"{who} {child.ended}: {child.said}" for who, child in children.items() if child.ended != "done"
            ]
            with address.site(scenario, seed, minutes_later=len(jobs)) as site:
                verdict.problems += settle(site)
                verdict.problems += unsound(site, before)
                verdict.rows = outcome_of(site).rows
        return verdict


def _take_turns(children: Mapping[str, Child], rand: random.Random, verdict: Verdict) -> None:
    """Let one process go on at a time, up to where it next asks; whose turn it is comes by chance, and in runs."""
    for child in children.values():
        child.listen()
    while waiting := sorted(who for who, child in children.items() if child.ended is None):
        who = rand.choice(waiting)
        for _ in range(rand.choice((1, 1, 2, 5, 20))):
            if children[who].ended is not None:
                break
            verdict.trace.append(f"{who} {children[who].waits_at}")
            verdict.stops += 1
            children[who].advance()
        if verdict.stops > _MOST_STEPS:
            verdict.problems.append(f"no end after {_MOST_STEPS} steps")
            for child in children.values():
                child.kill()


def _overtake(children: Mapping[str, Child], number: int, verdict: Verdict) -> None:
    """Let the first process take so many steps, then the others all of theirs, then the first the rest.

    One that holds what the others wait for goes on before them. `stops` counts the first one's steps.
    """
    (first, held), *others = children.items()
    held.listen()
    for _ in range(number):
        if held.ended is None:
            verdict.trace.append(f"{first} {held.waits_at}")
            verdict.stops += 1
            held.advance()
    verdict.stops += held.ended is None
    for who, child in others:
        child.listen()
        while child.ended is None:
            verdict.trace.append(f"{who} {child.waits_at}")
            if child.waits_at == WAITS and held.ended is None:
                held.advance()
            child.advance()
    while held.ended is None:
        held.advance()


def _run_freely(children: Mapping[str, Child]) -> None:
    for child in children.values():
        while child.ended is None:
            child.listen()
