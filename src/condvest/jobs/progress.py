"""How a long job tells how far it is. The entry point decides what a person sees of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

#: Called with the step's name, how much is done and how much there is in all (None: not known).
Progress: TypeAlias = Callable[[str, int, int | None], None]


def silent(step: str, done: int, total: int | None) -> None:
    """Tell nothing."""
