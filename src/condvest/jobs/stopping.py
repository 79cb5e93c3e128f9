"""How a job is asked to end early: between two pieces of work, with nothing half done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

#: Asked before each piece of work; True: begin no other one. The report then says how much remains.
Stop: TypeAlias = Callable[[], bool]


def never() -> bool:
    """Work to the end."""
    return False


def until(stop: Stop, items: Iterable[T]) -> Iterator[T]:
    """Yield the items up to the one before which `stop` says so."""
    for item in items:
        if stop():
            return
        yield item
