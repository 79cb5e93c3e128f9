"""Many sessions at once, answered in order: the part that both sources of sessions share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import date
from typing import Any, Final, TypeVar

from condvest.aio import io_loop
from condvest.domain.answers import SessionAnswer, SessionRefusal
from condvest.errors import DataError, NotEntitled, NotYetAvailable, TransientError
from condvest.log import warn
from condvest.sources.retry import RetryPolicy

T = TypeVar("T")
Outcome = SessionAnswer | SessionRefusal
Fetch = Callable[[date], Coroutine[Any, Any, SessionAnswer]]

#: So many sessions in a row that failed after all retries mean that the provider is down.
GIVE_UP_AFTER: Final = 5


class EmptyAnswerError(DataError):
    """A good answer without a row, where a session has thousands."""


def fetch_in_order(sessions: Sequence[date], fetch: Fetch, *, in_flight: int) -> Iterator[Outcome]:
    """Yield one outcome a session, in order, at most `in_flight` sessions ahead of the consumer.

    `fetch` runs on the I/O loop. What a session's own failure raises becomes a refusal: NotEntitled `not_entitled`, any
    other `pending` with the reason. After `GIVE_UP_AFTER` transient failures in a row the rest is refused unasked.
    ConfigError and TimeOver are raised at once; requests still in flight are then cancelled, as they are when the consumer
    stops.
    """
    asked = failed_in_a_row = 0
    with closing(_in_order((_outcome(fetch, session) for session in sessions), in_flight)) as outcomes:
        for outcome, transient in outcomes:
            asked += 1
            failed_in_a_row = failed_in_a_row + 1 if transient else 0
            yield outcome
            if failed_in_a_row == GIVE_UP_AFTER and asked < len(sessions):
                warn("provider_down", failed_in_a_row=failed_in_a_row, not_asked=len(sessions) - asked)
                break
    for session in sessions[asked:]:
        yield SessionRefusal(
            session, "pending", f"not asked: provider is down ({GIVE_UP_AFTER} sessions in a row failed)"
        )


async def with_rows(policy: RetryPolicy, ask: Callable[[], Awaitable[SessionAnswer]]) -> SessionAnswer:
    """Return the first answer that has rows; EmptyAnswerError when none of `empty_attempts` has.

    On a scheduled session an empty answer is no holiday: under load the provider sends one for a valid session too.
    """

    async def asked() -> SessionAnswer:
        answer = await ask()
        if answer.parsed.total == 0:
            warn("answer_empty", session=answer.session)
            raise EmptyAnswerError(
                f"empty answer for {answer.session}, a session, {policy.empty_attempts} times; ask again later"
                " or record the closure if the exchange did not open"
            )
        return answer

    async with policy.in_time("a session"):
        return await policy.caller(policy.empty_attempts)(EmptyAnswerError, asked)


async def _outcome(fetch: Fetch, session: date) -> tuple[Outcome, bool]:
    """Return what became of one session, and whether it failed in a way that may pass."""
    try:
        return await fetch(session), False
    except NotEntitled as error:
        return SessionRefusal(session, "not_entitled", str(error)), False
    except (NotYetAvailable, DataError) as error:
        return SessionRefusal(session, "pending", str(error)), False
    except TransientError as error:
        return SessionRefusal(session, "pending", str(error)), True


def _in_order(works: Iterable[Coroutine[Any, Any, T]], in_flight: int) -> Generator[T, None, None]:
    """Run coroutines on the I/O loop, `in_flight` at once, and yield their results in order."""
    loop = io_loop()
    window: deque[asyncio.Task[T]] = deque()
    try:
        for work in works:
            window.append(loop.run(_started(work)))
            if len(window) == in_flight:
                yield _first(window)
        while window:
            yield _first(window)
    finally:
        loop.settle(_cancelled(window))


def _first(window: deque[asyncio.Task[T]]) -> T:
    # The task stays in the window until its result is here: an interrupt in between must find it to cancel it.
    result = io_loop().run(_finished(window[0]))
    window.popleft()
    return result


async def _started(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    return asyncio.create_task(work)


async def _finished(task: asyncio.Task[T]) -> T:
    return await task


async def _cancelled(tasks: Iterable[asyncio.Task[T]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
