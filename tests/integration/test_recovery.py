"""Recovery: each kind of object is lost and damaged in turn; what verify says, what a repair restores, and what else does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest

from condvest.demo.market import NEW_YORK, Market
from condvest.domain.answers import SessionAnswer, parse_flat_file
from condvest.domain.bars import DAILY_SCHEMA
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.jobs.landed import INCOMPLETE, unread
from condvest.jobs.repair import RepairReport, repair
from condvest.jobs.repair_state import repair_watermarks
from condvest.jobs.resample import resample
from condvest.jobs.verify import VerifyReport, verify
from condvest.storage import fetched, layout
from condvest.storage.closures import record_closures
from condvest.storage.manifest import read_manifest
from condvest.storage.parquet import encode_fetched, encode_history, encode_row
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of
from integration.watched_lake import Killed

SPLIT_DAY, FLAT, CONFIRMED, REJECTED, MERGED, PENDING = DAYS[10], DAYS[21], DAYS[22], DAYS[23], DAYS[24], DAYS[25]
RANGED = DAYS[4]
LANDED = DAYS[:26]
CLOSURE = date(2026, 6, 2)
CALENDAR = Calendar.shipped([CLOSURE])
ASIDE = layout.quarantined_file_key("AAPL", "0" * 16)


class FlatFiles:
    """The provider's flat files of one session after the other; the same bars as the market's, without `vwap`."""

    kind: Literal["flat_files"] = "flat_files"
    requests = 0

    def __init__(self, market: Market) -> None:
        """Take the bars that it gives."""
        self.market = market

    def fetch_sessions(self, sessions: Sequence[date]) -> Iterator[SessionAnswer]:
        """Yield the file of each session."""
        for session in sessions:
            start = int(datetime.combine(session, time(), tzinfo=NEW_YORK).timestamp()) * 10**9
            given = self.market.bars[session].items()
            lines = [f"{symbol},7.5,{bar.open},{bar.close},{bar.high},{bar.low},{start},7" for symbol, bar in given]
            columns = "ticker,volume,open,close,high,low,window_start,transactions"
            body = "\n".join([columns, *lines, ""]).encode()
            yield SessionAnswer(session, body, parse_flat_file(body, session))


def build(kit: Kit) -> None:
    """Make a lake with every kind of object that the format lists; the bars of the last session are not merged."""
    record_closures(kit.store, [CLOSURE])
    for number, day in enumerate(DAYS[10:30]):
        kit.market.set_bar("IBM", day, bar(80.0 + number / 2))
    kit.market.add_split("IBM", SPLIT_DAY, 1, 2)
    kit.market.add_dividend("NA", DAYS[7], 0.25)
    kit.market.raw_rows[REJECTED] = [{"T": "BAD", "o": 1, "h": 1, "l": 2, "c": 1, "v": 1, "t": 0}]
    kit.next_morning(DAYS[20]).fetch(*DAYS[:21])
    kit.next_morning(FLAT).fetch(FLAT, source=FlatFiles(kit.market))
    for day in DAYS[22:25]:
        kit.evening(day).fetch()
        kit.next_morning(day).fetch()
    kit.fetch_meta(details=2)
    kit.market.set_bar("MSFT", RANGED, bar(99.0))
    kit.fetch_symbols("MSFT", first=DAYS[3], last=DAYS[5])
    kit.store.put(ASIDE, b"bytes of a data.parquet that could not be read")
    kit.consolidate(retention_days=7)
    kit.resample()
    kit.evening(PENDING).fetch()


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
        yield kit.evening(PENDING)


def check(kit: Kit) -> VerifyReport:
    """Verify as the jobs do, by the closures that were announced."""
    return verify(kit.lake, kit.state, calendar=CALENDAR, now=kit.now, universe=kit.universe)


def broken(report: VerifyReport) -> set[str]:
    """Return the rules that do not hold."""
    return {finding.rule for finding in report.broken}


def is_cache(key: str) -> bool:
    """Say whether a key is one that a repair may write or remove."""
    checkpoints = {layout.checkpoint_key(sessions) for sessions in INTERVALS}
    is_other = layout.parse_silver_key(key) is not None or layout.parse_fetched_key(key) is not None
    return key in {layout.MANIFEST, layout.RECENT_BARS, *checkpoints} or is_other


def content(key: str, data: bytes, kit: Kit) -> Any:
    """Return what must be the same after a recovery: the bytes, but of caches what does not name versions of objects."""
    if key == layout.MANIFEST:
        names = ["symbol", "last_consolidated_date", "row_count", "last_updated"]
        return kit.table(key).select(names).to_pylist()
    if key == layout.RECENT_BARS or layout.parse_fetched_key(key):
        return kit.table(key).drop_columns("source" if key == layout.RECENT_BARS else "etag").to_pylist()
    if key in {layout.checkpoint_key(sessions) for sessions in INTERVALS}:
        found = json.loads(data)
        return found | {name: sorted(found[name]) for name in ("sources", "months")}
    return data


def contents(kit: Kit) -> dict[str, Any]:
    """Return the content of every object."""
    return {key: content(key, data, kit) for key, data in kit.files().items()}


def told_state(kit: Kit) -> object:
    """Return what the state says: sessions by state, and watermarks."""
    return kit.states(), kit.state.symbol_watermarks()


# --- each object in turn ----------------------------------------------------------------------------------------

By = Literal["repair", "remove", "replay", "force_full", "copy", "none"]


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of object: which one is harmed, which rules are broken when it is lost and when it is cut in two.

    `by`: what brings it back. `remove`: a repair takes away what is left of it, and nothing needs it. `none`: nothing has
    to, as all that it held is in the lake besides.
    """

    key: str | Callable[[Kit], str]
    lost: set[str]
    cut: set[str]
    by: By
    by_when_lost: By | None = None
    left: set[str] | None = None

    def object(self, kit: Kit) -> str:
        """Return the key."""
        return self.key if isinstance(self.key, str) else self.key(kit)


