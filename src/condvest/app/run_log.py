"""Where a run is recorded: in the state database, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from condvest.domain.records import RunOutcome, Traffic


class RunLog(Protocol):
    """Where runs are recorded: the state database, or nowhere."""

    def start_run(self, job: str, arguments: Mapping[str, object], now: datetime) -> int:
        """Record that a run began and return its number."""
        ...

    def finish_run(
        self,
        run: int,
        outcome: RunOutcome,
        *,
        counts: Mapping[str, object],
        now: datetime,
        traffic: Traffic,
        error: str | None = None,
    ) -> None:
        """Record how a run ended and what it cost."""
        ...


class Unrecorded:
    """Runs of a zone that cannot reach the state database; what they did stands in their answer and their log."""

    def start_run(self, job: str, arguments: Mapping[str, object], now: datetime) -> int:  # noqa: ARG002
        """Record nothing."""
        return 0

    def finish_run(self, run: int, outcome: RunOutcome, **told: object) -> None:
        """Record nothing."""
