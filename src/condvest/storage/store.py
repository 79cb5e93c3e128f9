"""What the lake asks of a place that keeps objects; `opening` knows which place a URL names.

One protocol, three implementations (a folder, S3, memory), one suite of tests. Keys are relative paths with `/`
between their parts; `keys.check_key` says which are allowed. Errors of the libraries underneath never leave a
store: an object that is certainly absent is `ObjectNotFound`, a refusal or a wrong setting `ConfigError`, a failure
that may pass `TransientError`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

#: Keys that S3 lists or deletes at one request.
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class When:
    """The condition under which a write takes place. Use `ALWAYS`, `IF_ABSENT` or `if_match(etag)`."""

    absent: bool = False
    etag: str | None = None


ALWAYS = When()
IF_ABSENT = When(absent=True)


def if_match(etag: str) -> When:
    """Return the condition that the object is still the one that was read with this ETag."""
    return When(etag=etag)


@dataclass(frozen=True, slots=True)
class Stored:
    """An object's bytes and the ETag that names this content of this key."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One line of a listing."""

    key: str
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of one conditional write: its new ETag, or None when another writer was first."""

    key: str
    etag: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests and bytes up to one moment. `later - earlier` gives what a piece of work took."""

    gets: int = 0
    puts: int = 0
    deletes: int = 0
    lists: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(**{name: count - getattr(earlier, name) for name, count in asdict(self).items()})


class Meter:
    """Counts what a store asks of its backend, from any thread.

    `gets`, `puts`, `deletes` and `lists` are requests, whatever their outcome, and each further try is one more: each page
    of a listing (1,000 keys) is one, in a folder as on S3, so that a folder tells what S3 would bill; each bulk delete (1,000
    keys) is one on S3, each file in a folder. `bytes_in` came from the store, `bytes_out` went to it.
    """

    def __init__(self) -> None:
        """Start at nothing."""
        self.gets = self.puts = self.deletes = self.lists = self.bytes_in = self.bytes_out = 0
        self._lock = threading.Lock()

    def add(
        self, *, gets: int = 0, puts: int = 0, deletes: int = 0, lists: int = 0, bytes_in: int = 0, bytes_out: int = 0
    ) -> None:
        """Count some requests."""
        with self._lock:
            self.gets += gets
            self.puts += puts
            self.deletes += deletes
            self.lists += lists
            self.bytes_in += bytes_in
            self.bytes_out += bytes_out

    def snapshot(self) -> Counts:
        """Return the counts so far, all of the same moment."""
        with self._lock:
            return Counts(self.gets, self.puts, self.deletes, self.lists, self.bytes_in, self.bytes_out)


class Store(Protocol):
    """A place that keeps objects under keys. Every method may be called from any thread.

    Each raises `ConfigError` for a key that breaks the rules of `check_key` and for access refused, and
    `TransientError` when the outside fails. A reader sees an object whole, as one writer wrote it, or not at all.
    """

    @property
    def url(self) -> str:
        """Where the store is; never holds a credential."""
        ...

    @property
    def meter(self) -> Meter:
        """What this store has asked of its backend so far."""
        ...

    def get(self, key: str) -> Stored:
        """Return one object; `ObjectNotFound` when there is certainly none."""
        ...

    def map(self, keys: Iterable[str], decode: Callable[[str, Stored | None], T]) -> Iterator[T]:
        """Read objects and yield `decode(key, stored)` of each in the order of the keys; None means absent.

        Keys are consumed lazily, a bounded number ahead of the consumer; `decode` runs in worker threads. The first
        error, of a read or of `decode`, ends the iteration.
        """
        ...

    def put(self, key: str, data: bytes, *, when: When = ALWAYS) -> str:
        """Write one object and return its new ETag. It is durable when this returns.

        Raises `CommitConflict` when the condition does not hold (nothing was written), `CommitUnknown` when a
        conditional write's answer was lost and reading back failed as well. In a folder and in memory every write has
        an ETag of its own; on S3 the ETag follows from the content, so `if_match` there means "still holds what was
        read".
        """
        ...

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> int:
        """Write objects whatever lies there and return their number. All are durable when this returns.

        Items are consumed lazily. They become visible one by one, in no promised order, except that of several items
        with one key the last stays. An error leaves some written and some not; writing all again is safe.
        """
        ...

    def put_many_if(self, items: Iterable[tuple[str, bytes, When]]) -> list[PutResult]:
        """Write each object if its condition holds; the results stand in the order of the items.

        A lost race is a result without ETag, not an error. Errors otherwise, and durability, as in `put_many`.
        """
        ...

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete objects and return the number of keys given; absent ones are fine. Idempotent."""
        ...

    def list(self, prefix: str, *, cuts: Iterable[str] = ()) -> Iterator[ObjectInfo]:
        """Yield what lies under a prefix (it ends with `/`, or is empty), recursively, by ascending key, each key once.

        The order is that of the keys' UTF-8 bytes. A listing that takes long may miss what others write meanwhile.

        `cuts` are keys behind which it may begin at the same time, where a page is known only by the one before it. They change
        how long it takes and how many requests, never what is yielded: they may be absent, equal, or under another prefix. Best
        are keys with somewhat fewer than `PAGE` others between them.
        """
        ...

    def list_many(self, prefixes: Iterable[str]) -> Iterator[ObjectInfo]:
        """Yield what lies under each of some prefixes, in the order of the prefixes, each as `list` does.

        Prefixes are consumed lazily, a bounded number ahead of the consumer.
        """
        ...

    def holds(self, prefix: str) -> bool:
        """Say whether anything lies under a prefix (it ends with `/`, or is empty): one request, however much there is."""
        ...
