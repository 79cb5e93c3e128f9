"""A second look at what cannot be read: a network may have spoiled the answer, and the object itself be sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from condvest.errors import DataError, ObjectNotFound, TransientError
from condvest.log import warn
from condvest.storage.store import IF_ABSENT, Store, Stored, When, if_match

T = TypeVar("T")

_READINGS: Final = 10


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """An object and its content; or why it has none, two readings in a row being the same; or neither: it is absent."""

    stored: Stored | None
    content: T | None = None
    error: DataError | None = None

    @property
    def when(self) -> When:
        """The condition for replacing what was read."""
        return if_match(self.stored.etag) if self.stored is not None else IF_ABSENT


def reads_the_same(store: Store, key: str, data: bytes) -> bool:
    """Say whether an object holds these bytes when it is read once more: if they cannot be read, it is the object that is bad."""
    again = _get(store, key)
    if again is not None and again.data == data:
        return True
    warn("file_read_again", key=key, reason="two readings of it differ")
    return False


def look(store: Store, key: str, decode: Callable[[Stored], T]) -> Look[T]:
    """Read an object and decode it; see `settled`."""
    return settled(store, key, _get(store, key), decode)


def settled(store: Store, key: str, stored: Stored | None, decode: Callable[[Stored], T]) -> Look[T]:
    """Decode an object that was read; one that gives a DataError is read until it decodes or reads the same twice in a row.

    TransientError after 10 readings that differ.
    """
    for _ in range(_READINGS):
        if stored is None:
            return Look(None)
        try:
            return Look(stored, decode(stored))
        except DataError as error:
            why = error
        again = _get(store, key)
        if again is not None and again.data == stored.data:
            return Look(again, None, why)
        warn("file_read_again", key=key, reason="two readings of it differ")
        stored = again
    raise TransientError(
        f"{key}: {_READINGS} readings of it differ, and none can be decoded; check the network, run again"
    )


def _get(store: Store, key: str) -> Stored | None:
    try:
        return store.get(key)
    except ObjectNotFound:
        return None
