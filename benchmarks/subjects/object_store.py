"""Jobs on a real S3 server at which each request takes 20 ms longer, beside the least that the same requests can take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from goals import Goal, at_least, at_most
from harness import HERE, ROOT, Measured, copy_lake, job, tool
from report import table
from sizes import Bench

from subjects.resampling import fresh
from subjects.session import session_file

DELAY_SECONDS = 0.020
IN_FLIGHT = 64
#: Eight to learn what there is, then months read, months written and a checkpoint written, one interval after the other.
_ROUND_TRIPS = 8 + 6 * 3
BUCKET = "s3://lake"
SESSION = "S3: write_bars, one session"
RAW_PUTS = "S3 floor: PUT of the same bytes"
DAY = "S3: condvest consolidate, one new session"
DAY_FEWER = "S3: condvest consolidate, one new session, 8 in flight"
REWRITE = "S3 floor: read all of bronze, write every data.parquet"
DAY_RESAMPLE = "S3: condvest resample, one new session"
TENTH_FULL = "S3, a tenth: condvest resample, from nothing"
TENTH_READ_WRITE = "S3 floor, a tenth: read every data.parquet, write the same silver bytes"
YEAR_RESAMPLE = "S3, a history of 1 y: condvest resample, one new session"
_FEWER = 8


@dataclass(frozen=True)
class Server:
    """Variables by which a client finds the server: directly, and at the address where each request takes longer."""

    direct: Mapping[str, str]
    slow: Mapping[str, str]
    questions: IO[str]
    answers: IO[str]

    def job(self, url: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Measured:
        """Run a command at the slow address, which then says of it: `in_flight` and `round_trips`."""
        return self._watched(lambda: job(url, *arguments, environment={**self.slow, **(environment or {})}))

    def tool(self, script: str, *arguments: str) -> Measured:
        """Run a floor or a step at the slow address."""
        return self._watched(lambda: tool(script, *arguments, environment=self.slow))

    def _watched(self, work: Callable[[], Measured]) -> Measured:
        self._count()
        found = work()
        counts = self._count()
        return replace(found, said={**found.said, **{name: counts[name] for name in ("round_trips", "in_flight")}})

    def _count(self) -> dict[str, int]:
        self.questions.write("\n")
        self.questions.flush()
        counts: dict[str, int] = json.loads(self.answers.readline())
        return counts


@dataclass(frozen=True)
class BucketLake:
    """A lake under a prefix of the bucket, and a folder with all that belongs there before a measurement."""

    url: str
    folder: Path


def measure(bench: Bench) -> list[Goal]:
    """Measure one session, an ordinary day of the whole market, also with a short history, and a full resample of a tenth."""
    with running_server(bench) as server:
        goals = [
            *_session(bench, server),
            *_day(bench, server),
            *_history(bench, server),
            *_full_resample(bench, server),
        ]
    bench.remarks.append(_remark(bench))
    return goals


@contextmanager
def running_server(bench: Bench) -> Iterator[Server]:
    """Start the server and its slow address; both end with the block."""
    program = [sys.executable, str(HERE / "object_server.py"), str(bench.folder)]
    program += ["--delay-ms", str(DELAY_SECONDS * 1000)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, env=variables, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        _ = bench.market, bench.one_year, bench.tenth  # made while the server starts
        said = process.stdout.readline()
        if not said:
            raise RuntimeError("the S3 server did not start; it says why above")
        found = json.loads(said)
        # A lake's state lies beside it in a folder only.
        state = {"XDG_STATE_HOME": str(bench.folder / "state")}
        yield Server({**found["direct"], **state}, {**found["slow"], **state}, process.stdin, process.stdout)


def _session(bench: Bench, server: Server) -> list[Goal]:
    file, ready = session_file(bench), fresh(bench, "session")
    tool("steps.py", "session", str(ready), str(file))
    numbers = iter(range(2 * bench.board.rounds))

    def url() -> str:
        return f"{BUCKET}/session-{next(numbers)}"

    bench.board.in_turn(
        {
            RAW_PUTS: lambda: server.tool("bucket.py", "put", url(), str(ready)),
            SESSION: lambda: server.tool("steps.py", "session", url(), str(file)),
        }
    )
    what = f"one session, {bench.size.session_symbols:,} symbols, S3"
    return [_ratio(bench, what, "x raw PUTs of the same bytes", SESSION, RAW_PUTS, 1.5)]


def _day(bench: Bench, server: Server) -> list[Goal]:
    board, lake = bench.board, _settled(bench, server, bench.market, "market")
    fewer = {"CONDVEST_CONCURRENCY": str(_FEWER)}
    board.in_turn(
        {
            REWRITE: lambda: server.tool("bucket.py", "rewrite", _restored(lake, server)),
            DAY: lambda: server.job(_restored(lake, server), "consolidate"),
            DAY_RESAMPLE: lambda: server.job(lake.url, "resample"),
        }
    )
    board.in_turn({DAY_FEWER: lambda: server.job(_restored(lake, server), "consolidate", environment=fewer)}, rounds=1)
    day, what = board.last(DAY), "consolidation, one session, S3"
    one_by_one = _requests(day) * DELAY_SECONDS
    return [
        _ratio(bench, what, "x the same requests by obstore alone", DAY, REWRITE, 4),
        at_least(what, "x faster than its requests one by one", one_by_one / board.seconds(DAY), 8),
        *(
            at_most(what, f"requests in flight, of {limit} allowed", int(board.last(name).said["in_flight"]), limit)
            for name, limit in ((DAY, IN_FLIGHT), (DAY_FEWER, _FEWER))
        ),
        at_most(
            "resample of one new session, S3",
            "round trips, whatever the market",
            int(board.last(DAY_RESAMPLE).said["round_trips"]),
            _ROUND_TRIPS,
        ),
    ]


def _history(bench: Bench, server: Server) -> list[Goal]:
    """Hold a day's requests with a year of history against those with all of it."""
    lake = _settled(bench, server, bench.one_year, "one-year")
    job(_restored(lake, server), "consolidate", environment=server.direct)
    bench.board.in_turn({YEAR_RESAMPLE: lambda: server.job(lake.url, "resample")}, rounds=1)
    short, long = bench.board.last(YEAR_RESAMPLE), bench.board.last(DAY_RESAMPLE)
    what = f"resample of one new session, S3, a history of {bench.size.years} y"
    return [
        at_most(what, "x the requests at 1 y, listings left out", _objects(long) / _objects(short), 1.05),
        at_most(what, "x the requests at 1 y", _requests(long) / _requests(short), 1.1),
    ]


