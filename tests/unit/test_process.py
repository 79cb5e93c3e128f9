"""The process of a job: set up once, never against what its user asked for, and ended as its work ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from condvest.process import ctrl_c_later

_TOLD = """
import gc, json, os, sys
from condvest import process
process.tune()
process.tune()
print(json.dumps([sys.getswitchinterval(), gc.get_threshold()[0], os.environ["OPENBLAS_NUM_THREADS"], "numpy" in sys.modules]))
"""

_SLOWLY_TOLD = """
import sys, threading, time
from asyncio.selector_events import BaseSelectorEventLoop
wake = BaseSelectorEventLoop._write_to_self
def wake_and_rest(loop):
    wake(loop)
    if threading.current_thread() is not threading.main_thread():
        time.sleep(0.2)
BaseSelectorEventLoop._write_to_self = wake_and_rest

class EndsSlowly:
    def __del__(self, rest=time.sleep):
        rest(0.5)
sys.kept = EndsSlowly()

from condvest.storage.objects import memory_store
store = memory_store("lake", concurrency=4)
store.put("key", b"data")
print(store.get("key").data.decode())
"""


_LEFT_HALF_READ = """
import asyncio, gc
from datetime import date
from condvest.errors import TransientError
from condvest.sources.sessions import fetch_in_order

async def fetch(session):
    if session.day > 3:
        await asyncio.sleep(60)
    raise TransientError("503")

outcomes = fetch_in_order([date(2025, 11, day) for day in (3, 4, 5)], fetch, in_flight=3)
print(next(outcomes).session)
gc.disable()
circle = [outcomes]
circle.append(circle)
del outcomes, circle
"""

_FORKED = """
import os, sys
from condvest.errors import ConfigError
from condvest.storage.objects import memory_store
before = memory_store("lake", concurrency=4)
before.put("key", b"data")
if (child := os.fork()) == 0:
    after = memory_store("lake", concurrency=4)
    for call in (lambda: before.get("key"), lambda: list(before.map(["key"], print)), lambda: after.get("key")):
        try:
            call()
        except ConfigError as error:
            print("spawn" in str(error))
    sys.exit(7)
ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(ended, before.get("key").data.decode())
"""


def _told(**environment: str) -> list[object]:
    kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", _TOLD], env={**kept, **environment}, capture_output=True, text=True, check=True
    )
    found: list[object] = json.loads(done.stdout)
    return found


def test_threads_take_turns_sooner_and_objects_that_live_long_are_left_alone() -> None:
    """Though it is set up twice; numpy, which reads the last setting, comes later."""
    assert _told() == [0.0005, 50_000, "1", False]


def test_what_the_user_set_stays() -> None:
    """An environment variable is the user's word."""
    assert _told(OPENBLAS_NUM_THREADS="2")[2] == "2"


def test_a_process_ends_well_while_a_thread_of_the_s3_client_still_gives_its_last_answer() -> None:
    """The answer is taken and the work done while that thread is not yet out of Python; on a busy machine it takes its time."""
    done = subprocess.run([sys.executable, "-c", _SLOWLY_TOLD], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "data\n", "")


def test_a_forked_child_is_told_that_it_cannot_go_on() -> None:
    """The threads that would answer it did not come along, so it would wait for ever; its parent goes on."""
    done = subprocess.run([sys.executable, "-c", _FORKED], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\nTrue\nTrue\n7 data\n", "")


def test_a_process_ends_although_it_left_requests_in_flight() -> None:
    """An error or Ctrl-C may keep the sessions' generator until Python is taken down, when the loop's thread is gone."""
    done = subprocess.run(
        [sys.executable, "-c", _LEFT_HALF_READ], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2025-11-03\n", "")


@pytest.fixture
def hearing() -> Iterator[None]:
    """Put back how Ctrl-C is heard of after a test that changes it."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_waits_for_the_end_of_a_block() -> None:
    """The block is told, ends its work as it likes, and Python raises then what it would have raised at once."""
    told = []

    def work() -> None:
        with ctrl_c_later() as pressed:
            told.append(pressed())
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            told.append(pressed())

    with pytest.raises(KeyboardInterrupt):
        work()
    assert told == [False, True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_counts_for_more_than_the_error_of_a_block_that_it_ended() -> None:
    """That error is what the interrupt made of the work; without Ctrl-C an error passes as it is."""

    def work(*, press: bool) -> None:
        with ctrl_c_later():
            if press:
                signal.raise_signal(signal.SIGINT)
            raise ValueError("half done")

    with pytest.raises(KeyboardInterrupt):
        work(press=True)
    with pytest.raises(ValueError, match="half done"):
        work(press=False)


def test_a_program_that_hears_of_ctrl_c_in_its_own_way_still_does(hearing: None) -> None:
    """An event loop cancels its task, say; the block ends early all the same."""
    told: list[Any] = []
    signal.signal(signal.SIGINT, lambda number, _: told.append(number))

    def work() -> None:
        with ctrl_c_later():
            signal.raise_signal(signal.SIGINT)
            told.append("went on")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert told == ["went on", signal.SIGINT]


def test_where_ctrl_c_is_ignored_it_stays_ignored(hearing: None) -> None:
    """As by what a shell started in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ctrl_c_later() as pressed:
        signal.raise_signal(signal.SIGINT)
        assert not pressed()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_another_thread_leaves_ctrl_c_to_the_main_one() -> None:
    """Python lets no other thread change how it is heard of."""

    def work() -> bool:
        with ctrl_c_later() as pressed:
            return pressed()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() is False
