"""The situations in which each job is tried: what a lake has been through, and the job that then runs.

A scenario is a script over a `Site`. It says nothing by chance: the seed of the site's world gives prices, gaps and rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from condvest.storage import layout
from faults.site import Site
from property.provider import SYMBOLS, TRUE_SPLITS

Step = Callable[[Site], object]


@dataclass(frozen=True)
class Scenario:
    """What came before, and the job on trial. Both are run by name in other processes."""

    name: str
    before: Step
    job: Step


# --- what came before -------------------------------------------------------------------------------------------


def nothing(_site: Site) -> None:
    """The lake is empty."""


def filled(site: Site) -> None:
    """The last 25 sessions were backfilled, consolidated and resampled."""
    site.fetch(site.past(25))
    site.fetch_meta()
    site.consolidate()
    site.resample()


def evening_to_fetch(site: Site) -> None:
    """The next session is over."""
    filled(site)
    site.next_evening()


def morning_to_confirm(site: Site) -> None:
    """A session was fetched in the evening; overnight two bars were restated, and one row became broken."""
    evening_to_fetch(site)
    site.fetch(site.past(1))
    site.next_morning()
    session = site.past(1)[0]
    site.world.tell(session, SYMBOLS[0], 1)
    site.world.tell(session, SYMBOLS[1], 3)
    site.world.spoil(session, "IBM", 1)


def old_bars_restated(site: Site) -> None:
    """Bars of three sessions long past were restated, and one came that was not there."""
    filled(site)
    site.next_evening(3)
    for session in site.past(15)[:3]:
        site.world.tell(session, SYMBOLS[0], 2)
        site.world.tell(session, SYMBOLS[2], 1)


def old_bars_beside_new(site: Site) -> None:
    """Old bars were restated while the last session is not merged yet."""
    filled(site)
    site.next_evening()
    site.fetch(site.past(1))
    for session in site.past(12)[:3]:
        site.world.tell(session, SYMBOLS[0], 1)


def ranges_to_fetch(site: Site) -> None:
    """Two symbols have other bars than the lake knows."""
    filled(site)
    site.next_evening()
    for session in site.past(4):
        site.world.tell(session, SYMBOLS[1], 1)


def actions_announced(site: Site) -> None:
    """A split of the past, a dividend and a closure were announced, and a ticker was delisted."""
    filled(site)
    at, old, new = TRUE_SPLITS[SYMBOLS[0]]
    site.world.market.add_split(SYMBOLS[0], site.sessions[at], old, new)
    site.world.market.add_dividend(SYMBOLS[1], site.past(3)[0], 0.25)
    site.world.close(site.sessions[-3])
    site.world.market.add_ticker(SYMBOLS[3], active=False, delisted_utc="2024-10-01T00:00:00Z")


def days_to_merge(site: Site) -> None:
    """Six sessions were fetched evening by evening and not merged; the first of them are past retention by now."""
    filled(site)
    for _ in range(6):
        site.next_evening()
        site.fetch(site.past(1))
        site.next_morning()
        site.fetch(site.past(1))
    site.next_evening(25)


def days_to_clean(site: Site) -> None:
    """All is merged, and the first `date=` files are past retention."""
    days_to_merge(site)
    site.consolidate(skip_cleanup=True)
    site.resample()


def history_lost(site: Site) -> None:
    """A `data.parquet` is gone, another is cut short."""
    days_to_merge(site)
    if site.is_open:
        keys = [layout.data_key(symbol) for symbol in SYMBOLS[:2]]
        site.store.delete_many(keys[:1])
        site.store.put(keys[1], site.store.get(keys[1]).data[:100])


def day_to_resample(site: Site) -> None:
    """A new session is merged, and silver is a session behind."""
    evening_to_fetch(site)
    site.fetch(site.past(1))
    site.consolidate()


def split_to_resample(site: Site) -> None:
    """The lake has just heard of a split and of a closure."""
    actions_announced(site)
    site.fetch_meta()


def day_to_record(site: Site) -> None:
    """A session was fetched by a function that does not see the database."""
    evening_to_fetch(site)
    site.fetch_detached()


def state_lost(site: Site) -> None:
    """The state database is empty beside a filled lake."""
    morning_to_confirm(site)
    site.fetch()
    site.next_evening()
    site.fetch_detached()
    if site.is_open:
        site.state.replace_ledger([], watermarks={}, reason="the database was lost", now=site.now)


def silver_lost(site: Site) -> None:
    """Silver of two intervals is gone, with every checkpoint."""
    filled(site)
    if site.is_open:
        gone = (layout.silver_prefix(3), layout.silver_prefix(13))
        keys = [info.key for info in site.store.list("")]
        site.store.delete_many(key for key in keys if key.startswith(gone) or key.endswith("_checkpoint.json"))


def days_lost(site: Site) -> None:
    """Three sessions are not merged yet, and the `date=` files of two are gone."""
    filled(site)
    for _ in range(3):
        site.next_evening()
        site.fetch(site.past(1))
    if site.is_open:
        gone = {layout.daily_key(symbol, session) for symbol in SYMBOLS for session in site.past(2)}
        site.store.delete_many(sorted(gone))


def caches_lost(site: Site) -> None:
    """Silver is gone in part, with manifest, recent bars and checkpoints, and the ledger has a session less."""
    silver_lost(site)
    if site.is_open:
        site.store.delete_many([layout.MANIFEST, layout.RECENT_BARS])
        last, rows = site.past(1)[0], site.state.sessions()
        watermarks = dict.fromkeys(site.state.symbol_watermarks(), site.past(3)[0])
        kept = [row for row in rows if row.session_date != last]
        site.state.replace_ledger(kept, watermarks=watermarks, reason="the database is an old copy", now=site.now)


def day_to_run(site: Site) -> None:
    """A session is over, and actions were announced."""
    actions_announced(site)
    site.next_evening()


# --- the jobs on trial ------------------------------------------------------------------------------------------

_ALL = (
    Scenario("fetch-evening", evening_to_fetch, lambda site: site.fetch(site.past(1))),
    Scenario("fetch-morning", morning_to_confirm, lambda site: site.fetch()),
    Scenario("fetch-old", old_bars_restated, lambda site: site.fetch(site.past(15)[:3])),
    Scenario("backfill", nothing, lambda site: site.fetch(site.past(24))),
    Scenario("backfill-flat-files", old_bars_restated, lambda site: site.fetch(site.past(24), kind="flat_files")),
    Scenario("backfill-pending", old_bars_beside_new, lambda site: site.fetch(site.past(25)[:24])),
    Scenario("fetch-symbols", ranges_to_fetch, lambda site: site.fetch_symbols(*SYMBOLS[1:3], count=4)),
    Scenario("fetch-symbols-bulk", old_bars_restated, lambda site: site.fetch_symbols(SYMBOLS[0], count=24)),
    Scenario("fetch-meta", actions_announced, lambda site: site.fetch_meta()),
    Scenario("consolidate", days_to_merge, lambda site: site.consolidate()),
    Scenario("consolidate-full", history_lost, lambda site: site.consolidate(force_full=True)),
    Scenario("vacuum", days_to_clean, lambda site: site.vacuum(retention_days=7)),
    Scenario("resample", day_to_resample, lambda site: site.resample()),
    Scenario("resample-split", split_to_resample, lambda site: site.resample()),
    Scenario("resample-full", silver_lost, lambda site: site.resample(force_full=True)),
    Scenario("record", day_to_record, lambda site: site.record()),
    Scenario("rebuild", state_lost, lambda site: site.rebuild()),
    Scenario("replay", days_lost, lambda site: site.replay(site.past(2))),
    Scenario("repair", caches_lost, lambda site: site.repair()),
    Scenario("run", day_to_run, lambda site: site.run_day()),
)
SCENARIOS = {scenario.name: scenario for scenario in _ALL}

#: What a process can be asked to do, by name: the job of each scenario, and some more that race with them.
JOBS: dict[str, Step] = {name: scenario.job for name, scenario in SCENARIOS.items()} | {
    "clean-up": lambda site: site.vacuum(retention_days=7),
    "fetch-due": lambda site: site.fetch(),
    "fetch-restated": lambda site: (site.restate(), site.fetch(site.past(2)))[1],
    "merge": lambda site: site.consolidate(),
    "merge-full": lambda site: site.consolidate(force_full=True),
    "silver": lambda site: site.resample(),
    "silver-full": lambda site: site.resample(force_full=True),
    "whole-day": lambda site: site.run_day(),
}
