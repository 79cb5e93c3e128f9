"""Where trials take place: lakes in a folder and on an S3 server, real processes, databases; each made when first needed."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from faults.crashes import CrashTrials
from faults.database import DatabaseTrials, Moment
from faults.disk import DiskTrials
from faults.lakes import Lakes, temporary_lakes
from faults.network import NetworkTrials
from faults.nursery import Nursery, open_nursery
from faults.races import RaceTrials
from faults.stops import StopTrials, Verdict
from servers.postgres import PostgresServer
from servers.seaweed import BUCKET, S3Server


@dataclass(frozen=True)
class Servers:
    """Servers that run already; the environment says how to reach the S3 server."""

    s3: S3Server
    postgres: PostgresServer


class Grounds:
    """All kinds of trials, for one process. A context manager: what was made goes with it."""

    def __init__(self, servers: Servers) -> None:
        """Take servers; nothing is made yet."""
        self._servers = servers
        self._stack = ExitStack()

    def __enter__(self) -> Grounds:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def nursery(self) -> Nursery:
        """Where real processes come from."""
        return self._stack.enter_context(open_nursery())

    @cached_property
    def _folder(self) -> Lakes:
        return self._stack.enter_context(temporary_lakes())

    @cached_property
    def _s3(self) -> Lakes:
        return self._stack.enter_context(temporary_lakes(f"s3://{BUCKET}/trials"))

    def lakes(self, kind: str) -> Lakes:
        """Return the lakes of a kind: `folder` or `s3`."""
        return self._s3 if kind == "s3" else self._folder

    @cached_property
    def _stops(self) -> dict[str, StopTrials]:
        return {kind: StopTrials(self.lakes(kind)) for kind in ("folder", "s3")}

    @cached_property
    def _crashes(self) -> dict[str, CrashTrials]:
        return {kind: CrashTrials(self.lakes(kind), self.nursery) for kind in ("folder", "s3")}

    @cached_property
    def _races(self) -> dict[str, RaceTrials]:
        return {kind: RaceTrials(self.lakes(kind), self.nursery) for kind in ("folder", "s3")}

    @cached_property
    def _network(self) -> NetworkTrials:
        return NetworkTrials(self.lakes("s3"), self._servers.s3.endpoint_url)

    @cached_property
    def _disk(self) -> DiskTrials:
        return DiskTrials(self.lakes("folder"))

    @cached_property
    def _database(self) -> DatabaseTrials:
        folder = Path(self._stack.enter_context(temporary_lakes()).folder)
        return DatabaseTrials(self._servers.postgres, folder)

    def overtaken(self, place: str, race: int, step: int) -> list[Verdict]:
        """Run a race with its first process held at each of its steps in turn."""
        return [*self._races[place].overtaken_at_each_step(race, step=step)]

    def each(self, kind: str, place: str, scenario: str, seed: int, how: str = "", step: int = 1) -> list[Verdict]:
        """Run every trial of a kind on one job: at each of its writes, calls or messages in turn."""
        if kind == "stop":
            return [*self._stops[place].at_each_write(scenario, seed)]
        if kind == "kill":
            return [*self._crashes[place].at_each_write(scenario, seed)]
        if kind == "torn":
            return [*self._crashes[place].at_each_call(scenario, seed, step=step)]
        if kind == "disk":
            return [*self._disk.at_each_call(scenario, seed, how, step=step)]
        return [*self._database.at_each_message(scenario, seed, _moment(how), step=step)]

    def one(self, name: str) -> Verdict:
        """Run the trial of this name, as reports print it."""
        kind, *words = name.split("/")
        if kind in ("race", "overtaken", "free"):
            races = self._races[words[0]]
            trial = {"race": races.gated, "overtaken": races.overtaken, "free": races.free}[kind]
            return trial(int(words[1]), int(words[2]))
        if kind == "storm":
            return self._network.storm(words[0], int(words[1]), int(words[2]))
        if kind == "disk":
            return self._disk.at_call(words[0], int(words[1]), words[2], int(words[3]))
        if kind == "database":
            return self._database.at_message(words[0], int(words[1]), _moment(words[2]), int(words[3]))
        place, scenario, seed, number = words[0], words[1], int(words[2]), int(words[3])
        stops, crashes = self._stops[place], self._crashes[place]
        of_kind = {
            "stop": stops.at_write,
            "stops": stops.at_random,
            "kill": crashes.at_write,
            "torn": crashes.at_call,
            "moment": crashes.at_any_moment,
        }
        return of_kind[kind](scenario, seed, number)


def _moment(text: str) -> Moment:
    return "lost" if text == "lost" else "unanswered"
