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
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.store import MemoryStore, S3Store

from condvest.aio import in_order, io_loop
from condvest.errors import CommitConflict, CommitUnknown, ConfigError, ObjectNotFound, TransientError
from condvest.storage.keys import check_key, check_prefix
from condvest.storage.pacing import Pace, Patience
from condvest.storage.refusals import cleared, cleared_call
from condvest.storage.store import ALWAYS, PAGE, Meter, ObjectInfo, PutResult, Stored, When

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obstore import ListStream, ObjectMeta, PutMode
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

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List all pages, then sort; see `Store.list`. Takes about 300 bytes of memory an object."""
        yield from self.list_many([prefix])

    def list_many(self, prefixes: Iterable[str]) -> Iterator[ObjectInfo]:
        """List several prefixes at the same time; see `Store.list_many`."""

        def start(prefix: str) -> Future[builtins.list[ObjectInfo]]:
            return self._loop.start(self._list(self._base + check_prefix(prefix)))

        for found in in_order(start, prefixes, ahead=self._concurrency):
            yield from found

    def holds(self, prefix: str) -> bool:
        """List one page and no more; see `Store.holds`."""
        return self._loop.run(self._ask_again(lambda: self._first(self._base + check_prefix(prefix))))

    async def _first(self, prefix: str) -> bool:
        self.meter.add(lists=1)
        async for page in obstore.list(self._client, prefix, chunk_size=1):
            return len(page) > 0
        return False

    async def _list(self, prefix: str) -> builtins.list[ObjectInfo]:
        """Return all pages, sorted by key: not every server does as S3 does, some list `a/b` before `a.txt`.

        A page that fails is asked for again as what follows the last key that came. Every server goes on from a key in its own
        order, whatever that is.
        """
        found: builtins.list[ObjectInfo] = []
        pages: ListStream[Sequence[ObjectMeta]] | None = None

        async def page() -> bool:
            """Take one page; say whether another one may follow."""
            nonlocal pages
            is_first = pages is None
            offset = self._base + found[-1].key if found else None
            stream = pages or obstore.list(self._client, prefix, offset=offset, chunk_size=PAGE)
            pages = None  # a stream that failed has ended
            self.meter.add(lists=1)
            try:
                metas = await anext(stream)
            except StopAsyncIteration:
                if not is_first:
                    self.meter.add(lists=-1)  # the full page before was the last, and it did not ask
                return False
            found.extend(
                ObjectInfo(meta["path"].removeprefix(self._base), meta["size"], meta["e_tag"] or "") for meta in metas
            )
            pages = stream
            return len(metas) == PAGE

        while await self._ask_again(page):
            pass
        return sorted(found, key=lambda info: info.key)

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
