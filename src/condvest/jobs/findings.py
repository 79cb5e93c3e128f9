"""What a verification finds: one line each, with the rule, the value and the remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal, TypeAlias

Level: TypeAlias = Literal["broken", "notice"]
"""`broken`: a rule of the lake does not hold. `notice`: nothing is wrong, but a person may want to know."""

#: Findings of one rule that are listed; the rest is counted.
_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: the rule's name, what was found (the value), and what to do about it."""

    rule: str
    level: Level
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """All that a verification found, broken rules first, and how much it looked at."""

    findings: list[Finding]
    counts: dict[str, int]

    @property
    def broken(self) -> list[Finding]:
        """The findings that say that a rule does not hold."""
        return [finding for finding in self.findings if finding.level == "broken"]

    @property
    def nothing_new(self) -> bool:
        """True: a verification never changes anything."""
        return True


@dataclass(slots=True)
class Wrong:
    """What is not as it follows from the rest of the lake: all of it, where findings list the first of each kind.

    `caches`: manifest, recent or fetched bars. `intervals`: of silver or its checkpoints, by length in sessions. `sessions`:
    days whose row of the ledger is not, or may no longer be, as landing and bronze have it. `watermarks`: symbols whose
    watermark is not as bronze has it. And what keeps silver from being built from the rest: `splits` are lost or unreadable,
    or some silver was built with another `calendar` than the present one.
    """

    caches: bool = False
    intervals: set[int] = field(default_factory=set)
    sessions: set[date] = field(default_factory=set)
    watermarks: set[str] = field(default_factory=set)
    splits: bool = False
    calendar: bool = False

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to build again."""
        return not (self.caches or self.intervals or self.sessions or self.watermarks)


@dataclass(slots=True)
class Findings:
    """Collects findings and counts; of each rule and level the first 20 are kept, so that memory stays bounded."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: Wrong = field(default_factory=Wrong)
    _kept: list[Finding] = field(default_factory=list)
    _seen: Counter[tuple[str, Level]] = field(default_factory=Counter)

    def broken(self, rule: str, what: str, remedy: str) -> None:
        """Take a rule that does not hold."""
        self._add(Finding(rule, "broken", what, remedy))

    def notice(self, rule: str, what: str, remedy: str) -> None:
        """Take something that is worth knowing."""
        self._add(Finding(rule, "notice", what, remedy))

    def error(self, rule: str, error: object, *, remedy: str = "restore it from a copy") -> None:
        """Take the text of an error of ours, which ends with its own remedy after the last semicolon, as broken."""
        what, separator, said = str(error).rpartition("; ")
        self.broken(rule, what if separator else said, said if separator else remedy)

    def is_broken(self, rules: Collection[str]) -> bool:
        """Say whether one of these rules does not hold."""
        return any((rule, "broken") in self._seen for rule in rules)

    def report(self) -> VerifyReport:
        """Return what was collected, broken rules first, each rule in the order in which it was found."""
        more = [
            Finding(rule, level, f"{seen - _LISTED} more of this kind", "the remedy is that of the ones listed")
            for (rule, level), seen in self._seen.items()
            if seen > _LISTED
        ]
        return VerifyReport(
            sorted([*self._kept, *more], key=lambda finding: finding.level),
            dict(sorted(self.counts.items())),
        )

    def _add(self, finding: Finding) -> None:
        self._seen[finding.rule, finding.level] += 1
        if self._seen[finding.rule, finding.level] <= _LISTED:
            self._kept.append(finding)


def shown(items: Iterable[object], most: int = 3) -> str:
    """Return the first few items as text, and how many more there are: `AAPL, IBM and 3 more`."""
    everything = [str(item) for item in items]
    text = ", ".join(everything[:most])
    return text if len(everything) <= most else f"{text} and {len(everything) - most:,} more"
