"""A store on S3, or on any server that speaks it, and one in memory: both through obstore.

Credentials of S3 are what obstore finds: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; a web identity
token (AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN); the container endpoints of ECS and EKS; the metadata of an EC2
instance. Profiles and `~/.aws` files are not read: `aws configure export-credentials --format env` turns one into
variables. AWS_SKIP_SIGNATURE=true reads a public bucket.
"""

from __future__ import annotations

import asyncio
import builtins
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.store import MemoryStore, S3Store

from condvest.aio import in_order, io_loop
from condvest.errors import CommitConflict, CommitUnknown, ConfigError, ObjectNotFound, TransientError
from condvest.storage.keys import check_key, check_keys, check_prefix
from condvest.storage.listing import Span, first_keys
from condvest.storage.pacing import Pace, Patience
from condvest.storage.refusals import cleared, cleared_call
from condvest.storage.store import ALWAYS, PAGE, Meter, ObjectInfo, PutResult, Stored, When

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ClientConfig, S3Config

T = TypeVar("T")

_DELETES = 4  # bulk deletes in flight
_DECODERS = 2
_TRIES = 6  # of a conditional write whose answers are lost and that did not take place
_FIRST_PAUSE_SECONDS = 0.1  # doubles with each try
_CLIENT: ClientConfig = {"connect_timeout": "5s", "timeout": "2min", "read_timeout": "30s"}
_PATIENCE = Patience()
_DIRECTORY_BUCKET = "--x-s3"  # how S3 makes the names of these end
_memories: dict[str, MemoryStore] = {}
_memories_guard = threading.Lock()


