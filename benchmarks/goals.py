"""What is to be reached, and what was: each goal a ratio in one run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """One goal. `reached` and `limit` are ratios, or in the unit that `what` names; `most`: at most the limit, else at least."""

    job: str
    what: str
    reached: float
    limit: float
    most: bool = True

    @property
    def is_met(self) -> bool:
        """Whether it was reached."""
        return self.reached <= self.limit if self.most else self.reached >= self.limit

    def row(self) -> tuple[str, str, str, str, str]:
        """Return the cells of a table: job, what, goal, reached, verdict."""
        sign = "<=" if self.most else ">="
        return self.job, self.what, f"{sign} {self.limit:g}", f"{self.reached:.3g}", "met" if self.is_met else "MISSED"


def at_most(job: str, what: str, reached: float, limit: float) -> Goal:
    """Return a goal that is met by what is not larger."""
    return Goal(job, what, reached, limit)


def at_least(job: str, what: str, reached: float, limit: float) -> Goal:
    """Return a goal that is met by what is not smaller."""
    return Goal(job, what, reached, limit, most=False)
