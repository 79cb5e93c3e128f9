"""The process of a job: set up once, and never against what its user asked for."""

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
