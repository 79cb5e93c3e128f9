"""Whether a lake is as its rules want it, whatever happened to it: held against landing, read a second time."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from condvest.jobs.consolidate import consolidate
from condvest.jobs.resample import resample
from condvest.storage import layout
from condvest.storage.opening import open_store
from faults.lakes import empty_state
from faults.outcome import held, lost
from faults.site import Site
from property.lake_view import LakeView
from property.oracle import History

_LANDED = (layout.LANDING, layout.CORPORATE_ACTIONS, layout.CLOSURES)


def settle(site: Site) -> list[str]:
    """Do once more all that is due, twice; return what is left, and what the second time still writes (rule 8)."""
    problems = []
    for is_second in (False, True):
        before = site.store.meter.snapshot()
        reports = [site.fetch(), site.consolidate(skip_cleanup=True), site.resample()]
        problems += [f"left: {line}" for report in reports for line in getattr(report, "left", ())]
        spent = site.store.meter.snapshot() - before
        if is_second and spent.puts + spent.deletes:
            problems.append(f"a run with nothing new made {spent.puts} PUT and {spent.deletes} DELETE")
    return problems


def unsound(site: Site, before: Mapping[str, History]) -> list[str]:
    """Return what is wrong with a lake at rest; `before` are bars that were acknowledged."""
    view = LakeView(site.store)
    consolidated = view.consolidated()
    problems = [f"lost {bar}" for bar in lost(before, held(site))]
    told = view.landing(site.calendar.sessions(site.sessions[0], site.sessions[-1]))
    if consolidated != told:
        problems.append(f"bars are not what landing says: {_first(consolidated, told)}")
    problems += _unlike_clean_run(site, view)
    problems += _ledger_problems(site)
    problems += [f"verify: {one.rule}: {one.what}" for one in site.verify().broken]
    return problems


def _unlike_clean_run(site: Site, view: LakeView) -> list[str]:
    """Hold silver against the bytes that one full run over the same landed answers makes."""
    clean = open_store(f"memory://{uuid.uuid4().hex}")
    clean.put_many(view.bodies(_LANDED).items())
    consolidate(clean, now=site.now, calendar=site.calendar, force_full=True)
    resample(clean, calendar=site.calendar, force_full=True)
    built = LakeView(clean)
    wanted, found = built.bodies((layout.SILVER,)), view.bodies((layout.SILVER,))
    clean.delete_many(built.keys(""))
    return [] if found == wanted else [f"silver is not what a clean run makes: {_first(found, wanted)}"]


def _ledger_problems(site: Site) -> list[str]:
    """Hold ledger and watermarks against those that a rebuild from the lake gives (it counts restatements differently)."""
    mine, watermarks = site.state.sessions(), site.state.symbol_watermarks()
    with empty_state() as state:
        rebuilt = Site(site.store, state, seed=0)
        rebuilt.world.now = site.world.now
        rebuilt.rebuild()
        others, last = state.sessions(), state.symbol_watermarks()
    facts = [[(row.session_date, row.state, row.rows, row.answer_digest) for row in rows] for rows in (mine, others)]
    problems = [f"ledger: {have} in place of {want}" for have, want in zip(*facts, strict=False) if have != want]
    if len(mine) != len(others):
        problems.append(f"ledger: {len(mine)} sessions in place of {len(others)}")
    return problems + ([f"watermarks: {watermarks} in place of {last}"] if watermarks != last else [])


def _first(have: Mapping[str, object], want: Mapping[str, object]) -> str:
    return next(key for key in sorted({*have, *want}) if have.get(key) != want.get(key))
