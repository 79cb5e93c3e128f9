"""The demonstration: the whole life of a lake on real bars, each step the command that a person would give."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from condvest.analytics.reader import Lake
from condvest.app import App, commands, fetching
from condvest.app.dates import DateOptions
from condvest.app.runs import JobResult, plain
from condvest.demo import page, place, summary
from condvest.demo.holdings import holdings
from condvest.demo.market import Bar
from condvest.demo.sample import SAMPLE_SYMBOLS, sample_market
from condvest.demo.stage import Say, Stage, given_settings, new_york
from condvest.demo.standin import StandIn
from condvest.domain.calendar import Calendar
from condvest.jobs.progress import Progress
from condvest.storage.actions import read_splits

SYMBOL: Final = "AAPL"
INTERVAL_SESSIONS: Final = 13
SPLIT_DATE: Final = date(2005, 2, 28)
DAILY_SESSIONS: Final = 15
LATER_DAYS: Final = 20  # some of the daily files are past the retention of 30 days by then, some are not
SOURCE: Final = "bokeh-sampledata"

_AFTER: Final = timedelta(minutes=5)
#: (daily session, symbol) -> the share of the volume and the change of the close that the provider shows in the evening.
_EVENINGS: Final = {(2, "AAPL"): (0.985, 0.0), (2, "MSFT"): (0.991, 0.0), (8, "GOOG"): (0.978, -0.12)}
_NEIGHBOURS: Final = 2  # bars shown on each side of the one that holds the split
_VALUES: Final = ("open", "high", "low", "close", "volume")
_QUARTER: Final = 4


def run_demo(folder: Path, *, say: Say, keep: bool = True) -> dict[str, object]:
    """Build a lake of real bars in `folder` through a stand-in provider, and return what there is to see.

    The lake's clock moves from step to step; settings of the environment play no part. `say` gets text, a line or a table
    a call. The dictionary holds plain values: `lake`, `page`, `seconds`, `steps`, `layers`, `restatements`, `verify` and
    `split_bars`. Without `keep` only the page stays.

    Raises:
        ConfigError: plotly or the sample bars are not installed, or the folder holds something else: nothing was changed.
        WorkLeft: a step left something, or `verify` found a broken rule. DataError: a second run wrote something.
    """
    started = time.perf_counter()
    page.require_plotly()
    market = sample_market()
    folder = place.claim(folder)
    sessions = sorted(market.bars)
    with _quiet(), StandIn(market) as provider:
        settings = given_settings(provider.url, provider.api_key)
        calendar = Calendar.shipped()
        stage = Stage(folder, settings, calendar.final_due(sessions[-DAILY_SESSIONS - 1]) + _AFTER, say)
        provider.now = lambda: stage.now
        say(f"A lake in {folder}; real bars of {', '.join(SAMPLE_SYMBOLS)} from {SOURCE}, served at {provider.url}")
        _backfill(stage, sessions[:-DAILY_SESSIONS])
        provider.provisional = _evening_bars(calendar, sessions[-DAILY_SESSIONS:])
        _daily_runs(stage, calendar, sessions[-DAILY_SESSIONS:])
        _second_runs(stage)
        verified = _retention(stage)
    result = _shown(stage, verified) | {"seconds": round(time.perf_counter() - started, 1)}
    say(f"\nThe page with the chart: {folder / place.PAGE} ({result['seconds']} s in all)")
    if not keep:
        place.leave_page(folder)
    return result


def _backfill(stage: Stage, bulk: Sequence[date]) -> None:
    """Fill an empty lake with all but the last sessions, and build everything that follows from them."""
    stage.say(f"\n{new_york(stage.now)} New York: an empty lake; {len(bulk):,} sessions, one request each")
    dates = DateOptions(first=str(bulk[0]), last=str(bulk[-1]))
    progress = _quarters(stage.say)
    stage.tell("fetch bars --from --to", lambda app: fetching.fetch_bars(app, dates=dates, progress=progress))
    stage.tell("fetch meta --details 5", _fetch_meta)
    stage.tell("consolidate", commands.consolidate)
    stage.tell("resample", commands.resample)


def _daily_runs(stage: Stage, calendar: Calendar, daily: Sequence[date]) -> None:
    """Live through the last sessions: each evening the new bars, next morning the final ones."""
    stage.say(f"\n{daily[0]} to {daily[-1]}: `condvest run` each evening and each next morning")
    for session in daily:
        stage.now = calendar.close_instant(session) + _AFTER
        evening = stage.do("run", fetching.run, when="each evening, 16:05")
        stage.now = calendar.final_due(session) + _AFTER
        morning = stage.do("run", fetching.run, when="next morning, 11:05")
        restated = morning.counts["steps"]["fetch bars"]["restated"]
        changed = f"final, restated: {restated}" if restated else "final"
        seconds = evening.seconds + morning.seconds
        stage.say(f"  {session:%a %Y-%m-%d}: evening: provisional; next morning: {changed} ({seconds:.1f} s)")


def _second_runs(stage: Stage) -> None:
    stage.say(f"\n{new_york(stage.now)} New York: every job once more; nothing is new, so nothing is written")
    stage.again("fetch bars", fetching.fetch_bars)
    stage.again("fetch meta --details 5", _fetch_meta)
    stage.again("consolidate", commands.consolidate)
    stage.again("resample", commands.resample)
    stage.again("run", fetching.run)


def _retention(stage: Stage) -> JobResult:
    """Move the clock on until daily files may go, and look whether the lake is sound without them."""
    stage.now += timedelta(days=LATER_DAYS)
    stage.say(f"\n{new_york(stage.now)} New York: {LATER_DAYS} days later, single sessions' files past 30 days may go")
    stage.tell("vacuum --dry-run", lambda app: commands.vacuum(app, dry_run=True))
    stage.tell("vacuum", commands.vacuum)
    stage.again("vacuum", commands.vacuum)
    stage.again("consolidate", commands.consolidate)
    stage.again("resample", commands.resample)
    verified = stage.tell("verify", commands.verify)
    for found in verified.counts["findings"]:
        stage.say(f"    notice: {found['rule']}: {found['what']}; {found['remedy']}")
    return verified


def _fetch_meta(app: App) -> JobResult:
    return fetching.fetch_meta(app, details=len(SAMPLE_SYMBOLS))


def _evening_bars(calendar: Calendar, daily: Sequence[date]) -> Callable[[date, str, Bar, datetime], Bar]:
    """Return what makes the provider's evening bars differ from the final ones: late trades come in over night."""
    late = {(daily[place], symbol): change for (place, symbol), change in _EVENINGS.items()}

    def seen(session: date, symbol: str, bar: Bar, now: datetime) -> Bar:
        change = late.get((session, symbol))
        if change is None or now >= calendar.final_due(session):
            return bar
        share, cents = change
        return replace(bar, volume=float(round(bar.volume * share)), close=round(bar.close + cents, 2))

    return seen


