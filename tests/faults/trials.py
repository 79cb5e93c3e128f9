"""The long run of trials: `make trials`. Prints what was tried, what was found, and the name of every trial that failed.

python -m faults.trials [--seeds N] [--thin N] [--write FILE]     all of it, on two processes
python -m faults.trials NAME ...                       the trials of these names again, with their traces
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path
from typing import Final, TypeAlias

from faults import database, disk, network
from faults.controls import CONTROLS, caught
from faults.grounds import Grounds, Servers
from faults.races import RACES
from faults.scenarios import SCENARIOS
from faults.stops import Verdict
from servers.postgres import running_postgres_server
from servers.seaweed import running_s3_server

_PROCESSES: Final = 2
_BEGIN, _END = "<!-- trials -->", "<!-- end of trials -->"
#: What a kind of trial does, as the report says it.
KINDS: Final = {
    "stop": "stopped at each write in turn, in one process",
    "stops": "stopped at random writes, up to five times in a row, the clock going on",
    "kill": "SIGKILL of a real process at each write in turn",
    "torn": "SIGKILL of a real process between two calls of a batch",
    "moment": "SIGKILL of a real process at any moment",
    "race": "two or three processes, taking turns step by step in a random order",
    "overtaken": "two or three processes, one held at each of its steps while the others run",
    "free": "two or three processes at the same time",
    "storm": "bad network before S3 server and provider",
    "disk": "a disk that fails or is full, at each call in turn",
    "database": "a connection to PostgreSQL that ends at each message in turn",
}
#: Jobs whose trials on an S3 server are enough to see that it is no other store to them.
_ON_S3: Final = ("fetch-morning", "fetch-old", "consolidate", "vacuum", "resample", "fetch-meta")


@dataclass(frozen=True)
class Item:
    """Some trials that one process runs after each other. `words` are those of `Grounds`."""

    kind: str
    words: tuple[str | int, ...]


@dataclass
class Tally:
    """What came of the trials of one kind. `faults`: stops, kills, errors and lost answers; in a race, its steps."""

    trials: int = 0
    faults: int = 0
    rows: int = 0
    lost: int = 0
    different: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count one trial."""
        self.trials += 1
        self.faults += verdict.stops
        self.rows += verdict.rows
        self.lost += sum(problem.startswith("lost ") for problem in verdict.problems)
        self.different += any(not problem.startswith("lost ") for problem in verdict.problems)
        self.failed += [(verdict.name, problem) for problem in verdict.problems[:1]]


