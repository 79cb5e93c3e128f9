"""How often the outside is asked again, and how long to wait in between."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import stamina

from condvest.errors import TimeOver, TransientError
from condvest.log import warn

T = TypeVar("T")

# stamina announces each retry on its own logger; `request_failed` below says more. The root logger still gets both.
logging.getLogger("stamina").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to stop asking.

    A failed request is tried `attempts` times in all, waiting `wait_initial_seconds` (doubled each time, with jitter on
    top), at most `wait_max_seconds` at once, and not again once `total_timeout_seconds` have gone by (None: no limit).
    The defaults wait for more than a minute in all, the window of the provider's rate limit. An answer that is good
    but empty where rows are due is asked for `empty_attempts` times in all.

    `deadline` (on the clock of `time.monotonic`; None: none) ends everything: requests under way, waits and turns in line.
    """

    attempts: int = 6
    wait_initial_seconds: float = 2.0
    wait_max_seconds: float = 120.0
    total_timeout_seconds: float | None = 600.0
    empty_attempts: int = 3
    deadline: float | None = None

    @asynccontextmanager
    async def in_time(self, what: str) -> AsyncIterator[None]:
        """End what stands in the block at the deadline, wherever it is. TimeOver: it had to."""
        if self.deadline is None:
            yield
            return
        try:
            async with asyncio.timeout(self.deadline - time.monotonic()):
                yield
        except TimeoutError:
            raise TimeOver(f"{what}: no answer came in the time that was left; go on in a next call") from None

    def caller(self, attempts: int) -> stamina.AsyncRetryingCaller:
        """Return what calls an async function up to `attempts` times with these waits."""
        return stamina.AsyncRetryingCaller(
            attempts=attempts,
            timeout=self.total_timeout_seconds,
            wait_initial=self.wait_initial_seconds,
            wait_max=self.wait_max_seconds,
            wait_jitter=self.wait_initial_seconds,
        )


DEFAULT_RETRY: Final = RetryPolicy()


class BusyError(TransientError):
    """The server is busy and may have said for how many seconds (`after_seconds`, None when it did not)."""

    def __init__(self, message: str, after_seconds: float | None) -> None:
        """Keep the message and the wait that the server asked for."""
        super().__init__(message)
        self.after_seconds = after_seconds


async def retried(policy: RetryPolicy, what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` until it ends without a TransientError, and return its result.

    A wait that the server asked for is kept to; one beyond `wait_max_seconds` ends the attempts at once. Other errors
    are never retried.

    Raises:
        TransientError: all attempts failed; it says how many and why the last one did. TimeOver: the deadline came first.
    """
    failures = 0

    def again(error: Exception) -> bool | float:
        nonlocal failures
        if not isinstance(error, TransientError):
            return False
        failures += 1
        warn("request_failed", request=what, attempt=failures, reason=error)
        wait = error.after_seconds if isinstance(error, BusyError) else None
        if wait is None:
            return True
        return float(wait) if wait <= policy.wait_max_seconds else False

    try:
        async with policy.in_time(what):
            return await policy.caller(policy.attempts)(again, work)
    except TransientError as error:
        raise TransientError(
            f"{what}: {error}; gave up after attempt {failures}; run the command again later"
        ) from error
