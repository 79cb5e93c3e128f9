"""Repair: what follows from something else is built from it again; what does not is never touched."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from condvest.domain.calendar import Calendar
from condvest.jobs.findings import Finding, Findings, VerifyReport, Wrong, shown
from condvest.jobs.progress import Progress, silent
from condvest.jobs.rebuild import rebuild_ledger
from condvest.jobs.repair_caches import rebuild_caches
from condvest.jobs.repair_state import repair_sessions, repair_watermarks
from condvest.jobs.resample import ResampleReport, resample
from condvest.jobs.verify import examine
from condvest.log import event, warn
from condvest.storage import layout
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State

#: Rules that say that bronze is not as it landed. What follows from bronze would follow from the damage.
_BRONZE: Final = frozenset(
    {"bronze_file", "bar_rule", "bar_session", "lost", "different", "unexplained", "rows_differ"}
)


@dataclass(slots=True)
class RepairReport:
    """What a repair found, brought back and left.

    `found`: the findings of the verification before it (broken rules and notices). `repaired`: what was written, one line
    each. `findings` and `counts`: those of the verification after it. `left`: what is still broken, and what was not
    repaired since something else has to be repaired first, each with the remedy.
    """

    found: list[Finding] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    @property
    def nothing_new(self) -> bool:
        """Whether nothing was written."""
        return not self.repaired


@dataclass(frozen=True, slots=True)
class _Repair:
    """What every step needs."""

    store: Store
    state: State
    calendar: Calendar
    now: datetime
    universe: Collection[str] | None
    progress: Progress

    def examine(self) -> Findings:
        return examine(
            self.store,
            self.state,
            calendar=self.calendar,
            now=self.now,
            universe=self.universe,
            progress=self.progress,
        )


def repair(
    store: Store,
    state: State,
    *,
    calendar: Calendar,
    now: datetime,
    universe: Collection[str] | None = None,
    progress: Progress = silent,
) -> RepairReport:
    """Verify, build again what follows from something else and is not as it follows, and verify again. Idempotent.

    Built again are manifest and recent bars (from bronze), month files and checkpoints of silver (from bronze, splits and
    calendar), rows of the session ledger and watermarks (from landing and bronze); fetched bars that are untrue are removed.
    Landing, bronze, corporate actions, closures, quarantine and the cleanup manifest are only read. What follows from bronze
    or splits that are damaged themselves is left: silver, and watermarks that would move back. May be killed anywhere: each
    part is written as the jobs write it, and the next repair finds what is still to do. A sound lake is verified once, and
    nothing is written.

    Raises:
        CommitConflict: other writers were first again and again; run it while no other job writes.
    """
    job = _Repair(store, state, calendar, now, universe, progress)
    report = RepairReport()
    _rebuild_lost_state(job, report)
    findings = job.examine()
    before = findings.report()
    report.found = before.findings
    blocked: list[str] = []
    if not findings.wrong.is_nothing:
        _repair_caches(job, findings.wrong, report)
        blocked = _repair_silver(job, findings, before, report)
        blocked += _repair_state(job, findings, report)
    after = job.examine().report() if report.repaired else before
    report.findings, report.counts = after.findings, after.counts
    report.left = [f"{found.rule}: {found.what}; {found.remedy}" for found in after.broken] + blocked
    event("repaired", parts=len(report.repaired), left=len(report.left) or None)
    return report


def _rebuild_lost_state(job: _Repair, report: RepairReport) -> None:
    """An empty ledger beside a filled landing zone knows nothing that could be held against the lake."""
    if job.state.ledger_is_empty() and job.store.holds(layout.LANDING):
        sessions = rebuild_ledger(
            job.store,
            job.state,
            calendar=job.calendar,
            now=job.now,
            universe=job.universe,
            reason="repair",
            only_empty=True,
        )
        if sessions:
            report.repaired.append(f"session ledger: was empty; {sessions:,} sessions and the watermarks from the lake")


def _repair_caches(job: _Repair, wrong: Wrong, report: RepairReport) -> None:
    if wrong.caches:
        report.repaired += rebuild_caches(job.store)


def _repair_silver(job: _Repair, findings: Findings, before: VerifyReport, report: RepairReport) -> list[str]:
    """Build intervals anew, writing the files that differ; return why it was not done."""
    intervals = sorted(findings.wrong.intervals)
    if not intervals:
        return []
    named = ", ".join(f"{sessions}d" for sessions in intervals)
    why = _why_not(findings, before)
    if why is not None:
        warn("silver_not_repaired", intervals=named, reason=why)
        return [
            f"silver {named}: not built from what is damaged itself ({why}); then run `condvest verify --repair` again"
        ]
    done = resample(
        job.store,
        calendar=job.calendar,
        intervals=intervals,
        force_full=True,
        universe=job.universe,
        progress=job.progress,
    )
    if not done.nothing_new:
        report.repaired.append(_silver_told(done))
    return []


def _silver_told(done: ResampleReport) -> str:
    named = ", ".join(f"{sessions}d" for sessions, how in done.intervals.items() if how != "unchanged")
    removed = f", {done.months_removed:,} without bars removed" if done.months_removed else ""
    return f"silver {named}: {done.months_written:,} month files written{removed}, checkpoints that name them"


def _why_not(findings: Findings, before: VerifyReport) -> str | None:
    """Return what has to be settled before silver can be built; None where all that it follows from is sound."""
    damaged = sorted(
        (found for found in before.broken if found.rule in _BRONZE), key=lambda found: found.rule != "bronze_file"
    )
    if damaged:
        told = shown([f"{found.rule}: {found.what}" for found in damaged], 1)
        return f"{told}; settle bronze first by its own remedy"
    if findings.wrong.splits:
        return f"{layout.SPLITS} is lost or cannot be read; restore it first"
    if findings.wrong.calendar:
        return f"it was built with another calendar; restore {layout.CLOSURES} if it was lost, else run `condvest resample`"
    return None


def _repair_state(job: _Repair, findings: Findings, report: RepairReport) -> list[str]:
    """Make rows of the ledger, then watermarks, follow from landing and bronze; return what was left and why."""
    wrong, blocked = findings.wrong, list[str]()
    if wrong.sessions:
        with job.state.exclusive():  # no answer lands meanwhile
            report.repaired += repair_sessions(
                job.store, job.state, sessions=wrong.sessions, calendar=job.calendar, now=job.now, universe=job.universe
            )
    if wrong.watermarks:
        told, kept = repair_watermarks(
            job.store,
            job.state,
            symbols=wrong.watermarks,
            calendar=job.calendar,
            now=job.now,
            may_move_back=not findings.is_broken(_BRONZE),
        )
        report.repaired += told
        if kept:
            blocked.append(
                f"watermarks of {shown(kept)}: not moved back while bronze is damaged, since what it lost may be just what"
                " they tell of; run `condvest consolidate --force-full`, then `condvest verify --repair` again"
            )
    return blocked
