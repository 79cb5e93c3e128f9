"""Trials that stop a job at one of its writes, inside this process, run it again, and hold the lake against a clean run."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count

from faults.lakes import Lakes
from faults.outcome import Outcome, different, held, lost, outcome_of
from faults.scenarios import SCENARIOS, Scenario
from faults.site import Site
from faults.stepping import SteppedStore, stepped_state
from property.oracle import Daily, History

#: Every so many trials `verify` reads the whole lake too.
_VERIFY_EACH = 10


class Stopped(BaseException):
    """The process is gone: nothing after this line happened, and no job catches it."""


@dataclass
class Verdict:
    """What came of one trial. `name` is all that is needed to run it again; `problems` is empty for a good one."""

    name: str
    stops: int
    rows: int = 0
    problems: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    """Every write and stop, in order: the same name gives the same trace."""


class StopTrials:
    """Stops over the lakes of one place. `spoil` makes a job worse before it runs, for null controls."""

    def __init__(self, lakes: Lakes, *, spoil: Callable[[Site], object] = lambda _: None) -> None:
        """Take lakes; clean runs are made when they are first needed."""
        self._lakes = lakes
        self._spoil = spoil
        self._clean: dict[tuple[str, int], tuple[Outcome, int]] = {}
        self._done = count(1)

    def clean(self, scenario: str, seed: int) -> tuple[Outcome, int]:
        """Return what one run without a stop leaves, and how many writes it made."""
        if (scenario, seed) not in self._clean:
            with self._lakes.copy(scenario, seed) as address, address.site(scenario, seed) as site:
                store, state, writes = site.store, site.state, list[str]()
                _run_until(site, SCENARIOS[scenario], sys.maxsize, writes, lambda _: None)
                site.store, site.state = store, state
                self._clean[scenario, seed] = outcome_of(site), len(writes)
        return self._clean[scenario, seed]

    def at_each_write(self, scenario: str, seed: int) -> Iterator[Verdict]:
        """Stop a job before its first write, before its second, and so on to its last."""
        for number in range(self.clean(scenario, seed)[1]):
            yield self.at_write(scenario, seed, number)

    def at_write(self, scenario: str, seed: int, number: int) -> Verdict:
        """Stop a job before its write of this number (from 0), and run it again at the same instant."""
        verdict = Verdict(f"stop/{self._lakes.kind}/{scenario}/{seed}/{number}", 0)
        self._try(verdict, SCENARIOS[scenario], seed, iter([number]), timedelta(0))
        return verdict

    def at_random(self, scenario: str, seed: int, chance: int) -> Verdict:
        """Stop a job at a random write, again at another one, up to five times; the clock goes on between."""
        verdict = Verdict(f"stops/{self._lakes.kind}/{scenario}/{seed}/{chance}", 0)
        rand, writes = random.Random(verdict.name), self.clean(scenario, seed)[1]
        numbers = (rand.randrange(writes + 1) for _ in range(rand.randrange(1, 6)))
        self._try(verdict, SCENARIOS[scenario], seed, numbers, timedelta(minutes=3))
        return verdict

    def _try(self, verdict: Verdict, scenario: Scenario, seed: int, stops: Iterator[int], pause: timedelta) -> None:
        clean, _ = self.clean(scenario.name, seed)
        with self._lakes.copy(scenario.name, seed) as address, address.site(scenario.name, seed) as site:
            before, store, state = held(site), site.store, site.state
            for number in stops:
                is_stopped = _run_until(site, scenario, number, verdict.trace, self._spoil)
                site.store, site.state = store, state
                verdict.problems += [f"lost {bar}" for bar in lost(before, held(site))]
                if not is_stopped:
                    break
                verdict.stops += 1
                site.delay += pause
            if verdict.stops:
                scenario.job(site)
            self._judge(verdict, site, clean)

    def _judge(self, verdict: Verdict, site: Site, clean: Outcome) -> None:
        found = outcome_of(site)
        verdict.rows = clean.rows
        verdict.problems += different(*(map(timeless, (found, clean)) if site.delay else (found, clean)))
        if next(self._done) % _VERIFY_EACH == 0:
            verdict.problems += [f"verify: {one.rule}: {one.what}" for one in site.verify().broken]


def timeless(outcome: Outcome) -> Outcome:
    """Return an outcome without the instants at which things were first seen, for runs at other times."""

    def rows(bars: History) -> History:
        return {day: Daily(bar.values, bar.seen.min) for day, bar in bars.items()}

    return replace(
        outcome,
        bars={symbol: rows(bars) for symbol, bars in outcome.bars.items()},
        consolidated={symbol: rows(bars) for symbol, bars in outcome.consolidated.items()},
        actions={key: sorted(row[:4] for row in rows) for key, rows in outcome.actions.items()},
        landed={},
        ledger=tuple(replace(row, fetched_at=None, updated_at=None) for row in outcome.ledger),
    )


def _run_until(site: Site, scenario: Scenario, number: int, trace: list[str], spoil: Callable[[Site], object]) -> bool:
    """Run a job and say whether it was stopped before its write of this number."""
    left = iter(range(number))

    def listen(what: str) -> None:
        if not what.startswith("write "):
            return
        if next(left, None) is None:
            trace.append(f"stopped before {what}")
            raise Stopped(what)
        trace.append(what)

    site.store, site.state = SteppedStore(site.store, listen), stepped_state(site.state, listen)
    spoil(site)
    try:
        scenario.job(site)
    except Stopped:
        return True
    return False