def landed(kind: layout.LandingKind, session: date | None = None) -> Callable[[Kit], str]:
    """Return the last landed object of a kind."""
    return lambda kit: kit.listed(layout.landing_prefix(kind, session))[-1]


def quarantined(kit: Kit) -> str:
    """Return the rows in quarantine."""
    return next(key for key in kit.listed(layout.QUARANTINE) if layout.parse_quarantine_key(key))


def first_month(sessions: int) -> Callable[[Kit], str]:
    """Return the first month file of an interval."""
    return lambda kit: kit.listed(layout.silver_prefix(sessions))[0]


FILE = {"landing_file"}
NOT_LANDED = {"ledger_landing", "not_landed"}
CASES: dict[str, Case] = {
    "landing, grouped": Case(landed("grouped", DAYS[6]), NOT_LANDED, FILE, "copy", left={"not_landed"}),
    "landing, flat files": Case(landed("flat_files", FLAT), NOT_LANDED, FILE, "copy", left={"not_landed"}),
    "landing, range": Case(landed("range"), {"different"}, FILE, "copy"),
    "landing, confirmed": Case(landed("confirmed", CONFIRMED), {"ledger_state"}, FILE, "copy", left=set()),
    "landing, tickers": Case(landed("tickers"), set(), FILE, "copy"),
    "landing, details": Case(landed("details"), set(), FILE, "copy"),
    "landing, splits": Case(landed("splits"), set(), FILE, "copy"),
    "landing, dividends": Case(landed("dividends"), set(), FILE, "copy"),
    "date= file, not merged": Case(
        layout.daily_key("NA", PENDING), {"lost", "watermark"}, {"bronze_file", "lost", "watermark"}, "replay"
    ),
    "date= file, merged": Case(layout.daily_key("NA", MERGED), set(), {"bronze_file"}, "replay", by_when_lost="none"),
    "data.parquet": Case(layout.data_key("BCPC"), {"bronze_file", "lost"}, {"bronze_file"}, "force_full"),
    "splits": Case(layout.SPLITS, {"corporate_actions"}, {"corporate_actions"}, "copy"),
    "dividends": Case(layout.DIVIDENDS, {"corporate_actions"}, {"corporate_actions"}, "copy"),
    "quarantined rows": Case(quarantined, set(), {"quarantine_file"}, "copy"),
    "set-aside file": Case(ASIDE, set(), set(), "copy"),
    "cleanup manifest": Case(layout.CLEANUP_MANIFEST, set(), {"cleanup_manifest"}, "copy"),
    "closures": Case(layout.CLOSURES, set(), {"closures"}, "copy"),
    "manifest": Case(layout.MANIFEST, set(), {"cache"}, "repair"),
    "recent bars": Case(layout.RECENT_BARS, set(), {"cache"}, "repair"),
    "fetched bars": Case(layout.fetched_key(PENDING), set(), set(), "remove"),
}
for sessions in INTERVALS:
    CASES[f"checkpoint {sessions}d"] = Case(layout.checkpoint_key(sessions), set(), {"checkpoint"}, "repair")
    CASES[f"silver {sessions}d"] = Case(first_month(sessions), {"silver_file"}, {"silver_file"}, "repair")


def test_every_kind_of_object_stands_in_the_table(lake: Kit) -> None:
    """The lake has every kind of key that the format lists, each kind has a case, and nothing in it is broken."""
    kinds = {kind_of(case.object(lake)) for case in CASES.values()}
    assert kinds == {kind_of(key) for key in lake.listed()}
    assert len(kinds) == 31  # the table of keys, each checkpoint and each interval of silver for itself
    assert check(lake).broken == []


def kind_of(key: str) -> str:
    """Return the kind of a key: landing by its folder, bronze by its name, silver by its interval, all else by itself."""
    if found := layout.parse_landing_key(key):
        return found.kind
    if bars := layout.parse_bronze_key(key):
        return "date=" if bars.session else "data"
    if silver := layout.parse_silver_key(key):
        return f"silver_{silver.interval_sessions}d"
    if layout.parse_fetched_key(key):
        return "fetched"
    return "quarantine" if layout.parse_quarantine_key(key) else key


