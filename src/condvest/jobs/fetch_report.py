"""What a fetch of bars tells of what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date


@dataclass(slots=True)
class FetchReport:
    """What a fetch did. Sessions by outcome; `left` names what the next run has to do, with the reason.

    `remaining` and `remaining_symbols`: what it did not complete as it was asked to stop.
    """

    asked: int = 0
    changed: int = 0
    resumed: int = 0
    landed: int = 0
    rows: int = 0
    quarantined: int = 0
    restated: int = 0
    withdrawn: int = 0
    provisional: list[date] = field(default_factory=list)
    final: list[date] = field(default_factory=list)
    not_entitled: list[date] = field(default_factory=list)
    pending: dict[date, str] = field(default_factory=dict)
    unmerged: list[str] = field(default_factory=list)
    remaining: list[date] = field(default_factory=list)
    remaining_symbols: list[str] = field(default_factory=list)

    @property
    def left(self) -> list[str]:
        """What is left: sessions still pending, and files that could not be merged."""
        return [f"{session}: {reason}" for session, reason in sorted(self.pending.items())] + self.unmerged

    @property
    def nothing_new(self) -> bool:
        """Whether the lake is as it was."""
        return not (self.rows or self.landed or self.changed)