def plan(seeds: int, thin: int) -> Iterator[Item]:
    """Yield everything that a long run tries, with so many seeds; `thin` storms and moments are one."""
    for seed in range(1, seeds + 1):
        yield from (Item("stop", ("folder", name, seed)) for name in SCENARIOS)
        yield from (Item("stops", ("folder", name, seed, chance)) for name in SCENARIOS for chance in range(20))
    yield from (Item("stop", ("s3", name, 1)) for name in _ON_S3)
    yield from (Item("kill", ("folder", name, seed)) for seed in (1, 2) for name in SCENARIOS)
    yield from (Item("kill", ("s3", name, 1)) for name in _ON_S3)
    yield from (Item("torn", ("folder", name, 1)) for name in SCENARIOS)
    yield from (Item("moment", ("folder", name, 1, chance)) for name in SCENARIOS for chance in range(-(-10 // thin)))
    races = range(len(RACES))
    yield from (
        Item("race", (place, race, chance))
        for place, most in (("folder", 15), ("s3", 4))
        for race in races
        for chance in range(most)
    )
    yield from (Item("overtaken", ("folder", race)) for race in races)
    yield from (
        Item("free", (place, race, chance)) for place in ("folder", "s3") for race in races for chance in range(3)
    )
    yield from (Item("storm", (name, 1, chance)) for name in network.JOBS for chance in range(-(-8 // thin)))
    yield from (Item("disk", (name, 1, how)) for name in SCENARIOS for how in disk.FAILURES)
    yield from (Item("database", (name, 1, how)) for name in database.JOBS for how in ("lost", "unanswered"))
    yield from (Item("control", (name,)) for name in CONTROLS)


def run(grounds: Grounds, item: Item, thin: int) -> list[Verdict]:
    """Run an item's trials; of those at each call, message or step of another process, one in `thin`."""
    words = tuple(map(str, item.words))
    if item.kind == "overtaken":
        return grounds.overtaken(words[0], int(words[1]), 3 * thin)
    if item.kind in ("stop", "kill", "torn"):
        return grounds.each(item.kind, words[0], words[1], int(words[2]), step=2 * thin if item.kind == "torn" else 1)
    if item.kind in ("disk", "database"):
        return grounds.each(
            item.kind, "folder", words[0], int(words[1]), words[2], step=2 if item.kind == "disk" else 1
        )
    return [grounds.one("/".join((item.kind, *words)))]


# --- two processes ----------------------------------------------------------------------------------------------

#: An item, what its trials showed, and for a control what caught it.
_Outcome: TypeAlias = "tuple[Item, list[Verdict], str | None]"
_grounds: list[Grounds] = []


def _begin(servers: Servers) -> None:
    logging.getLogger("condvest").setLevel(logging.CRITICAL)
    _grounds.append(Grounds(servers))


def _work(item: Item, thin: int) -> _Outcome:
    if item.kind == "control":
        return item, [], caught(_grounds[0], str(item.words[0]))
    verdicts = run(_grounds[0], item, thin)
    for verdict in verdicts:
        verdict.trace.clear()
    return item, verdicts, None


def _outcome(item: Item, future: Future[_Outcome]) -> _Outcome:
    """Return what came of an item; trials that ended with an error have failed, by their name. That of a control is raised."""
    error = future.exception()
    if error is None or item.kind == "control":
        return future.result()
    return item, [Verdict("/".join(map(str, (item.kind, *item.words))), 0, problems=[repr(error)])], None


def _finish(_: int) -> None:
    time.sleep(0.5)  # so that each process takes one
    while _grounds:
        _grounds.pop().__exit__()


def run_all(servers: Servers, seeds: int, thin: int) -> tuple[dict[str, Tally], dict[str, str | None]]:
    """Run the plan on two processes; return what came of each kind, and by control what caught it."""
    tallies, controls = {kind: Tally() for kind in KINDS}, dict[str, str | None]()
    spawn, started = multiprocessing.get_context("spawn"), time.monotonic()
    with ProcessPoolExecutor(_PROCESSES, mp_context=spawn, initializer=_begin, initargs=(servers,)) as pool:
        items = [*plan(seeds, thin)]
        begun = [(item, pool.submit(_work, item, thin)) for item in items]
        for done, (item, verdicts, found) in enumerate(starmap(_outcome, begun), 1):
            if item.kind == "control":
                controls[str(item.words[0])] = found
            for verdict in verdicts:
                tallies[item.kind].add(verdict)
                if verdict.problems:
                    print(f"FAILED {verdict.name}: {verdict.problems[0]}", flush=True)
            if done % 50 == 0:
                print(f"{done} of {len(items)} after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        list(pool.map(_finish, range(_PROCESSES)))
    return tallies, controls


def report(tallies: dict[str, Tally], controls: dict[str, str | None]) -> list[str]:
    """Return the report's lines, in Markdown."""
    lines = [
        "| trials | number | faults or steps | rows compared | rows lost | states that differ |",
        "|---|---|---|---|---|---|",
    ]
    for kind, tally in tallies.items():
        numbers = (tally.trials, tally.faults, tally.rows, tally.lost, tally.different)
        lines.append(f"| {KINDS[kind]} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    total = [
        sum(getattr(tally, name) for tally in tallies.values())
        for name in ("trials", "faults", "rows", "lost", "different")
    ]
    lines.append("| **all** | " + " | ".join(f"**{number:,}**" for number in total) + " |")
    lines += ["", "| null control | caught by |", "|---|---|"]
    lines += [f"| {name} | {(by or '**not caught**').partition(':')[0]} |" for name, by in controls.items()]
    return lines


def main(words: Sequence[str]) -> int:
    """Run trials, print what came of them, and return 0 when nothing was lost, nothing differed and every control was caught."""
    parser = argparse.ArgumentParser(
        prog="faults.trials", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a trial to run again, as a report names it")
    parser.add_argument("--seeds", type=int, default=6, help="how many worlds the enumerated stops run in (default: 6)")
    parser.add_argument(
        "--thin", type=int, default=1, help="of storms, calls, messages and steps try one in so many (default: 1)"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the report into a document, between its marks")
    asked = parser.parse_args(words)
    started = time.monotonic()
    with ExitStack() as stack:
        servers = Servers(stack.enter_context(running_s3_server()), stack.enter_context(running_postgres_server()))
        os.environ.update(servers.s3.environment())
        if asked.names:
            return _again(servers, asked.names)
        tallies, controls = run_all(servers, asked.seeds, asked.thin)
    lines = report(tallies, controls)
    lines += [
        "",
        f"--seeds {asked.seeds} --thin {asked.thin}: {(time.monotonic() - started) / 60:.0f} minutes on {_PROCESSES} processes.",
    ]
    print("\n".join(lines))
    if asked.write is not None:
        _write(asked.write, lines)
    is_good = all(not tally.failed for tally in tallies.values()) and all(controls.values())
    return 0 if is_good and len(controls) == len(CONTROLS) else 1


def _again(servers: Servers, names: Sequence[str]) -> int:
    logging.getLogger("condvest").setLevel(logging.CRITICAL)
    with Grounds(servers) as grounds:
        verdicts = [grounds.one(name) for name in names]
    for verdict in verdicts:
        print("\n".join([verdict.name, *(f"  {line}" for line in verdict.trace)]))
        print("\n".join(f"  FAILED: {problem}" for problem in verdict.problems) or "  nothing lost, nothing differs")
    return int(any(verdict.problems for verdict in verdicts))


def _write(path: Path, lines: Sequence[str]) -> None:
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    path.write_text(f"{before}{_BEGIN}\n" + "\n".join(lines) + f"\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
