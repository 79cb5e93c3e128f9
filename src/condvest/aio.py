"""One event loop in a background thread, so that plain functions can use async libraries, inside a notebook too."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from contextvars import Context
from functools import cache
from itertools import islice
from typing import TypeVar, TypeVarTuple, Unpack

from condvest.errors import ConfigError

K = TypeVar("K")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_END_SECONDS = 5.0
_REST_SECONDS = 0.1


class _Loop(asyncio.SelectorEventLoop):
    """Counts the threads that are handing something to it: one may still be at it when what it brought is already used."""

    handing = 0

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *arguments: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Hand over one callback; see `asyncio.AbstractEventLoop`."""
        self.handing += 1  # no other thread has its turn within such a line, nor between the last one and the return
        try:
            return super().call_soon_threadsafe(callback, *arguments, context=context)
        finally:
            self.handing -= 1


class LoopThread:
    """An asyncio loop that runs in a daemon thread of its own. Calls may come from any thread but the loop's.

    Neither the thread nor those of client libraries live on in a forked child, where a call would wait for ever.
    """

    def __init__(self) -> None:
        """Start the thread; it ends with the process."""
        self._loop = _Loop()
        self._was_cancelled = self._has_ended = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="condvest-io", daemon=True)
        self._thread.start()
        atexit.register(self._end)

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run one coroutine to its end and return what it returns, or raise what it raises."""
        return self.start(work).result()

    def settle(self, work: Coroutine[object, object, object]) -> None:
        """Run one coroutine to its end; on the loop's own thread, which must not wait for itself, only start it.

        For the end of a generator: the garbage collector may bring it about on any thread, and after the loop's end, which has
        cancelled all that ran: then nothing would ever answer.
        """
        if self._has_ended:
            work.close()
            return
        started = self.start(work)
        if threading.current_thread() is not self._thread:
            started.result()

    def start(self, work: Coroutine[object, object, T]) -> Future[T]:
        """Start one coroutine and return what will hold its result; ConfigError in a forked child."""
        if os.getpid() != self._process:
            work.close()
            raise ConfigError(
                f"process {os.getpid()} was forked from one that had opened S3 or another server, whose threads do not live on"
                " in it; start processes with multiprocessing.get_context('spawn'), or open nothing before the fork"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(self._note)
        return future

    def _note(self, done: Future[T]) -> None:
        self._was_cancelled = self._was_cancelled or done.cancelled()

    def _end(self) -> None:
        """Cancel what is under way, end the thread, and wait until the threads of client libraries have left Python.

        One that is still there while the interpreter is taken down aborts the process, with all its work done. It brings an
        answer, or it learns that its request was cancelled, which nothing tells of: then it is given a moment.
        """

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_END_SECONDS) if tasks else None

        if os.getpid() != self._process:
            return
        if self._thread.is_alive():
            self.run(cancel_all())
            self._has_ended = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_END_SECONDS)
        if self._was_cancelled:
            time.sleep(_REST_SECONDS)
        end = time.monotonic() + _END_SECONDS
        while self._loop.handing and time.monotonic() < end:
            time.sleep(0.001)


@cache
def io_loop() -> LoopThread:
    """Return the process's one background loop."""
    return LoopThread()


def in_order(start: Callable[[K], Future[T]], items: Iterable[K], *, ahead: int, finish: bool = False) -> Iterator[T]:
    """Start work on each item and yield the results in the order of the items.

    Items are consumed lazily; at most `ahead` (1 or more) results are under way or waiting for the consumer. The first
    error ends the iteration, as does a consumer that stops. Work under way is then cancelled, or with `finish` waited
    for: a write must not take effect after its caller went on.
    """
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
            waiting.append(start(item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        if finish:
            wait(waiting)
        for future in waiting:
            future.cancel()


def in_chunks(pool: Executor, work: Callable[[K], T], items: Iterable[K], *, ahead: int, size: int = 4) -> Iterator[T]:
    """Do small pieces of work in a pool and yield the results in the order of the items.

    As `in_order`, but items are handed over `size` at a time, since that costs more than a small piece of work does; at most
    `ahead` times as many are under way. What came before the first error in its own handful is yielded before it is raised.
    """
    source, under_way = iter(items), deque[tuple[Future[None], list[T]]]()
    try:
        while True:
            while len(under_way) < ahead and (part := [*islice(source, size)]):
                done: list[T] = []
                under_way.append((pool.submit(done.extend, map(work, part)), done))
            if not under_way:
                return
            future, done = under_way[0]
            wait([future])
            yield from done  # up to an error, which is raised now
            future.result()
            under_way.popleft()
    finally:
        for future, _ in under_way:
            future.cancel()
