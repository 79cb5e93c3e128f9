"""Verification: a lake that the real jobs made passes, and each planted fault is found and named."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from condvest.domain.actions import Split
from condvest.domain.bars import DAILY_SCHEMA, UTC_MICROSECONDS
from condvest.domain.calendar import Calendar
from condvest.jobs.checksums import SessionGrid, SymbolCodes, row_hashes
from condvest.jobs.findings import Findings
from condvest.jobs.rebuild import rebuild_ledger
from condvest.jobs.verify import VerifyReport, verify
from condvest.storage import layout, manifest, recent
from condvest.storage.actions import update_splits
from condvest.storage.manifest import read_manifest, update_manifest
from condvest.storage.parquet import encode_history, encode_recent
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of
from integration.watched_lake import Killed

SPLIT_DAY, RESTATED, REJECTED, LAST = DAYS[10], DAYS[22], DAYS[23], DAYS[24]
CALENDAR = Calendar.shipped()
MONTH = layout.silver_key(5, 2025, 11)
Fault = Callable[[Kit], object]


def build(kit: Kit) -> None:
    """Fetch 22 sessions at once and three day by day, with a split, a restatement and a rejected row; the last is not merged."""
    for number, day in enumerate(DAYS[10:30]):
        kit.market.set_bar("IBM", day, bar(80.0 + number / 2))
    kit.market.add_split("IBM", SPLIT_DAY, 1, 2)
    kit.market.add_dividend("NA", DAYS[7], 0.25)
    kit.market.raw_rows[REJECTED] = [{"T": "BAD", "o": 1, "h": 1, "l": 2, "c": 1, "v": 1, "t": 0}]
    kit.evening(DAYS[21]).fetch(*DAYS[:22])
    kit.fetch_meta()
    for day in DAYS[22:25]:
        kit.next_morning(CALENDAR.previous_session(day)).fetch()
        kit.consolidate()
        kit.evening(day).fetch()
        kit.market.set_bar("BCpC", RESTATED, bar(141.5))
    kit.resample()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sound lake and its state; not to be written to."""
    folder = tmp_path_factory.mktemp("sound")
    with Kit(folder, market=market_of(DAYS[:40])) as kit:
        build(kit)
    return folder


@pytest.fixture
def lake(sound: Path, tmp_path: Path) -> Iterator[Kit]:
    """The sound lake again, to be spoiled. Hard links keep the ETags; a store never writes into a file that lies there."""
    with Kit(tmp_path, market=market_of(DAYS[:40])) as kit:
        shutil.copytree(sound / "lake", tmp_path / "lake", copy_function=os.link)
        shutil.copyfile(sound / "state.sqlite", tmp_path / "state.sqlite")
        yield kit.evening(LAST)


def check(kit: Kit, calendar: Calendar = CALENDAR) -> VerifyReport:
    """Verify, and make sure that nothing was written."""
    before = kit.store.meter.snapshot()
    report = verify(kit.lake, kit.state, calendar=calendar, now=kit.now, universe=kit.universe)
    cost = kit.store.meter.snapshot() - before
    assert (cost.puts, cost.deletes) == (0, 0)
    assert report.nothing_new
    return report


def told(report: VerifyReport, level: str = "broken") -> dict[str, str]:
    """Return what was found by rule, all findings of one rule in one text."""
    found: dict[str, str] = {}
    for finding in report.findings:
        assert finding.what
        assert finding.remedy
        assert "\n" not in finding.what + finding.remedy
        if finding.level == level:
            found[finding.rule] = found.get(finding.rule, "") + finding.what + "\n"
    return found


# --- faults -----------------------------------------------------------------------------------------------------


