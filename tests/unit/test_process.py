"""The process of a job: set up once, never against what its user asked for, and ended as its work ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys

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