@pytest.mark.parametrize("harm", ["lost", "cut"])
@pytest.mark.parametrize("name", CASES)
def test_an_object_that_is_lost_or_cut_in_two(lake: Kit, name: str, harm: str) -> None:
    """Verify names it; a repair restores what is a cache and changes nothing else; the rest comes back by what it names."""
    case = CASES[name]
    if case.by == "force_full":  # which would merge the last session as well
        lake.consolidate(skip_cleanup=True)
        lake.resample()
    before, key, said = contents(lake), case.object(lake), told_state(lake)
    copy = lake.store.get(key).data
    lake.store.delete_many([key])
    if harm == "cut":
        lake.store.put(key, copy[: len(copy) // 2])
    assert broken(check(lake)) == (case.lost if harm == "lost" else case.cut)

    spoiled = lake.files()
    report = repaired(lake, harmed=key)
    changed = {one for one in spoiled.keys() | lake.files().keys() if spoiled.get(one) != lake.files().get(one)}
    assert [one for one in changed if not is_cache(one)] == []
    by = case.by_when_lost if harm == "lost" and case.by_when_lost else case.by
    if by == "repair":
        assert (report.left, contents(lake), told_state(lake)) == ([], before, said)
        assert lake.cost(lambda: lake.repair()).puts == 0
        return
    if by == "remove":
        rest = {one: data for one, data in before.items() if one != key}
        assert (report.left, contents(lake), told_state(lake)) == ([], rest, said)
        return
    left = case.left if harm == "lost" and case.left is not None else case.lost if harm == "lost" else case.cut
    assert (broken(check(lake)), bool(report.left)) == (left, bool(left))

    if by == "none":
        assert contents(lake) == {one: data for one, data in before.items() if one != key}
        return
    restore(lake, by, key, copy)
    assert repaired(lake, harmed=key).left == []
    after = contents(lake)
    aside = {one: after.pop(one) for one in after.keys() - before.keys()}
    assert list(aside.values()) == ([copy[: len(copy) // 2]] if by == "force_full" and harm == "cut" else [])
    assert [one for one in before if after.get(one) != before[one]] == []
    assert told_state(lake) == said


def repaired(kit: Kit, *, harmed: str) -> RepairReport:
    """Repair, by the announced closures even where the file that tells them cannot be read."""
    calendar = CALENDAR if harmed == layout.CLOSURES else kit.calendar
    return repair(kit.lake, kit.state, calendar=calendar, now=kit.now, universe=kit.universe)


def restore(kit: Kit, by: By, key: str, copy: bytes) -> None:
    """Bring an object back by what the documents name."""
    if by == "copy":
        kit.store.put(key, copy)
        if key.startswith(layout.LANDING):
            assert kit.replay(*LANDED).left == []
    elif by == "replay":
        found = layout.parse_bronze_key(key)
        assert found is not None
        assert found.session is not None
        assert kit.replay(found.session).left == []
    else:
        found = layout.parse_bronze_key(key)
        assert found is not None
        replayed = kit.replay(*LANDED)
        assert replayed.rows == 0
        assert any(
            layout.data_key(found.symbol) in line and "consolidate --force-full" in line for line in replayed.left
        )
        assert kit.consolidate(force_full=True, symbols=[found.symbol], skip_cleanup=True).left == []


# --- repair -----------------------------------------------------------------------------------------------------

CACHES = (layout.MANIFEST, layout.RECENT_BARS, layout.checkpoint_key(5), layout.checkpoint_key(34))
MONTH = layout.silver_key(5, 2025, 11)


def spoil(kit: Kit, *keys: str) -> None:
    """Cut objects in two."""
    for key in keys:
        data = kit.store.get(key).data
        kit.store.put(key, data[: len(data) // 2])


def spoil_all(kit: Kit) -> None:
    """Lose or damage something of everything that a repair brings back."""
    spoil(kit, *CACHES[1:], MONTH)
    kit.store.delete_many([layout.MANIFEST, layout.silver_key(8, 2025, 12)])
    kit.store.put(layout.silver_key(3, 2024, 1), kit.store.get(layout.silver_key(3, 2025, 11)).data)
    rows = {row.session_date: row for row in kit.state.sessions()}
    wrong = [replace(rows[DAYS[3]], rows=4), replace(rows[PENDING], state="final")]
    kit.state.record(wrong, watermarks={"AAPL": DAYS[30]}, reason="fetch", now=kit.now)


def test_a_sound_lake_is_left_as_it_is(lake: Kit) -> None:
    """Nothing is written, nothing deleted, and the state stays; what waits to be merged waits on."""
    before, said = lake.files(), lake.state.sessions()
    cost = lake.cost(lambda: lake.repair())
    assert (cost.puts, cost.deletes) == (0, 0)
    report = lake.repair()
    assert (report.nothing_new, report.repaired, report.left) == (True, [], [])
    assert [found.rule for found in report.found] == ["pending", "quarantine", "quarantine"]
    assert (lake.files(), lake.state.sessions()) == (before, said)


def test_all_at_once_is_repaired_and_told(lake: Kit) -> None:
    """One repair brings back all that follows from the rest, and says what; the next one has nothing to do."""
    before, said = contents(lake), told_state(lake)
    spoil_all(lake)
    assert broken(check(lake)) == {"cache", "checkpoint", "silver_file", "ledger_rows", "ledger_state", "watermark"}
    report = lake.repair()
    assert report.left == []
    assert report.repaired == [
        f"{layout.RECENT_BARS}: built from bronze",
        f"{layout.MANIFEST}: built from bronze",
        "silver 3d, 5d, 8d, 34d: 2 month files written, 1 without bars removed, checkpoints that name them",
        f"session ledger: 2 sessions as landing and bronze have them: {DAYS[3]}, {PENDING}",
        f"watermarks: 1 moved to the last bar in bronze: AAPL {DAYS[30]} to {PENDING}",
    ]
    assert (contents(lake), told_state(lake)) == (before, said)
    assert [row.reason for row in lake.state.watermark_history("AAPL")][-2:] == ["fetch", "repair"]
    assert lake.repair().repaired == []


def test_a_repair_that_is_killed_anywhere_goes_on(sound: Path, tmp_path: Path) -> None:
    """Whichever write it dies before, no bar is changed, and the next repair ends with the same lake."""
    for number in count():
        folder = tmp_path / str(number)
        with Kit(folder, market=market_of(DAYS[:40])) as kit:
            shutil.copytree(sound / "lake", folder / "lake", copy_function=os.link)
            shutil.copyfile(sound / "state.sqlite", folder / "state.sqlite")
            kit.evening(PENDING)
            before, said = contents(kit), told_state(kit)
            spoil_all(kit)
            kit.lake.kill_at(number)
            try:
                kit.repair()
            except Killed:
                kit.lake.kill_at(None)
                assert kit.repair().left == []
                assert (contents(kit), told_state(kit)) == (before, said)
            else:
                assert number == 8  # recent bars, manifest, two months, one removed, three checkpoints
                return


def test_another_writer_is_not_overwritten(lake: Kit) -> None:
    """A consolidation that replaces the manifest first keeps its entries."""
    spoil(lake, layout.MANIFEST)
    lake.lake.first(layout.MANIFEST, lambda: lake.consolidate(skip_cleanup=True))
    lake.repair()
    assert lake.closes_of_data("NA")[PENDING] == lake.closes("NA")[PENDING]
    assert lake.consolidate(skip_cleanup=True).left == []
    lake.resample()
    assert check(lake).broken == []
    lake.assert_as_rebuilt()


def test_stale_silver_is_brought_up(lake: Kit) -> None:
    """Silver that is older than bronze follows from it, whichever intervals are configured."""
    lake.consolidate(skip_cleanup=True)
    report = lake.repair()
    assert (len(report.repaired), report.left) == (1, [])
    assert report.repaired[0].startswith("silver 3d, 5d, 8d, 13d, 21d, 34d: ")
    lake.assert_as_rebuilt()


def test_silver_of_a_length_that_is_not_usual_is_repaired_too(lake: Kit) -> None:
    """What lies in the lake follows from bronze, whether or not it is among the intervals of the settings."""
    resample(lake.lake, calendar=CALENDAR, intervals=[4])
    key = layout.silver_key(4, 2025, 11)
    before = contents(lake)
    spoil(lake, key)
    assert lake.repair().repaired == ["silver 4d: 1 month files written, checkpoints that name them"]
    assert contents(lake).keys() == before.keys()
    assert lake.store.get(key).data == before[key]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda kit: spoil(kit, layout.data_key("AAPL")), layout.data_key("AAPL")),
        (lambda kit: kit.store.delete_many([layout.data_key("AAPL")]), "is gone, though silver was built from it"),
        (lambda kit: kit.store.delete_many([layout.SPLITS]), f"{layout.SPLITS} is lost"),
        (lambda kit: spoil(kit, layout.SPLITS), f"{layout.SPLITS} is lost or cannot be read"),
        (lambda kit: kit.store.delete_many([layout.CLOSURES]), "built with another calendar"),
        (lambda kit: rewrite(kit, "AAPL", close=1.5), "AAPL: 1 bars not as landed"),
    ],
    ids=["data cut", "data lost", "splits lost", "splits cut", "closures lost", "bar changed"],
)
def test_silver_is_not_built_from_what_is_damaged(lake: Kit, harm: Callable[[Kit], object], told: str) -> None:
    """Silver stays as it is, with the reason and what to do first; manifest and recent bars are repaired all the same."""
    spoil(lake, layout.MANIFEST, MONTH)
    harm(lake)
    before = lake.files(layout.SILVER)
    report = lake.repair()
    assert lake.files(layout.SILVER) == before
    (left,) = [line for line in report.left if line.startswith("silver ")]
    assert told in left
    assert "not built from what is damaged itself" in left
    assert report.repaired[-1] == f"{layout.MANIFEST}: built from bronze"
    assert "silver_file" in broken(check(lake))
    assert lake.repair().repaired == []


def rewrite(kit: Kit, symbol: str, **values: Any) -> None:
    """Change values of one bar in a symbol's `data.parquet` behind everybody's back."""
    rows = kit.consolidated(symbol)
    rows[2] |= values
    kit.store.put(layout.data_key(symbol), encode_history(pa.Table.from_pylist(rows, DAILY_SCHEMA)))


def test_a_lost_history_keeps_its_entry_in_the_manifest(lake: Kit) -> None:
    """The manifest that a repair builds still tells a consolidation that the days that are left are not all."""
    rewrite(lake, "IBM", close=2.0)  # so that the manifest is behind, and is written
    lake.store.delete_many([layout.data_key("AAPL")])
    assert lake.repair().repaired == [f"{key}: built from bronze" for key in (layout.RECENT_BARS, layout.MANIFEST)]
    assert read_manifest(lake.store)["AAPL"].row_count == 25
    report = lake.consolidate(skip_cleanup=True)
    assert [line for line in report.left if "is gone" in line]
    assert layout.data_key("AAPL") not in lake.listed()


def test_a_loss_that_only_silver_knows_of_is_broken(lake: Kit) -> None:
    """With manifest and state lost as well, the checkpoints still tell that a `data.parquet` is gone."""
    lake.store.delete_many([layout.MANIFEST, *lake.listed(layout.symbol_prefix("AAPL"))])
    lake.state.replace_ledger([], watermarks={}, reason="test", now=lake.now)
    before = lake.files(layout.SILVER)
    report = lake.repair()
    assert f"{layout.data_key('AAPL')}: is gone, though silver was built from it" in "".join(report.left)
    assert lake.files(layout.SILVER) == before


def test_an_empty_state_is_rebuilt(lake: Kit, tmp_path: Path) -> None:
    """Beside a filled lake it knows nothing: ledger and watermarks come from landing and bronze, and the report says so."""
    said = told_state(lake)
    with Kit(tmp_path / "other", market=lake.market, lake_url=str(tmp_path / "lake")) as lost:
        lost.now = lake.now
        report = lost.repair()
        assert report.repaired == ["session ledger: was empty; 26 sessions and the watermarks from the lake"]
        assert (report.left, told_state(lost)) == ([], said)
        assert lost.state.watermark_history("AAPL")[-1].reason == "repair"
        assert lost.repair().nothing_new


def test_a_ledger_that_asserts_more_than_landed_takes_it_back(lake: Kit) -> None:
    """What never landed is missing and will be asked for; a day without a session goes; what landed and is absent comes."""
    rows = {row.session_date: row for row in lake.state.sessions()}
    extra = [replace(rows[DAYS[0]], session_date=day) for day in (DAYS[26], date(2025, 11, 8))]
    kept = [row for day, row in rows.items() if day > DAYS[1]]
    marks = lake.state.symbol_watermarks()
    lake.state.replace_ledger([*kept, *extra], watermarks=marks, reason="test", now=lake.now)
    assert broken(check(lake)) == {"ledger_landing", "ledger_session", "ledger_lost"}
    report = lake.repair()
    assert report.left == []
    assert report.repaired == [
        "session ledger: 1 rows of days without a session dropped: 2025-11-08",
        f"session ledger: 1 sessions missing, as nothing of them landed: {DAYS[26]}",
        f"session ledger: 2 sessions as landing and bronze have them: {DAYS[0]}, {DAYS[1]}",
    ]
    assert lake.states() == {day: row.state for day, row in rows.items()} | {DAYS[26]: "missing"}
    assert "final before, but no answer" in (lake.state.sessions(DAYS[26])[0].reason or "")
    assert lake.evening(DAYS[26]).fetch().left == []


def test_watermarks_do_not_move_back_while_bronze_is_damaged(lake: Kit) -> None:
    """What bronze lost may be what the watermark tells of; behind ones move all the same, and afterwards both are right."""
    marks = lake.state.symbol_watermarks()
    said = dict(marks)
    marks["IBM"] = DAYS[2]
    lake.state.replace_ledger(lake.state.sessions(), watermarks=marks, reason="test", now=lake.now)
    lake.store.delete_many([layout.daily_key("NA", PENDING)])
    report = lake.repair()
    assert report.repaired == [f"watermarks: 1 moved to the last bar in bronze: IBM {DAYS[2]} to {PENDING}"]
    assert any(line.startswith("watermarks of NA: not moved back while bronze is damaged") for line in report.left)
    assert lake.state.symbol_watermarks() == said
    assert lake.replay(PENDING).left == []
    assert lake.repair().left == []
    assert lake.state.symbol_watermarks() == said


def test_what_a_killed_fetch_left_is_not_a_repairs_work(lake: Kit) -> None:
    """A session that landed and is not done stays with the next fetch: nothing is broken, nothing is repaired."""
    lake.evening(DAYS[26]).lake.kill_at(4)
    with pytest.raises(Killed):
        lake.fetch()
    lake.lake.kill_at(None)
    assert lake.repair().nothing_new


def test_fetched_bars_that_are_untrue_are_removed(lake: Kit) -> None:
    """A consolidation would believe them; without them it reads the files."""
    key = layout.fetched_key(PENDING)
    rows = lake.table(key).to_pylist()
    rows[0]["close"] += 0.5
    lake.store.put(key, encode_fetched(pa.Table.from_pylist(rows, fetched.SCHEMA)))
    assert broken(check(lake)) == {"cache"}
    assert f"{key}: removed, as it was not what the date= files hold" in lake.repair().repaired
    assert key not in lake.listed()
    assert (broken(check(lake)), lake.repair().repaired) == (set(), [])


def test_a_session_that_was_recorded_as_incomplete_is_looked_at_again(lake: Kit) -> None:
    """A recording that could not read bronze said so in the ledger; by a repair the row follows from what is there."""
    (row,) = (row for row in lake.state.sessions() if row.session_date == PENDING)
    stale = replace(row, state="pending", answer_digest=None, reason=INCOMPLETE)
    lake.state.record([stale], watermarks={}, reason="fetch", now=lake.now)
    assert lake.repair().repaired == [f"session ledger: 1 sessions as landing and bronze have them: {PENDING}"]
    assert lake.states()[PENDING] == "provisional"
    lake.store.delete_many([layout.daily_key("NA", PENDING)])
    lake.state.record([stale], watermarks={}, reason="fetch", now=lake.now)
    assert [line for line in lake.repair().repaired if line.startswith("session ledger")] == []
    assert lake.states()[PENDING] == "pending"


def test_a_landed_answer_that_could_not_be_read_is_looked_at_again(lake: Kit) -> None:
    """A session is pending since its answer could not be read then: by a repair the row follows from what is there."""
    (row,) = (row for row in lake.state.sessions() if row.session_date == PENDING)
    stale = replace(row, state="pending", answer_digest=None, reason=unread(["spoiled"]))
    lake.state.record([stale], watermarks={}, reason="fetch", now=lake.now)
    assert lake.repair().repaired == [f"session ledger: 1 sessions as landing and bronze have them: {PENDING}"]
    assert lake.states()[PENDING] == "provisional"


def test_a_repair_that_cannot_read_landing_leaves_the_session_to_the_next(lake: Kit) -> None:
    """What waits to be looked at again waits on; a session that it has as it should be is done, and alone is named."""
    rows = {row.session_date: row for row in lake.state.sessions()}
    stale = [replace(rows[day], state="pending", answer_digest=None, reason=INCOMPLETE) for day in (MERGED, PENDING)]
    lake.state.record(stale, watermarks={}, reason="fetch", now=lake.now)
    key = lake.listed(layout.landing_prefix("grouped", PENDING))[-1]
    data = lake.store.get(key).data
    lake.store.put(key, b"no gzip")
    assert lake.repair().repaired == [f"session ledger: 1 sessions as landing and bronze have them: {MERGED}"]
    assert lake.states()[PENDING] == "pending"
    lake.store.put(key, data)
    assert lake.repair().repaired == [f"session ledger: 1 sessions as landing and bronze have them: {PENDING}"]
    assert lake.states()[PENDING] == "provisional"


@pytest.mark.parametrize("is_bad", [False, True], ids=["spoiled on its way", "bad itself"])
@pytest.mark.parametrize("key", [layout.data_key("NA"), layout.daily_key("NA", PENDING)])
def test_a_file_that_cannot_be_read_moves_no_watermark_back(lake: Kit, key: str, is_bad: bool) -> None:
    """What it holds may be just what the watermark tells of."""
    of_data = key == layout.data_key("NA")
    if of_data:
        lake.store.delete_many([one for one in lake.listed(layout.symbol_prefix("NA")) if one != key])
    marks = lake.state.symbol_watermarks() | {"NA": MERGED if of_data else PENDING}
    lake.state.replace_ledger(lake.state.sessions(), watermarks=marks, reason="test", now=lake.now)
    if is_bad:
        spoil(lake, key)
    else:
        lake.lake.spoil(key)
    told, kept = repair_watermarks(
        lake.lake, lake.state, symbols=["NA"], calendar=CALENDAR, now=lake.now, may_move_back=True
    )
    assert (told, kept) == ([], ["NA"] if is_bad else [])
    assert lake.state.symbol_watermarks() == marks


# --- replay -----------------------------------------------------------------------------------------------------


def test_bronze_of_all_sessions_comes_back_from_landing(lake: Kit) -> None:
    """With all of bronze, manifest and state lost, a replay of all that landed makes the same lake, and asks nobody."""
    lake.consolidate(skip_cleanup=True)
    lake.resample()
    before, said, asked = contents(lake), told_state(lake), len(lake.provider.requests)
    lake.store.delete_many([layout.MANIFEST, *lake.listed(layout.BRONZE)])
    lake.state.replace_ledger([], watermarks={}, reason="test", now=lake.now)
    report = lake.replay(*LANDED)
    assert (report.left, report.rows, len(report.final), len(report.provisional)) == ([], 26 * len(SYMBOLS), 25, 1)
    cost = lake.cost(lambda: lake.replay(*LANDED))
    assert (cost.puts, cost.deletes) == (0, 0)
    assert lake.repair().left == []
    gone = {key for key in before if "/date=" in key and key.startswith(layout.BRONZE)}
    assert contents(lake) == {key: data for key, data in before.items() if key not in gone}
    assert (told_state(lake), len(lake.provider.requests)) == (said, asked)


def test_a_replay_of_a_sound_lake_writes_nothing(lake: Kit) -> None:
    """Neither with files that wait to be merged, nor of one session, nor of one symbol."""
    for sessions in (LANDED, [PENDING], [DAYS[4]]):
        for symbols in (None, ["MSFT", "NA"]):
            before = lake.store.meter.snapshot()
            report = lake.replay(*sessions, symbols=symbols)
            cost = lake.store.meter.snapshot() - before
            assert (report.nothing_new, report.left, cost.puts, cost.deletes) == (True, [], 0, 0)


def test_a_few_sessions_come_back_where_a_fetch_puts_them(lake: Kit) -> None:
    """Lost rows of `data.parquet` and lost or damaged `date=` files, byte for byte; restatements by ranges too."""
    before, said = contents(lake), told_state(lake)
    rows = [row for row in lake.consolidated("MSFT") if row["date"] != RANGED]
    lake.store.put(layout.data_key("MSFT"), encode_history(pa.Table.from_pylist(rows, DAILY_SCHEMA)))
    lake.store.delete_many([layout.daily_key("NA", PENDING)])
    spoil(lake, layout.daily_key("CON", PENDING), layout.daily_key("CON", MERGED))
    assert broken(check(lake)) == {"bronze_file", "lost", "watermark"}
    report = lake.replay(*DAYS[3:26][:3], *DAYS[23:26])
    assert (report.left, report.rows) == ([], 4)
    assert lake.repair().left == []
    extra = layout.daily_key("MSFT", RANGED)
    after = contents(lake)
    assert lake.table(extra).to_pylist()[0]["close"] == 99.0
    assert {key: data for key, data in after.items() if key != extra} == before
    assert told_state(lake) == said
    assert lake.replay(*DAYS[3:26]).nothing_new


def test_damaged_files_of_many_sessions_are_written_anew(lake: Kit) -> None:
    """More than 20 sessions go into `data.parquet`; a `date=` file that cannot be read is replaced all the same."""
    spoil(lake, layout.daily_key("CON", PENDING), layout.daily_key("CON", MERGED))
    report = lake.replay(*LANDED)
    assert (report.left, report.rows) == ([], 2)
    assert check(lake).broken == []
    assert lake.replay(*LANDED).nothing_new


@pytest.mark.parametrize("sessions", [[PENDING], LANDED], ids=["few", "many"])
def test_a_file_that_the_network_spoiled_is_not_written_anew(lake: Kit, sessions: list[date]) -> None:
    """A `date=` file with a later value than landing's is named, whether it reads at once or at a second look; it stays."""
    key = layout.daily_key("CON", PENDING)
    (row,) = lake.table(key).to_pylist()
    later = [row | {"close": row["close"] + 1, "ingested_at": row["ingested_at"] + timedelta(minutes=1)}]
    lake.store.put(key, encode_row(pa.Table.from_pylist(later, DAILY_SCHEMA)))
    before = lake.files()
    lake.lake.spoil(key)
    report = lake.replay(*sessions)
    assert (report.rows, lake.lake.spoiled) == (0, {key: 0})
    assert any(line.startswith("CON: 1 bars in bronze are not as landed, and not earlier") for line in report.left)
    assert lake.files() == before


def test_one_symbol_is_replayed_alone(lake: Kit) -> None:
    """With symbols just these come back, their watermarks follow, and the session ledger stays as it is."""
    for symbol in ("NA", "CON"):
        lake.store.delete_many([layout.daily_key(symbol, PENDING)])
    marks = lake.state.symbol_watermarks()
    earlier = marks | {"NA": MERGED}
    rows = lake.state.sessions()
    lake.state.replace_ledger(rows, watermarks=earlier, reason="test", now=lake.now)
    report = lake.replay(PENDING, symbols=["NA"])
    assert (report.left, report.rows, report.changed) == ([], 1, 1)
    assert layout.daily_key("CON", PENDING) not in lake.listed()
    assert (lake.state.symbol_watermarks(), lake.state.sessions()) == (marks, rows)
    assert lake.state.watermark_history("NA")[-1].reason == "replay"


def test_what_never_landed_or_cannot_be_read_is_left(lake: Kit) -> None:
    """Each such session is named with what to do; the others are replayed."""
    lake.store.delete_many(lake.listed(layout.landing_prefix("grouped", DAYS[6])))
    spoil(lake, *lake.listed(layout.landing_prefix("grouped", DAYS[7])))
    lake.store.delete_many([layout.daily_key("NA", PENDING)])
    report = lake.replay(*LANDED)
    assert report.rows == 1
    first, second = report.left
    assert first == (
        f"{DAYS[6]}: nothing landed; restore bronze/landing/ from a copy, or run `condvest fetch bars --date {DAYS[6]}`"
    )
    assert second.startswith(f"{DAYS[7]}: bronze/landing/grouped/date={DAYS[7]}/")
    assert "corrupt" in second
    assert lake.states()[DAYS[7]] == "final"  # what was acknowledged is not taken back
    lake.store.delete_many(lake.listed(layout.landing_prefix("grouped", RANGED)))
    (left,) = lake.replay(RANGED).left
    assert left.startswith(f"{RANGED}: no answer with the whole market landed, only 1 symbols; ")
    assert lake.replay(RANGED, symbols=["MSFT"]).left == []
    (left,) = lake.replay(RANGED, symbols=["MSFT", "NA"]).left
    assert left.startswith(f"{RANGED}: nothing of NA landed; ")
    assert left.endswith(f"`condvest fetch bars --date {RANGED} --symbols NA`")


@pytest.mark.parametrize("harm", ["lost", "cut", "lost with the manifest"])
@pytest.mark.parametrize("sessions", [DAYS[3:6], DAYS[:24]], ids=["few", "many"])
def test_a_history_is_never_begun_from_a_part(lake: Kit, harm: str, sessions: list[date]) -> None:
    """A `data.parquet` that is lost or unreadable is named with its remedy, again and again; nothing of it is written."""
    key = layout.data_key("AAPL")
    if harm == "cut":
        spoil(lake, key)
    else:
        lake.store.delete_many([key, layout.MANIFEST] if harm != "lost" else [key])
    before = lake.files()
    for _ in range(2):
        report = lake.replay(*sessions)
        assert report.rows == 0
        (named,) = [line for line in report.left if line.startswith(key)]
        assert named.endswith("run `condvest consolidate --force-full --symbols AAPL`, which rebuilds it from landing")
        assert lake.files() == before
    assert set(lake.states().values()) == {"final", "provisional"}
    assert lake.consolidate(force_full=True, symbols=["AAPL"], skip_cleanup=True).left == []
    assert lake.replay(*sessions).left == []


def test_bars_that_landing_does_not_explain_stay(lake: Kit) -> None:
    """A bar of no answer stays; one that bronze holds otherwise is named and stays."""
    rows = lake.consolidated("TRUE")
    rows[2] |= {"close": rows[2]["close"] + 1, "ingested_at": lake.now}
    lake.store.put(layout.data_key("TRUE"), encode_history(pa.Table.from_pylist(rows, DAILY_SCHEMA)))
    strange = [row | {"symbol": "ZZZ"} for row in rows[:1]]
    lake.store.put(layout.data_key("ZZZ"), encode_history(pa.Table.from_pylist(strange, DAILY_SCHEMA)))
    before = lake.files()
    (left,) = lake.replay(*LANDED).left
    assert left.startswith(f"TRUE: 1 bars in bronze are not as landed, and not earlier: {DAYS[2]}; ")
    assert lake.files() == before


def test_a_replay_that_is_killed_anywhere_goes_on(lake: Kit) -> None:
    """Whichever write it dies before, the next one ends with the same bars and the same ledger."""
    said, keys = told_state(lake), [layout.daily_key(symbol, PENDING) for symbol in SYMBOLS]
    rows = [row for row in lake.consolidated("MSFT") if row["date"] != RANGED]
    short = encode_history(pa.Table.from_pylist(rows, DAILY_SCHEMA))
    for number in count():
        lake.store.put(layout.data_key("MSFT"), short)
        lake.store.delete_many([*keys, layout.daily_key("MSFT", RANGED)])
        lake.lake.kill_at(number)
        try:
            lake.replay(RANGED, PENDING)
        except Killed:
            lake.lake.kill_at(None)
            assert lake.replay(RANGED, PENDING).left == []
            assert (broken(check(lake)), told_state(lake)) == (set(), said)
        else:
            assert number == len(SYMBOLS) + 5  # files, fetched bars, data.parquet, recent bars, manifest
            return


def test_a_session_that_a_killed_fetch_left_is_completed(lake: Kit) -> None:
    """What landed and is pending is done after a replay: the ledger follows, without the provider."""
    lake.evening(DAYS[26]).lake.kill_at(4)
    with pytest.raises(Killed):
        lake.fetch()
    lake.lake.kill_at(None)
    asked = len(lake.provider.requests)
    report = lake.replay(DAYS[26])
    assert (report.left, report.provisional) == ([], [DAYS[26]])
    assert set(lake.state.symbol_watermarks().values()) == {DAYS[26]}
    assert len(lake.provider.requests) == asked


def test_a_universe_limits_a_replay(lake: Kit) -> None:
    """Symbols outside of it landed, and do not come to bronze."""
    lake.store.delete_many([layout.daily_key(symbol, PENDING) for symbol in SYMBOLS])
    lake.universe = frozenset({"AAPL", "NA"})
    assert lake.replay(PENDING).rows == 2
    assert [key for key in lake.daily_keys() if str(PENDING) in key] == [
        layout.daily_key(symbol, PENDING) for symbol in ("AAPL", "NA")
    ]


def test_a_recovery_on_s3(tmp_path: Path, s3_url: str) -> None:
    """The same on S3, where an ETag follows from the content."""
    with Kit(tmp_path, market=market_of(DAYS[:40]), lake_url=s3_url) as kit:
        build(kit)
        before, said = contents(kit), told_state(kit)
        spoil_all(kit)
        kit.store.delete_many([layout.daily_key("NA", PENDING)])
        assert any("silver " in line for line in kit.repair().left)
        assert kit.replay(PENDING).left == []
        assert kit.repair().left == []
        assert (contents(kit), told_state(kit)) == (before, said)
        cost = kit.cost(lambda: (kit.repair(), kit.replay(*LANDED)))
        assert (cost.puts, cost.deletes) == (0, 0)
