"""A store and a state that a job dies at: after so many writes, the next one kills it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from condvest.state import State
from condvest.storage.store import ALWAYS, Meter, ObjectInfo, PutResult, Store, Stored, When

T = TypeVar("T")


class Killed(BaseException):
    """The process is gone: nothing after it runs, and no handler of errors catches it."""


class KillingStore:
    """A store that counts writes and deletes; when the last one allowed is done, the next kills."""

    def __init__(self, inner: Store) -> None:
        """Wrap a store; it kills nobody yet."""
        self._inner = inner
        self._left: int | None = None

    def kill_after(self, writes: int) -> None:
        """Allow so many more writes."""
        self._left = writes

    def spare(self) -> None:
        """Kill nobody."""
        self._left = None

    def spend(self) -> None:
        """Count one write; Killed when it is one too many."""
        if self._left is not None:
            if self._left == 0:
                raise Killed
            self._left -= 1

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._inner.url

    @property
    def meter(self) -> Meter:
        """What the store was asked."""
        return self._inner.meter

    def get(self, key: str) -> Stored:
        """Return one object."""
        return self._inner.get(key)

    def map(self, keys: Iterable[str], decode: Callable[[str, Stored | None], T]) -> Iterator[T]:
        """Read objects."""
        return self._inner.map(keys, decode)

    def put(self, key: str, data: bytes, *, when: When = ALWAYS) -> str:
        """Write one object."""
        self.spend()
        return self._inner.put(key, data, when=when)

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> int:
        """Write objects up to the one that kills."""
        return self._inner.put_many(items) if self._left is None else len([self.put(*item) for item in items])

    def put_many_if(self, items: Iterable[tuple[str, bytes, When]]) -> list[PutResult]:
        """Write objects up to the one that kills."""
        if self._left is None:
            return self._inner.put_many_if(items)
        return [result for item in items for result in self._put_if(item)]

    def _put_if(self, item: tuple[str, bytes, When]) -> list[PutResult]:
        self.spend()
        return self._inner.put_many_if([item])

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete objects up to the one that kills."""
        if self._left is None:
            return self._inner.delete_many(keys)
        count = 0
        for key in keys:
            self.spend()
            count += self._inner.delete_many([key])
        return count

    def list(self, prefix: str, *, cuts: Iterable[str] = ()) -> Iterator[ObjectInfo]:
        """List objects."""
        return self._inner.list(prefix, cuts=cuts)

    def list_many(self, prefixes: Iterable[str]) -> Iterator[ObjectInfo]:
        """List objects under several prefixes."""
        return self._inner.list_many(prefixes)

    def holds(self, prefix: str) -> bool:
        """Say whether anything lies there."""
        return self._inner.holds(prefix)


class KillingState:
    """A state whose transactions count as writes of a store, so that a job may die between data and ledger."""

    def __init__(self, inner: State, store: KillingStore) -> None:
        """Wrap a state."""
        self._inner = inner
        self._store = store

    def record(self, *args: Any, **options: Any) -> None:
        """Write ledger rows and watermarks."""
        self._store.spend()
        self._inner.record(*args, **options)

    def expect(self, *args: Any, **options: Any) -> None:
        """Record sessions as missing."""
        self._store.spend()
        self._inner.expect(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
