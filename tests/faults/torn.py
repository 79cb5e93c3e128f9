"""A process that kills itself at one of the calls by which a folder store changes the disk: between any two of a batch."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

#: The calls that change a folder: a file begins, grows, is waited for, takes its place, goes.
CALLS: Final = ("write", "fsync", "rename", "replace", "link", "unlink", "mkdir")


@contextmanager
def watched_calls(listener: Callable[[str, Any], object]) -> Iterator[None]:
    """Tell of each such call of this process before it happens: its name and its first argument."""

    def watched(name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def told(*args: Any, **options: Any) -> Any:
            listener(name, args[0])
            return call(*args, **options)

        return told

    patches = [patch.object(os, name, watched(name)) for name in CALLS]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


@contextmanager
def die_at_call(number: int | None) -> Iterator[None]:
    """Kill this process (SIGKILL) just before its call of this number (from 0); None: never."""
    if number is None:
        yield
        return
    left = iter(range(number))

    def listen(_name: str, _what: object) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    with watched_calls(listen):
        yield