def s3_store(bucket: str, prefix: str, *, region: str, endpoint_url: str | None, concurrency: int) -> ObjectStore:
    """Open a bucket, or what lies under a prefix in it. Makes no request: a missing bucket shows at first use."""
    if prefix:
        check_key(prefix)
    url = f"s3://{bucket}/{prefix}".rstrip("/")
    if endpoint_url is not None and (not endpoint_url.startswith(("http://", "https://")) or "@" in endpoint_url):
        raise ConfigError(
            "AWS_ENDPOINT_URL (not repeated here) is no plain http:// or https:// address: write https://host:port, and "
            "give credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    client: ClientConfig = {**_CLIENT, "allow_http": endpoint_url is not None and endpoint_url.startswith("http://")}
    config: S3Config = {"region": region}
    if endpoint_url is not None:
        config["aws_endpoint_url_s3"] = endpoint_url  # the one that wins over all of obstore's own variables

    if bucket.endswith(_DIRECTORY_BUCKET):
        raise ConfigError(
            f"bucket {bucket!r} is a directory bucket, which lists in no order and whose ETags do not follow from the content;"
            " give a general purpose bucket"
        )
    # The client tries once: what it tries again inside, nobody outside can slow down, and a conditional write could meet
    # the trace of its own first try and take a race that it won for lost.
    store = cleared_call(
        url, lambda: S3Store(bucket, config=config, client_options=client, retry_config={"max_retries": 0})
    )
    return ObjectStore(store, url=url, prefix=prefix, concurrency=concurrency)


def memory_store(name: str, *, concurrency: int) -> ObjectStore:
    """Open a store that lives as long as the process; the same name is the same store."""
    with _memories_guard:
        memory = _memories.setdefault(name, MemoryStore())
    return ObjectStore(memory, url=f"memory://{name}", prefix="", concurrency=concurrency)


class ObjectStore:
    """A `Store` over a client of obstore; never more than `concurrency` requests in flight, fewer while the server is busy."""

    def __init__(self, client: S3Store | MemoryStore, *, url: str, prefix: str, concurrency: int) -> None:
        """Wrap a client that tries each request once."""
        if concurrency < 1:
            raise ConfigError(f"concurrency {concurrency}: at least one request must be in flight; give 1 or more")
        self.url = url
        self.meter = Meter()
        self.pace = Pace(concurrency)
        self._patience = _PATIENCE
        self._client = client
        self._base = f"{prefix}/" if prefix else ""
        self._concurrency = concurrency
        self._loop = io_loop()
        # Kept, not made anew by each `map`: a read that was cancelled too late must still find it.
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="condvest-decode")

    def get(self, key: str) -> Stored:
        """Return one object; see `Store.get`."""
        stored = self._loop.run(self._read(check_key(key)))
        if stored is None:
            raise ObjectNotFound(f"object {key!r} is not in lake {self.url}: write it first, or list what is there")
        return stored

    def map(self, keys: Iterable[str], decode: Callable[[str, Stored | None], T]) -> Iterator[T]:
        """Read objects at the same time and decode them in two threads; see `Store.map`."""

        async def work(key: str) -> T:
            stored = await self._read(key)
            return await asyncio.get_running_loop().run_in_executor(self._decoders, decode, key, stored)

        return in_order(lambda key: self._loop.start(work(check_key(key))), keys, ahead=self._concurrency)

    def put(self, key: str, data: bytes, *, when: When = ALWAYS) -> str:
        """Write one object; see `Store.put`."""
        etag = self._loop.run(self._write(check_key(key), data, when)).etag
        if etag is None:
            raise CommitConflict(f"object {key!r} changed since it was read: another writer was first; read again")
        return etag

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> int:
        """Write objects at the same time; see `Store.put_many`."""
        return sum(1 for _ in self._write_all((key, data, ALWAYS) for key, data in items))

    def put_many_if(self, items: Iterable[tuple[str, bytes, When]]) -> builtins.list[PutResult]:
        """Write objects whose condition holds at the same time; see `Store.put_many_if`."""
        return [*self._write_all(items)]

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete objects, a thousand at a request; see `Store.delete_many`."""
        paths = (self._base + check_key(key) for key in keys)
        pages = iter(lambda: [*islice(paths, PAGE)], [])
        return sum(in_order(lambda page: self._loop.start(self._delete(page)), pages, ahead=_DELETES, finish=True))

    def list(self, prefix: str, *, cuts: Iterable[str] = ()) -> Iterator[ObjectInfo]:
        """List from the first key and behind each cut at the same time, then sort; see `Store.list`.

        Takes about 400 bytes of memory an object. Begun at several keys, the first page of each is asked for at once; only what
        reaches no other's first key goes on.
        """
        check_prefix(prefix)
        spans = [self._span(prefix, after=after) for after in (None, *check_keys(cuts))]
        for _ in in_order(lambda span: self._loop.start(self._take_page(span)), spans, ahead=self._concurrency):
            pass
        firsts = first_keys(spans)
        parts = in_order(lambda span: self._loop.start(self._rest(span, firsts)), spans, ahead=self._concurrency)
        yield from _by_key(info for part in parts for info in part)

    def list_many(self, prefixes: Iterable[str]) -> Iterator[ObjectInfo]:
        """List several prefixes at the same time; see `Store.list_many`."""

        def start(prefix: str) -> Future[builtins.list[ObjectInfo]]:
            return self._loop.start(self._rest(self._span(check_prefix(prefix)), {}))

        for found in in_order(start, prefixes, ahead=self._concurrency):
            yield from _by_key(found)

    def holds(self, prefix: str) -> bool:
        """List one page and no more; see `Store.holds`."""
        return self._loop.run(self._ask_again(lambda: self._first(self._base + check_prefix(prefix))))

    async def _first(self, prefix: str) -> bool:
        self.meter.add(lists=1)
        async for page in obstore.list(self._client, prefix, chunk_size=1):
            return len(page) > 0
        return False

    def _span(self, prefix: str, *, after: str | None = None) -> Span:
        return Span(self._client, self.meter, base=self._base, prefix=prefix, after=after)

    async def _take_page(self, span: Span) -> None:
        await self._ask_again(span.take_page)

    async def _rest(self, span: Span, firsts: Mapping[str, Span]) -> builtins.list[ObjectInfo]:
        while span.goes_on(firsts):
            await self._take_page(span)
        return span.found

    async def _read(self, key: str) -> Stored | None:
        async def whole() -> Stored:
            self.meter.add(gets=1)
            answer = await obstore.get_async(self._client, self._base + key)
            # Its place in line is held until the body is there; a body that is cut short is a failure of the request.
            stored = Stored((await answer.bytes_async()).to_bytes(), answer.meta["e_tag"] or "")
            self.meter.add(bytes_in=len(stored.data))
            return stored

        try:
            return await self._ask_again(whole)
        except ObjectNotFound:
            return None

    def _write_all(self, items: Iterable[tuple[str, bytes, When]]) -> Iterator[PutResult]:
        def start(item: tuple[str, bytes, When]) -> Future[PutResult]:
            key, data, when = item
            return self._loop.start(self._write(check_key(key), data, when))

        return in_order(start, items, ahead=self._concurrency, finish=True)

    async def _write(self, key: str, data: bytes, when: When) -> PutResult:
        return PutResult(key, await self._send(key, data) if when == ALWAYS else await self._settle(key, data, when))

    async def _send(self, key: str, data: bytes, *, when: When = ALWAYS) -> str:
        """Write; `CommitConflict` when the condition does not hold. Only without a condition it is tried again."""
        mode: PutMode = "create" if when.absent else "overwrite" if when.etag is None else {"e_tag": when.etag}

        async def put() -> str:
            self.meter.add(puts=1, bytes_out=len(data))
            # One request whatever the size (S3 takes 5 GB): the ETag then is the content's.
            answer = await obstore.put_async(self._client, self._base + key, data, mode=mode, use_multipart=False)
            return answer["e_tag"] or ""

        return await (self._ask_again(put) if when == ALWAYS else self._ask(put))

    async def _settle(self, key: str, data: bytes, when: When) -> str | None:
        """Write if the condition holds; return the ETag, or None when another writer was first.

        When the answer is lost, the object tells what happened: if it holds our content, that content is committed,
        whoever wrote it; if it is as the condition wants it, the write is tried again; anything else is another
        writer's. Nothing is ever deleted to find out.
        """
        for number in range(_TRIES):
            try:
                return await self._send(key, data, when=when)
            except CommitConflict:
                return None
            except TransientError as error:
                lost = error
            await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2**number)
            try:
                there = await self._read(key)
            except TransientError as error:
                raise CommitUnknown(
                    f"object {key!r}: a write's answer was lost and reading back failed ({error}); run the job again"
                ) from lost
            if there is not None and there.data == data:
                return there.etag
            unchanged = there is None if when.absent else there is not None and there.etag == when.etag
            if not unchanged:
                return None
        raise lost

    async def _delete(self, paths: builtins.list[str]) -> int:
        async def delete() -> None:
            self.meter.add(deletes=1)
            await obstore.delete_async(self._client, paths)

        await self._ask_again(delete)
        return len(paths)

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make one request in its turn; see `cleared` for what it raises."""
        return await self.pace.run(lambda: cleared(self.url, request()))

    async def _ask_again(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request as often as patience lasts; each try waits for its turn."""
        return await self._patience.ask(lambda: self._ask(request))


def _by_key(found: Iterable[ObjectInfo]) -> Iterable[ObjectInfo]:
    """Return each key once, ascending: not every server lists in that order."""
    return sorted({info.key: info for info in found}.values(), key=lambda info: info.key)
