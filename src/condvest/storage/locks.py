"""Locks by key that hold against threads and against other processes."""

from __future__ import annotations

import threading
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from condvest.errors import TransientError

T = TypeVar("T")

_STRIPES = 64
_WAIT_SECONDS = 120.0  # a lock is held for one slice's renames: far below a second unless its holder is stopped


class StripedLocks:
    """64 lock files in a folder that exists by the time one is taken; each key belongs to one of them.

    A thread holds one at a time, so that nothing can wait in a circle. The kernel frees the locks of a dead process.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is made before a lock is taken."""
        self._folder = folder
        self._guard = threading.Lock()
        self._locks: dict[int, tuple[threading.Lock, FileLock]] = {}

    @staticmethod
    def by_stripe(items: Iterable[tuple[str, T]]) -> dict[int, list[tuple[str, T]]]:
        """Group items, each with its key first, by the lock of the key, in their order."""
        stripes: dict[int, list[tuple[str, T]]] = defaultdict(list)
        for item in items:
            stripes[zlib.crc32(item[0].encode(errors="surrogateescape")) % _STRIPES].append(item)
        return stripes

    @contextmanager
    def hold(self, stripe: int) -> Iterator[None]:
        """Hold one lock; `TransientError` when another process does not let go of it within two minutes."""
        threads, processes = self._pair(stripe)
        with threads:
            try:
                processes.acquire(timeout=_WAIT_SECONDS)
            except Timeout:
                raise TransientError(
                    f"lock {processes.lock_file}: another process holds it for over {_WAIT_SECONDS:.0f} s; "
                    "wait for it or end it, then try again"
                ) from None
            try:
                yield
            finally:
                processes.release()

    def _pair(self, stripe: int) -> tuple[threading.Lock, FileLock]:
        with self._guard:
            if stripe not in self._locks:
                path = self._folder / f"{stripe:02d}.lock"
                # No fall-back to marker files: those would outlive a killed process.
                lock = FileLock(path, thread_local=False, poll_interval=0.002, fallback_to_soft=False)
                self._locks[stripe] = (threading.Lock(), lock)
            return self._locks[stripe]
