"""How many requests a store has in flight, and how often it asks again: fewer at once while the server is busy.

A server of S3 that gets too many requests answers some of them with 503 `SlowDown`. Asking again later helps that one request;
sending fewer at a time helps all. `Pace` does the second for a whole store, `Patience` the first for one request.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from condvest.errors import CondvestError, TransientError
from condvest.log import warn
from condvest.storage.refusals import NoCredentials, RequestFailed, Throttled

T = TypeVar("T")


class Pace:
    """The most requests in flight at once: a window that shrinks by half when the server is busy and grows back slowly.

    Additive increase, multiplicative decrease, as TCP does it (Chiu and Jain 1989; RFC 5681, section 3.1): each answer
    makes the window 1 / window wider, so about one request wider with each window full of answers, up to `most`. A request
    that the server turns away (`Throttled`) makes it half of what is in flight, and never less than 1. Requests that were
    in flight then tell of the same trouble: until one that began later is turned away, it does not shrink again (as in
    RFC 6582). Other failures say nothing about it.

    A request holds its place from when it is sent until its answer has come, not while its caller waits for anything else,
    and waits in line for it in the order of calls. Belongs to one event loop; not for several threads.
    """

    def __init__(self, most: int) -> None:
        """Begin with the window open to `most`, 1 or more."""
        self.most = most
        self.window = float(most)
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._reductions = 0
        self._lowest = most

    async def run(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make one request when its turn comes; return what it returns, or raise what it raises."""
        await self._turn()
        reductions = self._reductions
        try:
            result = await request()
        except TransientError as error:
            if isinstance(error, Throttled) and reductions == self._reductions:
                self._shrink()
            raise
        except CondvestError:  # an answer too: absent, refused, changed
            self._widen(reductions)
            raise
        else:
            self._widen(reductions)
            return result
        finally:
            self._leave()

    async def _turn(self) -> None:
        if self.in_flight < int(self.window) and not self._waiting:
            self.in_flight += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had come already: the next one takes it
                self._leave()
            raise

    def _leave(self) -> None:
        self.in_flight -= 1
        while self._waiting and self.in_flight < int(self.window):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    def _widen(self, reductions: int) -> None:
        if reductions == self._reductions:
            self.window = min(float(self.most), self.window + 1 / self.window)
            if self.window == self.most:
                self._lowest = self.most

    def _shrink(self) -> None:
        self._reductions += 1
        self.window = max(1.0, min(self.window, self.in_flight) / 2)
        if int(self.window) < self._lowest:
            # Told at each new low, not at each turn of the saw: that is a few times until it is open again.
            self._lowest = int(self.window)
            warn("s3_slow_down", in_flight=self._lowest, setting=self.most)


@dataclass(frozen=True, slots=True)
class Patience:
    """When to stop asking: after `tries` in all, and not again once `seconds` have gone by since the first one began.

    Before try n + 1 it waits a random time, up to `first_pause_seconds` x 2^(n - 1) and `longest_pause_seconds` at most: "full
    jitter" (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015), so that many who failed together do not come
    back together.
    """

    tries: int = 7
    seconds: float = 60.0
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0

    async def ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request until it ends otherwise than by a failure that may pass; return or raise what the last try did.

        Only for requests that may be made twice: reads, and writes and deletions without a condition.
        """
        begun = time.monotonic()
        for number in range(self.tries - 1):
            try:
                return await request()
            except (RequestFailed, NoCredentials):
                if time.monotonic() - begun > self.seconds:
                    raise
            longest = min(self.longest_pause_seconds, self.first_pause_seconds * 2**number)
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - spreads load, keeps no secret
        return await request()
