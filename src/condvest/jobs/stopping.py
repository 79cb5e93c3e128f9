"""How a job is asked to end early: between two pieces of work, with nothing half done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: Asked before each piece of work; True: begin no other one. The report then says how much remains.
Stop: TypeAlias = Callable[[], bool]


def never() -> bool:
    """Work to the end."""
    return False