def _full_resample(bench: Bench, server: Server) -> list[Goal]:
    board = bench.board
    lake = BucketLake(f"{BUCKET}/tenth", copy_lake(bench.tenth, bench.folder / "tenth-in-bucket", without=["silver"]))
    for checkpoint in lake.folder.glob("processing_metadata/silver_*"):
        checkpoint.unlink()
    job(_restored(lake, server), "consolidate", environment=server.slow)
    _taken(lake, server)
    board.in_turn(
        {
            TENTH_READ_WRITE: lambda: server.tool("bucket.py", "copy", _restored(lake, server), str(bench.tenth)),
            TENTH_FULL: lambda: server.job(_restored(lake, server), "resample"),
        }
    )
    what = "full resample, a tenth, S3"
    one_by_one = _requests(board.last(TENTH_FULL)) * DELAY_SECONDS
    return [
        _ratio(bench, what, "x the same requests by obstore alone", TENTH_FULL, TENTH_READ_WRITE, 5),
        at_least(what, "x faster than its requests one by one", one_by_one / board.seconds(TENTH_FULL), 5),
    ]


def _settled(bench: Bench, server: Server, lake: Path, rows: str) -> BucketLake:
    """Upload a lake of `Bench`, let its caches take the bucket's ETags, then add the session that is pending.

    In a folder an ETag follows from the file, on S3 from the content: to the jobs an uploaded lake is all new.
    """
    made = BucketLake(f"{BUCKET}/{lake.name}", copy_lake(lake, bench.folder / f"{lake.name}-in-bucket"))
    # Once at the address where it is measured: there it has a state now.
    job(_restored(made, server), "consolidate", environment=server.slow)
    job(made.url, "resample", environment=server.direct)
    _taken(made, server)
    tool("lakes.py", "pending", str(made.folder), "--rows", str(bench.folder / f"{rows}.parquet"))
    return made


def _taken(lake: BucketLake, server: Server) -> None:
    """Let the folder hold what the bucket does."""
    tool("bucket.py", "download", lake.url, str(lake.folder), environment=server.direct)


def _restored(lake: BucketLake, server: Server) -> str:
    """Let the bucket hold what belongs there; return its address."""
    tool("bucket.py", "upload", lake.url, str(lake.folder), environment=server.direct)
    return lake.url


def _ratio(bench: Bench, job_name: str, what: str, ours: str, floor: str, limit: float) -> Goal:
    return at_most(job_name, what, bench.board.seconds(ours) / bench.board.seconds(floor), limit)


def _objects(found: Measured) -> int:
    """Return how many requests were about one object."""
    return found.traffic["gets"] + found.traffic["puts"]


def _requests(found: Measured) -> int:
    return _objects(found) + found.traffic["lists"] + found.traffic["deletes"]


def _remark(bench: Bench) -> str:
    """Return the table of all that was measured at the slow address."""
    rows = []
    for name in (name for name in bench.board.runs if name.startswith("S3")):
        found = bench.board.last(name)
        requests = sum(found.traffic.get(kind, 0) for kind in ("gets", "puts", "lists", "deletes"))
        in_flight = _FEWER if name == DAY_FEWER else IN_FLIGHT
        bounds = (requests * DELAY_SECONDS / in_flight, requests * DELAY_SECONDS)
        counts = (requests, found.said["in_flight"], found.said["round_trips"])
        numbers = (*(f"{count:,}" for count in counts), f"{bench.board.seconds(name):.2f}")
        rows.append((name, *numbers, *(f"{bound:.2f}" for bound in bounds)))
    columns = ("work", "requests", "in flight", "round trips", "seconds", "delay, all in flight", "delay, one by one")
    return "\n\n".join(
        [
            f"## With {DELAY_SECONDS * 1000:.0f} ms a request",
            "A real S3 server on this machine, and before it an address at which each request takes longer. In flight: the"
            " most requests at the same time. Round trips: the most of which each began after the one before was answered;"
            " for a job that asks one by one that is all of them, on any machine. The last two columns are the seconds that"
            " the delay alone takes with as many requests in flight as the setting allows, and with one at a time.",
            table(columns, rows),
        ]
    )
