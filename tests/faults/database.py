"""Trials with a database that is cut off: the connection ends at one of the messages of a job, before or after it counts."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import make_url

from condvest.errors import CondvestError
from condvest.state import State
from faults.lakes import Address, link_files
from faults.outcome import Outcome, different, held, lost, outcome_of
from faults.scenarios import SCENARIOS
from faults.site import Site
from faults.stops import Verdict
from servers.postgres import PostgresServer

#: Jobs that write to the database.
JOBS: Final = ("fetch-evening", "fetch-morning", "backfill", "fetch-meta", "record", "rebuild")
Moment = Literal["lost", "unanswered"]
_PIECE_BYTES: Final = 1 << 16


class Cutter:
    """A way to a server on loopback that ends a connection when so many messages went to the server.

    `lost`: the last one does not arrive. `unanswered`: it does, and nobody hears what came of it.
    """

    def __init__(self, port: int) -> None:
        """Lead to a port."""
        self._port = port
        self._door = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._left: int | None = None
        self._moment: Moment = "lost"
        self.messages = 0
        self.is_cut = False
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._door.getsockname()[1])

    def cut_at(self, number: int | None, moment: Moment) -> None:
        """Cut at the message of this number from now on (from 0); None: at none."""
        self._left, self._moment = number, moment

    def close(self) -> None:
        """Take no more connections; the thread that waits for one ends."""
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                threading.Thread(target=self._lead, args=(client,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            is_silent = threading.Event()
            answers = threading.Thread(target=self._answer, args=(client, server, is_silent), daemon=True)
            answers.start()
            self._ask(client, server, is_silent)
            answers.join()

    def _ask(self, client: socket.socket, server: socket.socket, is_silent: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(_PIECE_BYTES):
                is_hit = self._is_hit()
                if is_hit and self._moment == "lost":
                    break
                if is_hit:
                    is_silent.set()
                server.sendall(data)
                if is_hit:
                    server.shutdown(socket.SHUT_WR)  # what was sent counts there, although its sender is gone
                    return
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _answer(self, client: socket.socket, server: socket.socket, is_silent: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(_PIECE_BYTES):
                if not is_silent.is_set():
                    client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _is_hit(self) -> bool:
        with self._lock:
            self.messages += 1
            if self._left is None:
                return False
            self._left -= 1
            if self._left >= 0:
                return False
            self._left, self.is_cut = None, True
            return True


class DatabaseTrials:
    """Lakes in a folder with their state on a PostgreSQL server; each trial has a copy of both."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        """Take a server and a folder for the lakes."""
        self._server = server
        self._folder = folder
        self._numbers = (f"{os.getpid()}_{number}" for number in count())  # two processes may share the server
        self._made: dict[tuple[str, int], tuple[Address, str]] = {}
        self._clean: dict[tuple[str, int], tuple[Outcome, int]] = {}

    def clean(self, scenario: str, seed: int) -> tuple[Outcome, int]:
        """Return what one run without a cut leaves, and how many messages it sent."""
        if (scenario, seed) not in self._clean:
            with self._copy(scenario, seed) as (address, cutter), address.site(scenario, seed) as site:
                SCENARIOS[scenario].job(site)
                messages = cutter.messages
                self._clean[scenario, seed] = outcome_of(site), messages
        return self._clean[scenario, seed]

    def at_each_message(self, scenario: str, seed: int, moment: Moment, *, step: int = 1) -> Iterator[Verdict]:
        """Cut at each message of a job in turn (each `step`-th of them), to the last."""
        for number in range(0, self.clean(scenario, seed)[1], step):
            yield self.at_message(scenario, seed, moment, number)

    def at_message(self, scenario: str, seed: int, moment: Moment, number: int) -> Verdict:
        """Cut at the message of this number (from 0), then run the job again."""
        verdict = Verdict(f"database/{scenario}/{seed}/{moment}/{number}", 0)
        clean, _ = self.clean(scenario, seed)
        with self._copy(scenario, seed) as (address, cutter):
            cutter.cut_at(number, moment)
            try:
                with address.site(scenario, seed) as site:
                    report = SCENARIOS[scenario].job(site)
                    if not getattr(report, "left", None):
                        verdict.problems += [
                            f"all was said to be well: {line}" for line in different(outcome_of(site), clean)
                        ]
            except CondvestError as error:
                verdict.trace.append(f"{type(error).__name__}: {error}")
            verdict.stops = int(cutter.is_cut)
            cutter.cut_at(None, moment)  # the run that follows is not to be hit
            with address.site(scenario, seed) as site:
                before = held(site)
                SCENARIOS[scenario].job(site)
                found = outcome_of(site)
                verdict.rows = clean.rows
                verdict.problems += [f"lost {bar}" for bar in lost(before, held(site))] + different(found, clean)
        return verdict

    def _original(self, scenario: str, seed: int) -> tuple[Address, str]:
        if (scenario, seed) not in self._made:
            name = f"original_{next(self._numbers)}"
            self._server.run(f"CREATE DATABASE {name}")
            address = Address(str(self._folder / name / "lake"), self._server.url(name))
            with State.open(address.state_url, migrate=True) as state:
                SCENARIOS[scenario].before(Site(address.store(), state, seed=seed))
            self._made[scenario, seed] = address, name
        return self._made[scenario, seed]

    @contextmanager
    def _copy(self, scenario: str, seed: int) -> Iterator[tuple[Address, Cutter]]:
        original, template = self._original(scenario, seed)
        name = f"copy_{next(self._numbers)}"
        self._server.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        lake = self._folder / name / "lake"
        link_files(Path(original.lake_url), lake)
        cutter = Cutter(self._server.port)
        url = make_url(self._server.url(name)).set(port=cutter.port, query={"sslmode": "disable"})
        try:
            yield replace(original, lake_url=str(lake), state_url=url.render_as_string(hide_password=False)), cutter
        finally:
            cutter.close()
            self._server.run(f"DROP DATABASE {name} WITH (FORCE)")
