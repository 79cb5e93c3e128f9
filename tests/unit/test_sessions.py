"""Many sessions at once: what happens to requests whose consumer went away."""

from __future__ import annotations

import asyncio
from datetime import date

from condvest.aio import io_loop
from condvest.domain.answers import SessionAnswer
from condvest.errors import TransientError
from condvest.sources.sessions import fetch_in_order

DAYS = [date(2025, 11, day) for day in range(3, 8)]


def test_outcomes_that_are_given_up_on_the_loops_own_thread_keep_nobody_waiting() -> None:
    """The garbage collector may end them there: the loop goes on, and the requests in flight are cancelled."""
    cancelled: list[date] = []

    async def fetch(session: date) -> SessionAnswer:
        if session == DAYS[0]:
            raise TransientError("503")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(session)
            raise
        raise AssertionError("nobody waits so long")

    outcomes = fetch_in_order(DAYS, fetch, in_flight=3)
    assert next(outcomes).session == DAYS[0]
    io_loop().run(asyncio.sleep(0.01))  # until the others are under way

    async def give_up() -> None:
        outcomes.close()  # type: ignore[attr-defined]

    io_loop().start(give_up()).result(5)
    io_loop().run(asyncio.sleep(0.01))
    assert cancelled == DAYS[1:3]
