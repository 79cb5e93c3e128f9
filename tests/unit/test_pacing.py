"""How many requests are in flight, and how often one is made again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest.errors import CommitConflict, ConfigError, ObjectNotFound, TransientError
from condvest.storage import pacing
from condvest.storage.pacing import Pace, Patience
from condvest.storage.refusals import NoCredentials, RequestFailed, Throttled

_OUTCOMES: dict[str, Exception | None] = {
    "done": None,
    "busy": Throttled("503"),
    "failed": RequestFailed("no connection"),
    "absent": ObjectNotFound("404"),
    "changed": CommitConflict("412"),
}
_NO_WAIT = Patience(first_pause_seconds=0.0)


class Server:
    """Requests that end when a test says so, in the order in which they came."""

    def __init__(self, most: int) -> None:
        """Stand behind a pace."""
        self.pace = Pace(most)
        self.open: list[asyncio.Future[None]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, requests: int = 1) -> None:
        """Let some more callers come."""
        self.tasks += [asyncio.create_task(self.pace.run(self._request)) for _ in range(requests)]
        await self._settle()

    async def answer(self, outcome: str, requests: int = 1) -> None:
        """End the oldest requests under way."""
        for _ in range(requests):
            request = self.open.pop(0)
            error = _OUTCOMES[outcome]
            request.set_result(None) if error is None else request.set_exception(error)
        await self._settle()

    async def end(self) -> list[BaseException | None]:
        """Answer all that is left, and return how each caller fared."""
        while self.open:
            await self.answer("done")
        return await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _request(self) -> None:
        self.open.append(asyncio.get_running_loop().create_future())
        await self.open[-1]

    async def _settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)


def played(most: int, play: Callable[[Server], Awaitable[None]]) -> None:
    """Run a test on a loop of its own; nothing is left in flight after it."""

    async def run() -> None:
        server = Server(most)
        await play(server)
        await server.end()
        assert server.pace.in_flight == 0
        await server.come()
        assert len(server.open) == 1
        await server.end()

    asyncio.run(run())


def test_the_setting_bounds_what_is_in_flight() -> None:
    """Who comes later waits, and goes in the order of coming."""

    async def play(server: Server) -> None:
        await server.come(10)
        assert (len(server.open), server.pace.in_flight) == (3, 3)
        await server.answer("done")
        assert server.pace.in_flight == 3
        assert await server.end() == [None] * 10

    played(3, play)


@pytest.mark.parametrize("outcome", ["failed", "absent", "changed"])
def test_other_trouble_does_not_slow_down(outcome: str) -> None:
    """A lost connection tells nothing of how busy the server is; absent and changed are answers."""

    async def play(server: Server) -> None:
        await server.come(8)
        await server.answer(outcome, 8)
        assert server.pace.window == 8

    played(8, play)


def test_a_busy_server_gets_half_of_what_was_in_flight() -> None:
    """All that were in flight then tell of one trouble; one that came later tells of another."""

    async def play(server: Server) -> None:
        await server.come(8)
        await server.answer("busy", 8)
        assert server.pace.window == 4
        await server.come(8)
        assert len(server.open) == 4
        await server.answer("busy", 4)
        assert server.pace.window == 2
        assert len(server.open) == 2

    played(8, play)


def test_half_is_of_what_was_in_flight_not_of_what_might_have_been() -> None:
    """Three that are turned away from an open window leave one and a half."""

    async def play(server: Server) -> None:
        await server.come(3)
        await server.answer("busy")
        assert server.pace.window == 1.5

    played(64, play)


def test_it_grows_back_with_answers_and_not_beyond() -> None:
    """About one more with each window full of answers; answers from before the trouble do not count."""

    async def play(server: Server) -> None:
        await server.come(8)
        await server.answer("busy")
        await server.answer("done", 7)
        assert server.pace.window == 4
        await server.come(5)
        await server.answer("done", 4)
        assert 4.8 < server.pace.window < 5
        for _ in range(60):
            await server.come()
            await server.answer("done")
        assert server.pace.window == 8

    played(8, play)


def test_one_at_a_time_is_the_least() -> None:
    """However busy the server is, the work goes on."""

    async def play(server: Server) -> None:
        for _ in range(10):
            await server.come(4)
            await server.answer("busy", len(server.open))
        assert server.pace.window == 1
        assert len(server.open) == 1

    played(8, play)


def test_who_gives_up_keeps_nobody_waiting() -> None:
    """One that is cancelled in line, or just as its turn has come, leaves its place to the next."""

    async def play(server: Server) -> None:
        await server.come(4)
        server.tasks[1].cancel()  # in line
        await server._settle()
        server.open.pop(0).set_result(None)
        while not server.tasks[0].done():
            await asyncio.sleep(0)
        server.tasks[2].cancel()  # its turn has come, and it does not know yet
        await server._settle()
        assert len(server.open) == 1
        fared = await server.end()
        assert [type(one) for one in fared] == [
            type(None),
            asyncio.CancelledError,
            asyncio.CancelledError,
            type(None),
        ]

    played(1, play)


def test_each_new_low_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not each request that is turned away, nor each turn of the saw."""

    async def play(server: Server) -> None:
        for _ in range(5):
            await server.come(8)
            await server.answer("busy", len(server.open))
            await server.answer("done", len(server.open))
        assert server.pace.window < 8

    played(8, play)
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"s3_slow_down in_flight={window} setting=8" for window in (4, 2, 1)]


