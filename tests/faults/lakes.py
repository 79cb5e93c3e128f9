"""Lakes to try jobs on: each scenario's lake is made once, and every trial gets a copy of its own.

A copy has the ETags of its original, so that manifests and checkpoints are believed as they would be. In a folder the files
are hard links (the store never writes into a file); on S3 an ETag follows from the content.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

from condvest.state import State
from condvest.storage.opening import open_store
from condvest.storage.store import Store
from faults.scenarios import SCENARIOS
from faults.site import Site

_OWN = ".condvest"


@dataclass(frozen=True)
class Address:
    """Where a lake and its state lie; another process opens the same."""

    lake_url: str
    state_url: str
    fsync: bool = False

    def store(self, *, endpoint_url: str | None = None) -> Store:
        """Open the lake; one on S3 by another way, if need be."""
        return open_store(self.lake_url, fsync=self.fsync, endpoint_url=endpoint_url)

    @contextmanager
    def site(self, scenario: str, seed: int, *, minutes_later: float = 0.0) -> Iterator[Site]:
        """Open all of it, the world being as the scenario left it, or some minutes later."""
        with State.open(self.state_url, migrate=False) as state:
            site = Site(self.store(), state, seed=seed, is_open=False)
            SCENARIOS[scenario].before(site)
            site.is_open, site.delay = True, timedelta(minutes=minutes_later)
            yield site


@dataclass(frozen=True)
class _Original:
    lake_url: str
    state: bytes


class Lakes:
    """The originals of one place: a folder in memory, or an S3 server (`s3_url` is a prefix there)."""

    def __init__(self, folder: Path, s3_url: str | None = None) -> None:
        """Keep everything in a folder, which has to be there."""
        self.folder = folder
        self.s3_url = s3_url
        self._made: dict[tuple[str, int], _Original] = {}

    @property
    def kind(self) -> str:
        """`folder` or `s3`."""
        return "s3" if self.s3_url else "folder"

    @contextmanager
    def copy(self, scenario: str, seed: int) -> Iterator[Address]:
        """Make a lake as the scenario left it, for one trial; it is gone with the block."""
        original = self._original(scenario, seed)
        address = self._new()
        _state_file(address).write_bytes(original.state)
        if self.s3_url:
            source = open_store(original.lake_url)
            address.store().put_many((info.key, source.get(info.key).data) for info in source.list(""))
        else:
            link_files(Path(original.lake_url), Path(address.lake_url))
        try:
            yield address
        finally:
            shutil.rmtree(_state_file(address).parent)

    def _original(self, scenario: str, seed: int) -> _Original:
        if (scenario, seed) not in self._made:
            address = self._new()
            _state_file(address).write_bytes(_empty_state())
            with State.open(address.state_url, migrate=False) as state:
                SCENARIOS[scenario].before(Site(address.store(), state, seed=seed))
            self._made[scenario, seed] = _Original(address.lake_url, _state_file(address).read_bytes())
        return self._made[scenario, seed]

    def _new(self) -> Address:
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        url = f"{self.s3_url}/{folder.name}" if self.s3_url else str(folder / "lake")
        return Address(url, f"sqlite:///{folder}/state.sqlite")


@contextmanager
def temporary_lakes(s3_url: str | None = None) -> Iterator[Lakes]:
    """Keep lakes in a new folder, in memory where the machine has such a place; it is gone with the block."""
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="condvest-trials-", dir=fast) as folder:
        yield Lakes(Path(folder), s3_url)


def _state_file(address: Address) -> Path:
    return Path(address.state_url.removeprefix("sqlite:///"))


def link_files(source: Path, target: Path) -> None:
    """Make a copy of a lake that shares its files. Safe: the store never writes into a file."""
    for folder, _, names in os.walk(source):
        if _OWN in Path(folder).parts:
            continue
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True)
        for name in names:
            os.link(Path(folder, name), there / name)


@contextmanager
def empty_state() -> Iterator[State]:
    """Open a state with nothing in it, for as long as the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.sqlite")
        path.write_bytes(_empty_state())
        with State.open(f"sqlite:///{path}", migrate=False) as state:
            yield state


@cache
def _empty_state() -> bytes:
    """Return an empty state database: making one takes ten times as long as copying it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite"
        State.open(f"sqlite:///{path}", migrate=True).close()
        return path.read_bytes()
