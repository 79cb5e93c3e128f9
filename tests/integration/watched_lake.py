"""A store that tells of every write before it happens: a test can stop the process there, or let another writer go first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from condvest.storage.store import ALWAYS, Meter, ObjectInfo, PutResult, Store, Stored, When

T = TypeVar("T")


class Killed(BaseException):
    """The process is gone: nothing after this line happened. No job catches it."""


def pass_by(key: str) -> None:
    """Do nothing about a read or a write."""


class Lake:
    """A `Store` that tells of every write and delete before it happens, so that a test can stop or race it.

    Objects go one by one, so that a stop leaves any part of them written. `touched` has the keys in order.
    """

    def __init__(self, store: Store) -> None:
        """Stand before a store; everything passes at first."""
        self.store = store
        self.touched: list[str] = []
        self.before_write: Callable[[str], object] = pass_by
        self.on_read: Callable[[str], object] = pass_by
        self.spoiled: dict[str, int] = {}

    def kill_at(self, number: int | None) -> None:
        """Stop the process just before its write number `number` from now on (0 is the next one); None: never."""
        left = iter(range(number or 0))

        def stop(key: str) -> None:
            if number is not None and next(left, None) is None:
                raise Killed(key)

        self.before_write = stop

    def first(self, key: str, other: Callable[[], object]) -> None:
        """Let another writer go once, just before the next write of `key`."""

        def race(written: str) -> None:
            if written == key:
                self.before_write = pass_by
                other()

        self.before_write = race

    def spoil(self, key: str, *, times: int = 1) -> None:
        """Answer the next reads of `key` with as many other bytes, at each read others."""
        self.spoiled[key] = times

    def refuse(self, key: str, error: Exception) -> None:
        """Answer each read of `key` with an error; `on_read = pass_by` ends it."""

        def fail(read: str) -> None:
            if read == key:
                raise error

        self.on_read = fail

    @property
    def url(self) -> str:
        """Where the store is."""
        return self.store.url

    @property
    def meter(self) -> Meter:
        """What the store did so far."""
        return self.store.meter

    def get(self, key: str) -> Stored:
        """Return one object."""
        self.on_read(key)
        return self._as_read(key, self.store.get(key))

    def map(self, keys: Iterable[str], decode: Callable[[str, Stored | None], T]) -> Iterator[T]:
        """Read and decode objects."""

        def checked(key: str, stored: Stored | None) -> T:
            self.on_read(key)
            return decode(key, stored if stored is None else self._as_read(key, stored))

        return self.store.map(keys, checked)

    def put(self, key: str, data: bytes, *, when: When = ALWAYS) -> str:
        """Write one object."""
        self._tell(key)
        return self.store.put(key, data, when=when)

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> int:
        """Write objects, one by one."""
        written = 0
        for key, data in items:
            self._tell(key)
            written += self.store.put_many([(key, data)])
        return written

    def put_many_if(self, items: Iterable[tuple[str, bytes, When]]) -> list[PutResult]:
        """Write objects whose condition holds, one by one."""
        results: list[PutResult] = []
        for key, data, when in items:
            self._tell(key)
            results += self.store.put_many_if([(key, data, when)])
        return results

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete objects, one by one."""
        deleted = 0
        for key in keys:
            self._tell(key)
            deleted += self.store.delete_many([key])
        return deleted

    def list(self, prefix: str, *, cuts: Iterable[str] = ()) -> Iterator[ObjectInfo]:
        """List what lies there."""
        return self.store.list(prefix, cuts=cuts)

    def list_many(self, prefixes: Iterable[str]) -> Iterator[ObjectInfo]:
        """List what lies under several prefixes."""
        return self.store.list_many(prefixes)

    def holds(self, prefix: str) -> bool:
        """Say whether anything lies there."""
        return self.store.holds(prefix)

    def _as_read(self, key: str, stored: Stored) -> Stored:
        left = self.spoiled.get(key, 0)
        if not left:
            return stored
        self.spoiled[key] = left - 1
        return Stored(bytes(byte ^ (0x5A + left) for byte in stored.data), stored.etag)

    def _tell(self, key: str) -> None:
        self.before_write(key)
        self.touched.append(key)
