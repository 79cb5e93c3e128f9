"""Work measured as processes: wall and CPU seconds, peak memory, and what each says of itself.

Nothing large is imported here: a child's peak memory is never less than what this process holds when it starts one.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
CONDVEST = str(Path(sys.executable).parent / "condvest")
PEERS = str(ROOT / ".venv-peers" / "bin" / "python")
#: The instant that counts as now: the evening of the market's last session.
NOW = "2025-11-20T22:00:00Z"


@dataclass(frozen=True)
class Measured:
    """One process. `seconds`: what counts; `said`: the JSON object that it printed."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    said: Mapping[str, Any]

    @property
    def traffic(self) -> Mapping[str, int]:
        """Requests and bytes of a job, by their names in `condvest --json`; empty for what is no job."""
        found: Mapping[str, int] = self.said.get("traffic", {})
        return found


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Measured:
    """Run a process to its end and measure all of it; RuntimeError with its last words when it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **(environment or {})})
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        said, complaint = out.read().decode(), err.read().decode()
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}: {complaint[-2000:]}{said[-2000:]}")
    begin = said.find("{")
    return Measured(
        seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, json.loads(said[begin:]) if begin >= 0 else {}
    )


def job(lake: Path | str, *arguments: str, environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command of condvest as its users do; what counts is the whole process."""
    return run([CONDVEST, "--json", "--lake", str(lake), "--now", NOW, *arguments], environment=environment)


def alone(whole: Measured) -> Measured:
    """Return a job's measure with the seconds of its work alone, as it reports them: without the start of the process."""
    return replace(whole, seconds=float(whole.said["seconds"]))


def tool(
    script: str, *arguments: str, python: str = sys.executable, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run a floor, a peer or a step of a job by a script beside this one; what counts is what it says: its work alone."""
    whole = run([python, str(HERE / script), *arguments], environment=environment)
    return Measured(float(whole.said.get("seconds", whole.seconds)), whole.cpu_seconds, whole.peak_mib, whole.said)


@dataclass
class Board:
    """All that was measured, by name, in the order in which names came up."""

    rounds: int
    runs: dict[str, list[Measured]] = field(default_factory=dict)

    def in_turn(self, works: Mapping[str, Callable[[], Measured]], *, rounds: int | None = None) -> None:
        """Run works one after the other, all of them as often as there are rounds."""
        for number in range(self.rounds if rounds is None else rounds):
            for name, work in works.items():
                found = work()
                print(f"  {number + 1}: {name:58} {found.seconds:9.3f} s {found.peak_mib:7.0f} MiB", flush=True)
                self.runs.setdefault(name, []).append(found)

    def seconds(self, name: str) -> float:
        """Return the median of what counts."""
        return statistics.median(found.seconds for found in self.runs[name])

    def peak_mib(self, name: str) -> float:
        """Return the largest peak memory."""
        return max(found.peak_mib for found in self.runs[name])

    def last(self, name: str) -> Measured:
        """Return the last run."""
        return self.runs[name][-1]


def copy_lake(lake: Path, to: Path, *, without: Sequence[str] = ()) -> Path:
    """Copy a lake in place of what lies at `to`, without some of its folders; return `to`.

    Files are hard links, so that ETags stay what manifests and checkpoints know; a store never writes into a file. What is no
    object (the state) is copied.
    """
    shutil.rmtree(to, ignore_errors=True)

    def copied(source: str, target: str) -> str:
        if "/.condvest/" in source:
            return shutil.copy2(source, target)
        os.link(source, target)
        return target

    shutil.copytree(lake, to, copy_function=copied, ignore=lambda _, names: [name for name in names if name in without])
    return to
