"""Real processes for trials, made fast: one process that has imported everything forks a child for each job.

A child opens its lake by itself and shares nothing with others. It can be run freely, or gated: then it asks before each
step and waits for the answer, so that whoever holds the other end decides who goes next, and when it dies.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from condvest.errors import CondvestError
from faults.lakes import Address
from faults.scenarios import JOBS
from faults.stepping import SteppedStore, stepped_state
from faults.torn import die_at_call
from faults.variants import VARIANTS

_LARGEST = 1 << 16


@dataclass(frozen=True)
class Request:
    """A job in a process of its own. `job` and `variant` are names; see `JOBS` and `VARIANTS`."""

    address: Address
    scenario: str
    seed: int
    job: str
    is_gated: bool = True
    variant: str = "sound"
    dies_at_call: int | None = None
    """Of the calls that change the disk, the one at which the process kills itself: in the middle of a batch."""
    minutes_later: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)

    def freely(self, *, dies_at_call: int | None = None) -> Request:
        """Return the same job without gates."""
        return replace(self, is_gated=False, dies_at_call=dies_at_call)


@dataclass
class Child:
    """One child as its parent sees it. `waits_at` is the step that it asks for; None while it runs, or when it has ended."""

    pid: int
    link: Connection
    waits_at: str | None = None
    ended: str | None = None
    """`done`, `failed` (with an error of condvest's), `broken` (with another one) or `killed`."""
    said: str = ""

    def advance(self) -> None:
        """Let the child take the step that it waits for, and wait until it asks for the next one or has ended."""
        if self.waits_at is not None:
            self.waits_at = None
            self.link.send("go")
        self.listen()

    def listen(self) -> None:
        """Wait until the child asks for something or has ended."""
        try:
            kind, said = self.link.recv()
        except (EOFError, ConnectionResetError):
            self.ended = "killed"
            return
        if kind == "at":
            self.waits_at = said
        else:
            self.ended, self.said = kind, said

    def kill(self) -> None:
        """Kill the child now (SIGKILL) and wait until it is gone; one that has ended by itself stays as it ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        while self.ended is None:
            self.listen()


class Nursery:
    """Makes children."""

    def __init__(self, door: socket.socket) -> None:
        """Talk to the process that forks."""
        self._door = door

    def start(self, request: Request) -> Child:
        """Start a job; it runs to its first gate by itself, or freely to its end."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._door, [pickle.dumps(request)], [theirs.fileno()])
        pid = int(self._door.recv(_LARGEST))
        return Child(pid, Connection(ours.detach()))


@contextmanager
def open_nursery() -> Iterator[Nursery]:
    """Start the process that forks; it and its children end with the block."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "faults.nursery", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": path},
            stderr=subprocess.DEVNULL,  # the jobs' log; what breaks is told over the link
            start_new_session=True,
        )
    with ours:
        yield Nursery(ours)
    process.wait()


def _serve(door: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    while True:
        data, handles, _, _ = socket.recv_fds(door, _LARGEST, 1)
        if not data:
            return
        pid = os.fork()
        if pid == 0:
            door.close()
            link = Connection(handles[0])
            sys.excepthook = partial(_tell_bug, link)
            _live(pickle.loads(data), link)
            os._exit(0)
        os.close(handles[0])
        door.send(str(pid).encode())


def _tell_bug(link: Connection, *error: Any) -> None:
    """Send what nothing expects. A child that ends without a word counts as killed, which is what most trials expect."""
    link.send(("broken", "".join(traceback.format_exception(*error))))
    os._exit(1)


def _live(request: Request, link: Connection) -> None:
    os.environ.update(request.environment)

    def gate(what: str) -> None:
        link.send(("at", what))
        link.recv()

    outcome: tuple[str, Any]
    try:
        with request.address.site(request.scenario, request.seed, minutes_later=request.minutes_later) as site:
            VARIANTS[request.variant](site)
            if request.is_gated:
                site.store, site.state = SteppedStore(site.store, gate), stepped_state(site.state, gate)
            with die_at_call(request.dies_at_call):
                report = JOBS[request.job](site)
            outcome = "done", repr(getattr(report, "left", None) or "")
    except CondvestError as error:
        outcome = "failed", f"{type(error).__name__}: {error}"
    link.send(outcome)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