def _shown(stage: Stage, verified: JobResult) -> dict[str, object]:
    """Read the lake as a user would, write the page, say the tables and return all of it."""
    with stage.open() as app:
        lake = Lake(app.store, calendar=app.calendar, state=app.state)
        layers = holdings(app.store)
        stored = lake.bars(SYMBOL, interval=f"{INTERVAL_SESSIONS}d")
        adjusted = lake.bars(SYMBOL, interval=f"{INTERVAL_SESSIONS}d", adjusted="splits")
        splits = [split for split in read_splits(app.store) if split.symbol == SYMBOL and split.withdrawn_at is None]
        changed = [row.session_date for row in app.state.sessions() if row.restated]
        restatements = [row for session in changed for row in lake.restatements(session).to_pylist()]
    path = stage.folder / place.PAGE
    chart = page.Chart(
        symbol=SYMBOL,
        interval_sessions=INTERVAL_SESSIONS,
        adjusted=adjusted,
        stored=stored,
        splits=splits,
        source=SOURCE,
    )
    path.write_text(page.chart_page(chart), encoding="utf-8")
    around = _around(stored, adjusted, SPLIT_DATE)
    split = next(split for split in splits if split.execution_date == SPLIT_DATE)
    for table in (
        summary.steps_table(stage.steps),
        summary.restatements_table(restatements),
        summary.layers_table(layers),
        summary.split_table(SYMBOL, INTERVAL_SESSIONS, split, around),
    ):
        stage.say(f"\n{table}")
    return {
        "lake": str(stage.folder),
        "page": str(path),
        "steps": [asdict(step) for step in stage.steps],
        "layers": [asdict(layer) for layer in layers],
        "restatements": plain(restatements),
        "verify": verified.counts,
        "split_bars": plain(around),
    }


def _around(stored: pa.Table, adjusted: pa.Table, day: date) -> list[dict[str, Any]]:
    """Return the bar that holds a date and its neighbours, with the adjusted values beside the stored ones."""
    place_of = next(n for n, end in enumerate(stored["end_date"].to_pylist()) if end >= day)
    first, bars = max(place_of - _NEIGHBOURS, 0), 2 * _NEIGHBOURS + 1
    rows: list[dict[str, Any]] = stored.slice(first, bars).to_pylist()
    for row, other in zip(rows, adjusted.slice(first, bars).to_pylist(), strict=True):
        row |= {f"adjusted_{name}": other[name] for name in _VALUES}
    return rows


def _quarters(say: Say) -> Progress:
    """Return a progress that says each quarter of a step."""
    told: dict[str, int] = {}

    def tell(step: str, done: int, total: int | None) -> None:
        quarter = done * _QUARTER // total if total else 0
        if quarter > told.get(step, 0):
            told[step] = quarter
            say(f"  ... {step}: {done:,} of {total:,}")

    return tell


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the jobs' own events, some thousands, out of the story; warnings stay."""
    logger = logging.getLogger("condvest")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