def flip(key: str) -> Fault:
    """Change one byte in the middle of an object."""

    def fault(kit: Kit) -> None:
        data = bytearray(kit.store.get(key).data)
        data[len(data) // 2] ^= 0xFF
        kit.store.put(key, bytes(data))

    return fault


def put(key: str, data: bytes) -> Fault:
    """Put other bytes in place of an object."""
    return lambda kit: kit.store.put(key, data)


def delete(key: str) -> Fault:
    """Delete an object."""
    return lambda kit: kit.store.delete_many([key])


def rewritten(symbol: str, change: Callable[[pa.Table], pa.Table]) -> Fault:
    """Rewrite one symbol's `data.parquet`."""
    key = layout.data_key(symbol)

    def fault(kit: Kit) -> None:
        kit.store.put(key, encode_history(change(kit.table(key).select(DAILY_SCHEMA.names))))

    return fault


def valued(column: str, day: date, value: Any) -> Callable[[pa.Table], pa.Table]:
    """Return a change of one value in the row of one session."""

    def change(bars: pa.Table) -> pa.Table:
        rows = [row | {column: value} if row["date"] == day else row for row in bars.to_pylist()]
        return pa.Table.from_pylist(rows, DAILY_SCHEMA)

    return change


def without(day: date) -> Callable[[pa.Table], pa.Table]:
    """Return the removal of one session."""
    return lambda bars: bars.filter(pc.not_equal(bars["date"], pa.scalar(day)))


def twice(bars: pa.Table) -> pa.Table:
    """Return the bars with the first one twice."""
    return pa.concat_tables([bars.slice(0, 1), bars])


def backwards(bars: pa.Table) -> pa.Table:
    """Return the bars in descending order."""
    return bars.sort_by([("date", "descending")])


def of_another(bars: pa.Table) -> pa.Table:
    """Return the bars under another symbol's name."""
    return bars.set_column(0, "symbol", pa.array(["MSFT"] * bars.num_rows))


def retyped(bars: pa.Table) -> pa.Table:
    """Return the bars with a volume of whole numbers."""
    return bars.set_column(6, "volume", pc.cast(bars["volume"], pa.int64(), safe=False))


def on_saturday(bars: pa.Table) -> pa.Table:
    """Return the bars with one more, on a day without a session."""
    row = bars.slice(0, 1).to_pylist()[0] | {"date": DAYS[0] - timedelta(days=2)}
    return pa.concat_tables([pa.Table.from_pylist([row], DAILY_SCHEMA), bars])


def a_symbol_that_never_landed(kit: Kit) -> None:
    """Put a bar of a symbol that no answer holds."""
    row = kit.table(layout.data_key("AAPL")).select(DAILY_SCHEMA.names).slice(3, 1)
    renamed = row.set_column(0, "symbol", pa.array(["ZZZ"]))
    kit.store.put(layout.data_key("ZZZ"), encode_history(renamed))


def no_files_of(symbol: str) -> Fault:
    """Delete all files of one symbol."""
    return lambda kit: kit.store.delete_many(kit.listed(layout.symbol_prefix(symbol)))


def a_date_lost_for_all(kit: Kit) -> None:
    """Delete the `date=` files of the last session, which are not merged."""
    kit.store.delete_many([layout.daily_key(symbol, LAST) for symbol in SYMBOLS])


def answers_lost(day: date) -> Fault:
    """Delete what landed of one session."""
    return lambda kit: kit.store.delete_many(kit.listed(layout.landing_prefix("grouped", day)))


def answers_spoiled(day: date, data: bytes) -> Fault:
    """Put other bytes in place of what landed of one session."""
    return lambda kit: [kit.store.put(key, data) for key in kit.listed(layout.landing_prefix("grouped", day))]


def ledger(day: date, **changes: Any) -> Fault:
    """Change one row of the ledger."""

    def fault(kit: Kit) -> None:
        row = next((row for row in kit.state.sessions() if row.session_date == day), kit.state.sessions()[0])
        changed = replace(row, session_date=day, **changes)
        kit.state.record([changed], watermarks={}, reason="fetch", now=kit.now)

    return fault


def ledger_begins_later(kit: Kit) -> None:
    """Lose the first rows of the ledger."""
    rows = kit.state.sessions()[5:]
    kit.state.replace_ledger(rows, watermarks=kit.state.symbol_watermarks(), reason="test", now=kit.now)


def watermark(symbol: str, day: date | None) -> Fault:
    """Move one watermark, or take its session away."""

    def fault(kit: Kit) -> None:
        marks: dict[str, date] = kit.state.symbol_watermarks()
        marks.pop(symbol)
        marks |= {symbol: day} if day else {}
        kit.state.replace_ledger(kit.state.sessions(), watermarks=marks, reason="test", now=kit.now)

    return fault


def sql(statement: str) -> Fault:
    """Change the state database behind its back."""

    def fault(kit: Kit) -> None:
        path = kit.state.url_shown.removeprefix("sqlite:///")
        connection = sqlite3.connect(path)
        with connection:
            connection.execute(statement)
        connection.close()

    return fault


def manifest_entry(symbol: str, **changes: Any) -> Fault:
    """Change what the manifest says of one symbol."""
    return lambda kit: update_manifest(kit.store, [replace(read_manifest(kit.store)[symbol], **changes)])


def manifest_says_merged(kit: Kit) -> None:
    """Mark a `date=` file as merged that is not."""
    info = next(
        info for info in kit.store.list(layout.symbol_prefix("AAPL")) if info.key == layout.daily_key("AAPL", LAST)
    )
    entry = read_manifest(kit.store)["AAPL"]
    marked = replace(entry, merged=entry.merged | {manifest.file_mark(LAST, info.etag)})
    update_manifest(kit.store, [marked])


def recent_bars_differ(kit: Kit) -> None:
    """Change a value in the cache of recent bars."""
    rows = kit.table(layout.RECENT_BARS).to_pylist()
    rows[3]["close"] += 1
    kit.store.put(layout.RECENT_BARS, encode_recent(pa.Table.from_pylist(rows, recent.SCHEMA)))


def split(symbol: str, day: date, old: float, new: float) -> Fault:
    """Add a split to the ledger of corporate actions."""
    return lambda kit: update_splits(
        kit.store, lambda known: [*known, Split(symbol, day, old, new, "forward_split", kit.now)]
    )


def other_months_bytes(kit: Kit) -> None:
    """Put December's period bars in November's place."""
    kit.store.put(MONTH, kit.store.get(layout.silver_key(5, 2025, 12)).data)


def month_of_nothing(kit: Kit) -> None:
    """Put a month file where bronze has no bars."""
    kit.store.put(layout.silver_key(5, 2024, 1), kit.store.get(MONTH).data)


def listing_spoiled(kind: layout.LandingKind, data: bytes = b"spoiled") -> Fault:
    """Put other bytes in place of a landed listing or receipt."""
    return lambda kit: kit.store.put(kit.listed(layout.landing_prefix(kind))[0], data)


def quarantine_spoiled(kit: Kit) -> None:
    """Put other bytes in place of a quarantine file."""
    kit.store.put(kit.listed(layout.QUARANTINE)[0], b"PAR1")


AAPL = layout.data_key("AAPL")
FAULTS: dict[str, tuple[Fault, str, str]] = {
    "flipped byte in data.parquet": (flip(AAPL), "bronze_file", AAPL),
    "data.parquet is no parquet": (put(AAPL, b"{}"), "bronze_file", AAPL),
    "empty data.parquet": (rewritten("AAPL", lambda bars: bars.slice(0, 0)), "bronze_file", "holds no bars"),
    "duplicate session": (rewritten("AAPL", twice), "bronze_file", "not strictly ascending"),
    "descending sessions": (rewritten("AAPL", backwards), "bronze_file", "not strictly ascending"),
    "another symbol's rows": (rewritten("AAPL", of_another), "bronze_file", "another symbol than AAPL"),
    "another type": (rewritten("AAPL", retyped), "bronze_file", "column volume is int64"),
    "corrupt date= file": (put(layout.daily_key("NA", LAST), b"x"), "bronze_file", "symbol=NA/date="),
    "lost date= file, not merged": (
        delete(layout.daily_key("NA", LAST)),
        "lost",
        f"NA: 1 bars landed and not in bronze: {LAST}",
    ),
    "a lost session of all symbols": (a_date_lost_for_all, "lost", f"{LAST}: 9 bars landed and not in bronze: AAPL"),
    "row removed from data.parquet": (
        rewritten("TRUE", without(DAYS[5])),
        "lost",
        f"TRUE: 1 bars landed and not in bronze: {DAYS[5]}",
    ),
    "data.parquet lost": (delete(AAPL), "bronze_file", f"{AAPL}: is gone, though it held 24 bars up to {DAYS[23]}"),
    "all files of a symbol lost": (no_files_of("BCPC"), "lost", "BCPC: 25 bars landed and not in bronze"),
    "changed value": (
        rewritten("MSFT", valued("close", DAYS[4], 1.5)),
        "different",
        f"MSFT: 1 bars not as landed: {DAYS[4]}",
    ),
    "value become null": (
        rewritten("MSFT", valued("vwap", DAYS[4], None)),
        "different",
        f"MSFT: 1 bars not as landed: {DAYS[4]}",
    ),
    "restatement undone": (
        rewritten("BCpC", valued("close", RESTATED, 142.0)),
        "different",
        f"BCpC: 1 bars not as landed: {RESTATED}",
    ),
    "unexplained bar": (
        a_symbol_that_never_landed,
        "unexplained",
        f"ZZZ: 1 bars in bronze, and in no landed answer: {DAYS[3]}",
    ),
    "high below low": (
        rewritten("CON", valued("high", DAYS[4], 0.5)),
        "bar_rule",
        f"CON {DAYS[4]}: breaks the rule high_below_low",
    ),
    "price of zero": (
        rewritten("CON", valued("open", DAYS[4], 0.0)),
        "bar_rule",
        f"CON {DAYS[4]}: breaks the rule price",
    ),
    "day without a session": (rewritten("CON", on_saturday), "bar_session", "CON 2025-11-01"),
    "lost landed answer": (answers_lost(DAYS[6]), "ledger_landing", f"{DAYS[6]}: final"),
    "bars without a landed answer": (answers_lost(DAYS[6]), "not_landed", f"{DAYS[6]}: 9 bars"),
    "corrupt landed answer": (answers_spoiled(DAYS[6], b"\x1f\x8b--"), "landing_file", f"date={DAYS[6]}"),
    "landed answer is no JSON": (answers_spoiled(DAYS[6], gzip.compress(b"<html>")), "landing_file", "not JSON"),
    "final too early": (ledger(LAST, state="final"), "ledger_state", f"{LAST}: final by the ledger, but last seen"),
    "final without landing": (ledger(DAYS[26], state="final"), "ledger_landing", f"{DAYS[26]}: final"),
    "other row count": (ledger(DAYS[4], rows=8), "ledger_rows", f"{DAYS[4]}: 8 rows by the ledger, 9 landed"),
    "no session": (ledger(date(2025, 11, 8), state="missing"), "ledger_session", "2025-11-08"),
    "ledger begins later": (ledger_begins_later, "ledger_lost", f"5 landed sessions are beyond the ledger: {DAYS[0]}"),
    "watermark ahead": (
        watermark("AAPL", DAYS[26]),
        "watermark",
        f"AAPL: watermark {DAYS[26]}, its last bar is {LAST}",
    ),
    "watermark behind": (watermark("AAPL", DAYS[3]), "watermark", f"AAPL: watermark {DAYS[3]}, its last bar is {LAST}"),
    "watermark without a session": (
        watermark("AAPL", None),
        "watermark",
        f"AAPL: no watermark, its last bar is {LAST}",
    ),
    "no current watermark row": (
        sql("DELETE FROM data_ingestion_watermark WHERE symbol = 'AAPL' AND is_current"),
        "watermark",
        "AAPL: 0 current watermark rows",
    ),
    "corrupt manifest": (put(layout.MANIFEST, b"PAR1"), "cache", layout.MANIFEST),
    "wrong count in the manifest": (manifest_entry("AAPL", row_count=3), "cache", "AAPL has 3 rows"),
    "merged by the manifest alone": (
        manifest_says_merged,
        "cache",
        "is merged by it, and its row is not in data.parquet",
    ),
    "corrupt checkpoint": (put(layout.checkpoint_key(5), b"{"), "checkpoint", layout.checkpoint_key(5)),
    "corrupt recent bars": (put(layout.RECENT_BARS, b"PAR1"), "cache", layout.RECENT_BARS),
    "other recent bars": (recent_bars_differ, "cache", f"{layout.RECENT_BARS}: AAPL is not as in its data.parquet"),
    "corrupt cleanup manifest": (put(layout.CLEANUP_MANIFEST, b"[]"), "cleanup_manifest", layout.CLEANUP_MANIFEST),
    "cleanup manifest of no list": (
        put(layout.CLEANUP_MANIFEST, b'{"runs": "x"}'),
        "cleanup_manifest",
        layout.CLEANUP_MANIFEST,
    ),
    "cleanup manifest without an end": (
        put(layout.CLEANUP_MANIFEST, b"[" * 100_000),
        "cleanup_manifest",
        layout.CLEANUP_MANIFEST,
    ),
    "corrupt closures": (put(layout.CLOSURES, b"[]"), "closures", layout.CLOSURES),
    "corrupt splits": (put(layout.SPLITS, b"PAR1"), "corporate_actions", layout.SPLITS),
    "splits lost": (
        delete(layout.SPLITS),
        "corporate_actions",
        f"{layout.SPLITS}: is gone, though bronze/landing/splits/",
    ),
    "dividends lost": (delete(layout.DIVIDENDS), "corporate_actions", f"{layout.DIVIDENDS}: is gone, though"),
    "corrupt landed listing": (listing_spoiled("tickers"), "landing_file", "the landed answer is corrupt"),
    "landed listing of another shape": (listing_spoiled("splits", gzip.compress(b"[]")), "landing_file", "(TypeError)"),
    "corrupt receipt": (listing_spoiled("confirmed"), "landing_file", "the receipt cannot be read"),
    "corrupt dividends": (put(layout.DIVIDENDS, b"PAR1"), "corporate_actions", layout.DIVIDENDS),
    "corrupt quarantine": (quarantine_spoiled, "quarantine_file", layout.QUARANTINE),
    "contradicted split": (
        split("NA", DAYS[8], 1, 3),
        "split_jump",
        f"NA {DAYS[8]}: split 3-for-1: the price does not bear it out",
    ),
    "two splits on one date": (
        split("IBM", SPLIT_DAY, 1, 3),
        "split_jump",
        f"IBM {SPLIT_DAY}: splits 2-for-1 and 3-for-1",
    ),
    "two splits on a date without bars": (
        lambda kit: [split("IBM", DAYS[35], 1, ratio)(kit) for ratio in (2, 3)],
        "split_jump",
        f"IBM {DAYS[35]}: splits 2-for-1 and 3-for-1, none is applied: two different splits on one date; no price",
    ),
    "silver month deleted": (delete(MONTH), "silver_file", f"{MONTH}: is not there"),
    "silver month changed": (other_months_bytes, "silver_file", f"{MONTH}: holds other bars"),
    "silver month corrupt": (flip(MONTH), "silver_file", MONTH),
    "silver month of foreign bytes": (put(MONTH, b"foreign"), "silver_file", f"{MONTH}: not a readable parquet file"),
    "silver month of nothing": (month_of_nothing, "silver_file", "bronze gives no bars of that month"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_named(lake: Kit, name: str) -> None:
    """Each fault is reported under its rule, with what it is about; nothing raises and nothing is written."""
    fault, rule, what = FAULTS[name]
    fault(lake)
    found = told(check(lake))
    assert what in found.get(rule, ""), found


# --- remedies ---------------------------------------------------------------------------------------------------


def force_full(kit: Kit) -> None:
    """Merge all that landed, then resample."""
    kit.consolidate(force_full=True)
    kit.resample()


def start_over(symbol: str) -> Fault:
    """Move a symbol's files out of the lake and rebuild them from landing."""

    def remedy(kit: Kit) -> None:
        no_files_of(symbol)(kit)
        force_full(kit)

    return remedy


def fetch_again(kit: Kit) -> None:
    """Remove the landed answers of a session and fetch it again."""
    answers_lost(DAYS[6])(kit)
    kit.fetch(DAYS[6])


def new_state(kit: Kit) -> None:
    """Rebuild the ledger in place of the one that is there."""
    rebuild_ledger(kit.lake, kit.state, calendar=CALENDAR, now=kit.now)


def delete_caches(kit: Kit) -> None:
    """Delete caches, then run the jobs that build them."""
    kit.store.delete_many([layout.MANIFEST, layout.RECENT_BARS, layout.CLEANUP_MANIFEST])
    kit.consolidate()
    kit.resample()


REMEDIES: dict[str, Fault] = {
    "data.parquet is no parquet": force_full,
    "flipped byte in data.parquet": start_over("AAPL"),
    "another symbol's rows": force_full,
    "lost date= file, not merged": force_full,
    "all files of a symbol lost": force_full,
    "changed value": start_over("MSFT"),
    "restatement undone": start_over("BCpC"),
    "high below low": start_over("CON"),
    "day without a session": start_over("CON"),
    "lost landed answer": fetch_again,
    "corrupt landed answer": fetch_again,
    "other row count": new_state,
    "ledger begins later": new_state,
    "watermark behind": new_state,
    "corrupt manifest": delete_caches,
    "merged by the manifest alone": delete_caches,
    "other recent bars": delete_caches,
    "corrupt checkpoint": lambda kit: kit.resample(),
    "silver month deleted": lambda kit: kit.resample(force_full=True),
    "silver month corrupt": lambda kit: kit.resample(force_full=True),
    "silver month of nothing": lambda kit: kit.resample(force_full=True),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_the_remedy_helps(lake: Kit, name: str) -> None:
    """What a finding says to do ends it."""
    FAULTS[name][0](lake)
    REMEDIES[name](lake)
    assert check(lake).broken == []


# --- sound lakes ------------------------------------------------------------------------------------------------


def test_a_lake_of_the_real_jobs_passes(lake: Kit) -> None:
    """Backfill, daily fetches, a restatement, a rejected row, a split, unmerged files: nothing is broken, all is counted."""
    report = check(lake)
    assert report.broken == []
    assert told(report, "notice") == {
        "pending": "9 date= files of 9 symbols wait to be merged: AAPL, BCPC, BCpC and 6 more\n",
        "quarantine": "1 rows in quarantine: high_below_low 1\n",
    }
    counts = {name: report.counts[name] for name in ("symbols", "daily_bars", "landed_sessions", "watermarks")}
    assert counts == {"symbols": 9, "daily_bars": 225, "landed_sessions": 25, "watermarks": 9}
    assert report.counts["silver_files"] == len(lake.listed(layout.SILVER))


def test_an_empty_lake_passes(tmp_path: Path) -> None:
    """Nothing is there, and nothing is wrong."""
    with Kit(tmp_path) as kit:
        assert check(kit).broken == []


def test_the_same_lake_on_s3(tmp_path: Path, s3_url: str) -> None:
    """The same lake passes on S3, and the same faults are found there."""
    with Kit(tmp_path, market=market_of(DAYS[:40]), lake_url=s3_url) as kit:
        build(kit)
        assert check(kit.evening(LAST)).broken == []
        for name in ("changed value", "lost date= file, not merged", "lost landed answer", "silver month changed"):
            FAULTS[name][0](kit)
        found = told(check(kit))
        assert {"different", "lost", "ledger_landing", "not_landed", "silver_file"} <= found.keys()


def test_faults_do_not_hide_each_other(lake: Kit) -> None:
    """With one fault of every kind at once the rest is still read and named."""
    names = (
        "data.parquet is no parquet",
        "changed value",
        "corrupt landed answer",
        "corrupt manifest",
        "watermark ahead",
    )
    for name in ("lost date= file, not merged", "corrupt recent bars", "corrupt quarantine", *names):
        FAULTS[name][0](lake)
    found = told(check(lake))
    assert {"bronze_file", "different", "landing_file", "cache", "lost", "quarantine_file"} <= found.keys()
    assert "silver_unchecked" in told(check(lake), "notice")


def test_a_corrupt_month_is_found_where_silver_cannot_be_compared(lake: Kit) -> None:
    """A symbol that cannot be read keeps silver from being rebuilt, not from being read."""
    flip(AAPL)(lake)
    put(MONTH, b"foreign")(lake)
    assert MONTH in told(check(lake))["silver_file"]


def test_many_findings_of_one_rule_are_counted(lake: Kit) -> None:
    """Of one rule 20 findings are listed, and how many more there are."""
    for day in DAYS[:24]:
        answers_lost(day)(lake)
    report = check(lake)
    found = [finding for finding in report.broken if finding.rule == "not_landed"]
    assert len(found) == 21
    assert found[-1].what == "4 more of this kind"


def test_many_differing_symbols_are_examined_in_part(lake: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded: beyond a number of symbols the differing ones are only counted."""
    monkeypatch.setattr("condvest.jobs.checks_rows._EXAMINED", 2)
    a_date_lost_for_all(lake)
    found = told(check(lake))
    assert f"{LAST}: 2 bars landed" in found["lost"]
    assert found["rows_differ"] == "7 more symbols differ from what landed\n"


# --- what is no fault -------------------------------------------------------------------------------------------


def test_what_a_killed_fetch_left_is_in_work(lake: Kit) -> None:
    """A session that landed and that the ledger has not done is a notice; the next fetch completes it."""
    day = DAYS[25]
    lake.evening(day).lake.kill_at(4)
    with pytest.raises(Killed):
        lake.fetch(day)
    lake.lake.kill_at(None)
    report = check(lake)
    assert report.broken == []
    notices = told(report, "notice")
    assert notices["in_work"] == f"1 sessions landed and are not done: {day}\n"
    assert notices["due"] == f"2 sessions are due: {LAST}, {day}; the watermark is {LAST}\n"
    lake.fetch()
    assert "in_work" not in told(check(lake), "notice")


def test_a_killed_re_fetch_is_in_work(lake: Kit) -> None:
    """A restatement that landed and stands not in bronze yet is no lost bar."""
    lake.market.set_bar("NA", LAST, bar(55.0))
    lake.next_morning(LAST).lake.kill_at(1)
    with pytest.raises(Killed):
        lake.fetch()
    lake.lake.kill_at(None)
    report = check(lake)
    assert report.broken == []
    assert told(report, "notice")["in_work"] == f"1 sessions landed and are not done: {LAST}\n"
    lake.fetch()
    assert check(lake).broken == []


def test_silver_older_than_bronze_is_stale_not_broken(lake: Kit) -> None:
    """After a consolidation silver is behind until the next resample; a file that somebody changed is broken even then."""
    lake.consolidate()
    report = check(lake)
    assert report.broken == []
    assert "silver_5d: " in told(report, "notice")["silver_stale"]
    other_months_bytes(lake)
    assert f"{MONTH}: holds other bars" in told(check(lake))["silver_file"]
    lake.resample()
    assert told(check(lake), "notice").keys() == {"quarantine"}


def test_a_copied_lake_passes(lake: Kit, tmp_path: Path) -> None:
    """Copied files have other ETags and the same content: caches are behind, nothing is broken; stale silver is stale."""
    for key, data in lake.files().items():
        lake.store.put(key, data)
    report = check(lake)
    assert report.broken == []
    assert "of an older version of 9 data.parquet" in told(report, "notice")["cache"]
    lake.consolidate()
    assert "silver_5d" in told(check(lake), "notice")["silver_stale"]


def test_absent_caches_are_a_notice(lake: Kit) -> None:
    """Caches may be deleted at any time."""
    lake.store.delete_many([layout.MANIFEST, layout.RECENT_BARS, layout.checkpoint_key(5), layout.CLEANUP_MANIFEST])
    report = check(lake)
    assert report.broken == []
    notices = told(report, "notice")
    assert notices["cache"].count(": absent") == 2
    assert notices["checkpoint"] == f"{layout.checkpoint_key(5)}: absent\n"


def test_ranges_explain_bars(lake: Kit) -> None:
    """Bars that came by the range endpoint are explained, in sessions of the ledger and beyond it; a corrupt answer is named."""
    lake.market.set_bar("MSFT", DAYS[3], bar(99.0))
    lake.evening(DAYS[27]).fetch_symbols("MSFT", "NA", first=DAYS[2], last=DAYS[27])
    report = check(lake)
    assert report.broken == []
    assert report.counts["landed_sessions"] == 28
    rewritten("MSFT", without(DAYS[26]))(lake)
    rewritten("NA", valued("close", DAYS[3], 1.0))(lake)
    found = told(check(lake))
    assert found["lost"] == f"MSFT: 1 bars landed and not in bronze: {DAYS[26]}\n"
    assert found["different"] == f"NA: 1 bars not as landed: {DAYS[3]}\n"
    for key in lake.listed(layout.landing_prefix("range")):
        lake.store.put(key, b"spoiled")
    found = told(check(lake))
    assert found.keys() == {"landing_file"}
    assert "symbol=MSFT" in found["landing_file"]


def test_a_universe_limits_what_is_expected(lake: Kit) -> None:
    """Bars outside the universe need not be in bronze, and those that are stay; other counts in the ledger are no fault."""
    no_files_of("BCPC")(lake)
    lake.state.replace_ledger(
        lake.state.sessions(),
        watermarks={symbol: day for symbol, day in lake.state.symbol_watermarks().items() if symbol != "BCPC"},
        reason="test",
        now=lake.now,
    )
    lake.universe = frozenset(SYMBOLS) - {"BCPC", "NA"}
    report = check(lake)
    assert report.broken == [finding for finding in report.broken if finding.rule == "silver_file"]
    notices = told(report, "notice")
    assert notices["outside_universe"] == "1 symbols in bronze are not in the universe\n"
    assert f"{DAYS[0]}: 9 rows by the ledger, 7 landed" in notices["ledger_rows"]
    assert "has 1 symbols without a file: BCPC" in notices["cache"]


def test_a_closure_that_was_waited_for_is_no_damage(lake: Kit) -> None:
    """The exchange did not open, which was announced late: the open row of the ledger is a notice, and a repair drops it."""
    for symbol in SYMBOLS:
        lake.market.remove_bar(symbol, DAYS[26])
    lake.evening(DAYS[26]).fetch()
    assert lake.states()[DAYS[26]] == "pending"
    lake.market.add_closure(DAYS[26], "National Day of Mourning")
    assert lake.fetch_meta().closures_recorded == 1
    report = check(lake, lake.calendar)
    assert report.broken == []
    assert told(report, "notice")["ledger_session"] == f"{DAYS[26]}: in the ledger, and no session\n"
    lake.repair()
    assert DAYS[26] not in lake.states()


def test_odd_prices_are_notices(lake: Kit) -> None:
    """An open outside of low and high, and a jump without a split, are worth a look; the provider has both."""
    for day in DAYS[25:27]:
        lake.market.set_bar("NA", day, bar(60.0, open=70.0))
        lake.evening(day).fetch()
    report = check(lake)
    assert report.broken == []
    notices = told(report, "notice")
    assert f"NA {DAYS[25]}, {DAYS[26]}: open or close outside low and high" in notices["bar_range"]
    assert f"NA {DAYS[25]}: the close before was 194, the open 70, and no split is known" in notices["price_jump"]


def test_a_split_that_stands_twice_counts_once(lake: Kit) -> None:
    """The provider lists some splits twice: equal ones are a notice, and change no bar."""
    split("IBM", SPLIT_DAY, 2, 4)(lake)
    assert "split_jump" not in told(check(lake))
    assert f"IBM {SPLIT_DAY}: split 2-for-1 stands 2 times" in told(check(lake), "notice")["split_twice"]


def test_foreign_files_are_named(lake: Kit) -> None:
    """What is not the lake's is passed over and named; a set-aside file is no foreign one."""
    lake.store.put("bronze/raw_ohlcv/symbol=AAPL/notes.txt", b"hello")
    lake.store.put(layout.quarantined_file_key("AAPL", "0" * 16), b"set aside")
    lake.store.put(layout.landing_key("grouped", date(2025, 11, 8), lake.now, "0" * 16), b"{}")
    report = check(lake)
    assert report.broken == []
    notices = told(report, "notice")
    assert notices["foreign_file"] == "1 files are not the lake's: bronze/raw_ohlcv/symbol=AAPL/notes.txt\n"
    assert "1 unreadable files were set aside" in notices["quarantine"]
    assert notices["landing_session"].startswith("2025-11-08: landed")


# --- parts ------------------------------------------------------------------------------------------------------


def test_each_column_moves_the_hash_and_equal_nulls_do_not() -> None:
    """Two bars have one hash if and only if they are equal in every column."""
    base: dict[str, Any] = dict.fromkeys(DAILY_SCHEMA.names, 1)
    base |= {"symbol": "A", "date": DAYS[0], "ingested_at": 0}
    rows = [base, base | {"vwap": None}, base | {"vwap": None}, base | {"transactions": None}, base | {"date": DAYS[1]}]
    rows += [base | {name: 2} for name in DAILY_SCHEMA.names[2:]] + [base | {"volume": 0.0}, base | {"volume": -0.0}]
    bars = pa.Table.from_pylist(rows, pa.schema([*list(DAILY_SCHEMA)[:-1], pa.field("ingested_at", UTC_MICROSECONDS)]))
    codes = SymbolCodes()
    hashes = row_hashes(bars, codes.hashes(codes.of(bars["symbol"]))).tolist()
    assert hashes[1] == hashes[2]
    assert hashes[-1] == hashes[-2]
    assert len(set(hashes)) == len(rows) - 2


def test_days_outside_the_calendar_are_no_sessions() -> None:
    """A day beyond the table is simply not found."""
    grid = SessionGrid(CALENDAR)
    assert not grid.flags([date(1900, 1, 1), date(2500, 1, 1)]).any()


def test_an_error_without_a_remedy_gets_one() -> None:
    """Every finding says what to do."""
    findings = Findings()
    findings.error("rule", "plain text")
    findings.error("rule", "key: wrong; restore it")
    assert [(found.what, found.remedy) for found in findings.report().broken] == [
        ("plain text", "restore it from a copy"),
        ("key: wrong", "restore it"),
    ]


def test_the_report_is_plain_json(lake: Kit) -> None:
    """Findings and counts go to JSON as they are."""
    report = check(lake)
    assert json.loads(json.dumps(report.counts)) == report.counts
