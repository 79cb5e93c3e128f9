"""How Python is set up for jobs over millions of rows, and when it hears of Ctrl-C."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

#: Threads that decode take turns with Python code. By default a thread waits up to 5 ms for its turn, longer than a file takes.
_SWITCH_SECONDS: Final = 0.0005
#: Thousands of small objects live as long as the job; by default 700 new ones make Python look through them again.
_NEW_OBJECTS: Final = 50_000


@cache
def tune() -> None:
    """Set the process up, once. Saves a tenth of a day's jobs. numpy reads its setting when it is imported, so call it before."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(_NEW_OBJECTS, 20, 50)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # there is no linear algebra: no threads that wait for it


@contextmanager
def ctrl_c_later() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait until a block has ended; yields what tells whether it was pressed meanwhile, so that the block ends early.

    Else it strikes between any two steps: a library makes an error of its own of it, a lock that was just taken stays taken.
    Outside of the main thread, which alone hears of Ctrl-C, and where Ctrl-C is ignored, nothing changes.

    Raises:
        KeyboardInterrupt: after a block in which it was pressed, whatever else the block ended with.
    """
    heard = signal.getsignal(signal.SIGINT)
    pressed: list[int] = []
    if not callable(heard) or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, heard)
        if pressed:
            signal.raise_signal(signal.SIGINT)
            raise KeyboardInterrupt  # where the program's own way of hearing raises nothing