@given(st.integers(1, 9), st.lists(st.one_of(st.integers(1, 12), st.sampled_from(sorted(_OUTCOMES))), max_size=60))
def test_bounds_hold_whatever_happens(most: int, steps: list[int | str]) -> None:
    """1 <= window <= setting; nobody is sent beyond the window, nobody waits while there is room, all come through."""

    async def play(server: Server) -> None:
        pace = server.pace
        for step in steps:
            before = pace.in_flight
            if isinstance(step, int):
                await server.come(step)
            elif server.open:
                await server.answer(step)
            waiting = sum(not task.done() for task in server.tasks) - pace.in_flight
            assert 1 <= pace.window <= most
            assert pace.in_flight == len(server.open) <= max(int(pace.window), before)
            assert waiting == 0 or pace.in_flight >= int(pace.window)
        fared = await server.end()
        assert not any(isinstance(one, asyncio.CancelledError) for one in fared)

    played(most, play)


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (RequestFailed("x"), 7),
        (Throttled("x"), 7),
        (NoCredentials("x"), 7),
        (TransientError("400"), 1),
        (ConfigError("x"), 1),
        (ObjectNotFound("x"), 1),
        (CommitConflict("x"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_may_pass_is_asked_again(error: Exception, times: int) -> None:
    """The last try's error comes out."""
    asked: list[int] = []

    async def request() -> None:
        asked.append(1)
        raise error

    with pytest.raises(type(error)):
        asyncio.run(_NO_WAIT.ask(request))
    assert len(asked) == times


def test_a_later_try_that_succeeds_counts() -> None:
    """What failed before is forgotten."""
    left = [RequestFailed("x"), Throttled("x")]

    async def request() -> str:
        if left:
            raise left.pop()
        return "done"

    assert asyncio.run(_NO_WAIT.ask(request)) == "done"


def test_patience_ends_with_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails after them is not asked again."""
    clock = iter([0.0, 59.0, 61.0])
    monkeypatch.setattr(pacing, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    asked: list[int] = []

    async def request() -> None:
        asked.append(1)
        raise RequestFailed("x")

    with pytest.raises(RequestFailed):
        asyncio.run(_NO_WAIT.ask(request))
    assert len(asked) == 2


def test_pauses_are_random_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to twice as long each time, as far as the longest."""
    bounds: list[float] = []

    def uniform(least: float, most: float) -> float:
        assert least == 0
        bounds.append(most)
        return 0.0

    monkeypatch.setattr(pacing, "random", SimpleNamespace(uniform=uniform))

    async def request() -> None:
        raise RequestFailed("x")

    with pytest.raises(RequestFailed):
        asyncio.run(Patience(longest_pause_seconds=1.0).ask(request))
    assert bounds == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
