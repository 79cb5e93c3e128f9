"""A store and a state that tell of each write before it happens, one object at a time: whoever listens may stop it there.

Reads are told of as well, one a call, so that two processes can be made to take turns between them.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeVar, cast

from condvest.errors import TransientError
from condvest.state import State
from condvest.storage.store import ALWAYS, Meter, ObjectInfo, PutResult, Store, Stored, When

T = TypeVar("T")

#: Called with what is about to happen, such as `write bronze/...`; what it raises stops the process there.
Listener = Callable[[str], object]

#: What who wants the lock of fetches tells before each try.
WAITS: Final = "read state.exclusive"
_STATE_WRITES = frozenset({"record", "expect", "replace_ledger", "upsert_symbols", "start_run", "finish_run"})
_STATE_READS = frozenset({"sessions", "ledger_is_empty", "symbol_watermarks", "symbols", "stale_details"})


class SteppedStore:
    """A `Store` whose batches go object by object, so that a stop leaves any part of them written."""

    def __init__(self, inner: Store, listener: Listener) -> None:
        """Stand before a store."""
        self._inner = inner
        self._tell = listener

    @property
    def url(self) -> str:
        """Where the store is."""
        return self._inner.url

    @property
    def meter(self) -> Meter:
        """What the store did so far."""
        return self._inner.meter

    def get(self, key: str) -> Stored:
        """Return one object."""
        self._tell(f"read {key}")
        return self._inner.get(key)

    def map(self, keys: Iterable[str], decode: Callable[[str, Stored | None], T]) -> Iterator[T]:
        """Read and decode objects."""
        self._tell("read many")
        return self._inner.map(keys, decode)

    def list(self, prefix: str, *, cuts: Iterable[str] = ()) -> Iterator[ObjectInfo]:
        """List what lies there."""
        self._tell(f"read {prefix}")
        return self._inner.list(prefix, cuts=cuts)

    def list_many(self, prefixes: Iterable[str]) -> Iterator[ObjectInfo]:
        """List what lies under several prefixes, one by one."""
        for prefix in prefixes:
            yield from self.list(prefix)

    def holds(self, prefix: str) -> bool:
        """Say whether anything lies there."""
        return next(iter(self.list(prefix)), None) is not None

    def put(self, key: str, data: bytes, *, when: When = ALWAYS) -> str:
        """Write one object."""
        self._tell(f"write {key}")
        return self._inner.put(key, data, when=when)

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> int:
        """Write objects, one by one."""
        written = 0
        for key, data in items:
            self._tell(f"write {key}")
            written += self._inner.put_many([(key, data)])
        return written

    def put_many_if(self, items: Iterable[tuple[str, bytes, When]]) -> builtins.list[PutResult]:
        """Write objects whose condition holds, one by one."""
        results: builtins.list[PutResult] = []
        for item in items:
            self._tell(f"write {item[0]}")
            results += self._inner.put_many_if([item])
        return results

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete objects, one by one."""
        deleted = 0
        for key in keys:
            self._tell(f"write {key} (deleted)")
            deleted += self._inner.delete_many([key])
        return deleted


class SteppedState:
    """A `State` whose transactions are told of."""

    def __init__(self, inner: State, listener: Listener) -> None:
        """Stand before a state."""
        self._inner = inner
        self._tell = listener

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the fetchers' lock. Who does not get it at once tells so each time that it tries again."""
        while True:
            self._tell(WAITS)
            with ExitStack() as stack:
                try:
                    stack.enter_context(self._inner.exclusive(wait_seconds=0))
                except TransientError:
                    continue
                yield
                return

    def __getattr__(self, name: str) -> Any:
        """Tell of a transaction that is about to begin; everything else is the state's own."""
        if name in _STATE_WRITES:
            self._tell(f"write state.{name}")
        elif name in _STATE_READS:
            self._tell(f"read state.{name}")
        return getattr(self._inner, name)


def stepped_state(inner: State, listener: Listener) -> State:
    """Return a state that tells; it has every method of `State`."""
    return cast(State, SteppedState(inner, listener))
