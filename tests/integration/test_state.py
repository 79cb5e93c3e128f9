"""The state database on SQLite and on a real PostgreSQL server: one suite for both."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, event, make_url

from condvest.domain.ledger import LedgerRow
from condvest.domain.records import SymbolRow, Traffic, WatermarkRow
from condvest.errors import ConfigError, DataError, TransientError
from condvest.state import State
from condvest.state.engine import Database

MON, TUE, WED = (date(2025, 11, day) for day in (17, 18, 19))
NOW = datetime(2025, 11, 19, 22, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
FINAL = LedgerRow(session_date=MON, state="final", source="grouped", rows=9, answer_rows=10, quarantined=1)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the first word of every statement sent to any database."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement.split()[0])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def written(seen: list[str]) -> list[str]:
    """Return the statements that change something."""
    return [word for word in seen if word in ("INSERT", "UPDATE", "DELETE")]


def check_history(state: State, symbol: str) -> list[WatermarkRow]:
    """Return a symbol's history, having checked what SCD type 2 promises of it."""
    rows = state.watermark_history(symbol)
    assert [row.is_current for row in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1].valid_to is None
    for row, following in pairwise(rows):
        assert row.valid_to == following.valid_from
        assert row.valid_from <= following.valid_from
        assert row.last_session != following.last_session
    return rows


# The ledger


def test_a_row_comes_back_as_it_was_recorded(state: State) -> None:
    """Every field of a ledger row survives; times come back in UTC whatever zone they were given in."""
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    row = replace(
        FINAL, restated=2, withdrawn=3, answer_digest="0123456789abcdef", fetched_at=tokyo, reason="späte Zeile"
    )
    state.record([row], watermarks={}, reason="fetch", now=NOW)
    (found,) = state.sessions()
    assert found == replace(row, updated_at=NOW)
    assert found.fetched_at is not None
    assert found.fetched_at.tzinfo is UTC


def test_sessions_are_ascending_and_bounds_inclusive(state: State) -> None:
    """A range of sessions is asked for by its first and last one."""
    state.record([replace(FINAL, session_date=day) for day in (WED, MON, TUE)], watermarks={}, reason="fetch", now=NOW)
    assert [row.session_date for row in state.sessions()] == [MON, TUE, WED]
    assert [row.session_date for row in state.sessions(TUE, WED)] == [TUE, WED]
    assert [row.session_date for row in state.sessions(last=TUE)] == [MON, TUE]
    assert [row.session_date for row in state.sessions(first=WED)] == [WED]


def test_expected_sessions_are_missing_until_recorded(state: State) -> None:
    """What is expected becomes `missing`; what the ledger has already stays as it is; saying it again writes nothing."""
    assert state.ledger_is_empty()
    state.record([replace(FINAL, session_date=TUE)], watermarks={}, reason="fetch", now=NOW)
    assert not state.ledger_is_empty()
    state.expect([WED, MON, TUE], now=LATER)
    assert [row.state for row in state.sessions()] == ["missing", "final", "missing"]
    assert state.sessions(TUE, TUE)[0].updated_at == NOW
    with statements() as seen:
        state.expect([MON, TUE, WED], now=LATER)
        state.expect([], now=LATER)
    assert written(seen) == []


def test_recording_again_replaces_a_row_and_the_same_writes_nothing(state: State) -> None:
    """A provisional session becomes final in place; a run with nothing new writes nothing (lake rule 8)."""
    rows = [replace(FINAL, state="provisional"), replace(FINAL, session_date=TUE)]
    state.record(rows, watermarks={"AAPL": TUE}, reason="fetch", now=NOW)
    state.record([FINAL], watermarks={"AAPL": TUE}, reason="fetch", now=LATER)
    assert [(row.state, row.updated_at) for row in state.sessions()] == [("final", LATER), ("final", NOW)]
    with statements() as seen:
        state.record(state.sessions(), watermarks={"AAPL": TUE}, reason="fetch", now=LATER + timedelta(days=1))
    assert written(seen) == []


def test_a_value_that_breaks_a_rule_leaves_everything_as_it_was(state: State) -> None:
    """One bad row fails the whole transaction, the watermarks with it."""
    state.record([FINAL], watermarks={"AAPL": MON}, reason="fetch", now=NOW)
    bad = [replace(FINAL, session_date=TUE), replace(FINAL, session_date=WED, answer_digest="short")]
    with pytest.raises(DataError, match="refused a value"):
        state.record(bad, watermarks={"AAPL": WED}, reason="fetch", now=NOW)
    with pytest.raises(DataError, match="has no zone"):
        state.record(bad[:1], watermarks={}, reason="fetch", now=NOW.replace(tzinfo=None))
    assert len(state.sessions()) == 1
    assert state.symbol_watermarks() == {"AAPL": MON}


# Watermarks


def test_D22_a_watermark_moves_forward_only(state: State) -> None:
    """Late older bars leave it where it is; each step is a closed period and a new one."""
    state.record([], watermarks={"AAPL": MON, "BCpC": MON, "BCPC": TUE}, reason="backfill", now=NOW)
    state.record([], watermarks={"AAPL": WED, "BCPC": MON}, reason="fetch", now=LATER)
    assert state.symbol_watermarks() == {"AAPL": WED, "BCPC": TUE, "BCpC": MON}
    assert list(state.symbol_watermarks()) == ["AAPL", "BCPC", "BCpC"]
    first, second = check_history(state, "AAPL")
    assert (first.last_session, first.valid_from, first.valid_to, first.reason) == (MON, NOW, LATER, "backfill")
    assert (second.last_session, second.valid_from, second.valid_to, second.reason) == (WED, LATER, None, "fetch")
    assert len(check_history(state, "BCPC")) == 1
    assert state.watermark_history("NONE") == []


def test_a_clock_that_stands_back_leaves_no_period_that_ends_before_it_began(state: State) -> None:
    """A run with an earlier `now` is recorded after what is there."""
    state.record([], watermarks={"AAPL": MON}, reason="fetch", now=LATER)
    state.record([], watermarks={"AAPL": TUE}, reason="fetch", now=NOW)
    assert [row.valid_from for row in check_history(state, "AAPL")] == [LATER, LATER]


def test_ten_thousand_watermarks_are_a_handful_of_statements(state: State) -> None:
    """The market's watermarks move in statements whose number does not grow with the symbols."""
    for day in (MON, TUE):
        with statements() as seen:
            state.record([FINAL], watermarks={f"S{n}": day for n in range(10_000)}, reason="fetch", now=NOW)
        assert len(seen) < 15
    assert set(state.symbol_watermarks().values()) == {TUE}
    assert len(state.symbol_watermarks()) == 10_000
    assert len(check_history(state, "S9999")) == 2


@pytest.mark.parametrize("seed", range(4))
def test_D22_any_order_of_changes_keeps_one_current_row_a_symbol(state: State, seed: int) -> None:
    """Against a dictionary as model: same watermarks, one current row a symbol, periods without gap, no silent step back."""
    chance = random.Random(seed)
    symbols = ["A", "a", "BRK.B", "Ünï", "NULL", '"', "'; --"]
    model: dict[str, date | None] = {}
    for step in range(15):
        given = {symbol: MON + timedelta(days=chance.randrange(9)) for symbol in symbols if chance.random() < 0.6}
        now = NOW + timedelta(minutes=step * chance.choice((-1, 1, 1)))
        if chance.random() < 0.7:
            state.record([], watermarks=given, reason="fetch", now=now)
            model |= {s: max(d, model.get(s) or d) for s, d in given.items()}
        else:
            state.replace_ledger([], watermarks=given, reason="rebuild", now=now)
            model = {symbol: given.get(symbol) for symbol in model | given}
        assert state.symbol_watermarks() == {symbol: day for symbol, day in model.items() if day}
    for symbol, last in model.items():
        rows = check_history(state, symbol)
        assert rows[-1].last_session == last
        for row, following in pairwise(rows):
            if following.reason == "fetch":
                assert row.last_session is None or row.last_session < following.last_session  # type: ignore[operator]
                # has one


# Rebuild


def test_a_rebuild_replaces_the_ledger_and_keeps_the_watermarks_history(state: State) -> None:
    """What the lake says counts: rows that it does not have go, watermarks move back with the reason in their history."""
    rows = [replace(FINAL, session_date=day) for day in (MON, TUE)]
    state.record(rows, watermarks={"AAPL": TUE, "GONE": TUE, "SAME": TUE}, reason="fetch", now=NOW)
    rebuilt = [replace(FINAL, session_date=TUE, rows=1), replace(FINAL, session_date=WED)]
    marks = {"AAPL": MON, "NEW": WED, "SAME": TUE}
    state.replace_ledger(rebuilt, watermarks=marks, reason="rebuilt from the lake", now=LATER)
    assert state.sessions() == [replace(row, updated_at=LATER) for row in rebuilt]
    assert state.symbol_watermarks() == marks
    assert [row.last_session for row in check_history(state, "AAPL")] == [TUE, MON]
    assert [row.last_session for row in check_history(state, "GONE")] == [TUE, None]
    assert len(check_history(state, "SAME")) == 1
    with statements() as seen:
        state.replace_ledger(rebuilt, watermarks=marks, reason="rebuilt from the lake", now=LATER)
    assert written(seen) == []
    state.record([], watermarks={"GONE": MON}, reason="fetch", now=LATER)
    assert state.symbol_watermarks()["GONE"] == MON


def test_a_repair_touches_just_what_it_names(state: State) -> None:
    """Rows are replaced, added and dropped, watermarks move back with their reason; all others stay as they are."""
    rows = [replace(FINAL, session_date=day) for day in (MON, TUE)]
    state.record(rows, watermarks={"AAPL": TUE, "GONE": TUE, "SAME": TUE}, reason="fetch", now=NOW)
    state.repair_ledger([replace(FINAL, session_date=WED, rows=3)], drop=[MON, WED], now=LATER)
    assert [(row.session_date, row.updated_at) for row in state.sessions()] == [(TUE, NOW), (WED, LATER)]
    marks = {"AAPL": MON, "GONE": None, "NEW": WED}
    for _ in range(2):
        state.restate_watermarks(marks, reason="repair", now=LATER)
        assert state.symbol_watermarks() == {"AAPL": MON, "NEW": WED, "SAME": TUE}
        assert [(row.last_session, row.reason) for row in check_history(state, "GONE")] == [
            (TUE, "fetch"),
            (None, "repair"),
        ]
    with statements() as seen:
        state.restate_watermarks(marks, reason="repair", now=LATER)
        state.repair_ledger([], drop=[], now=LATER)
    assert written(seen) == []
    with pytest.raises(ConfigError, match="AAPL would move back"):
        state.restate_watermarks({"AAPL": None}, reason="fetch", now=LATER)


@pytest.mark.parametrize("reason", ["fetch", "backfill", " "])
def test_no_step_back_without_a_reason_of_its_own(state: State, reason: str) -> None:
    """Ordinary progress cannot move a watermark back; what was tried leaves no trace (lake rule 4)."""
    state.record([FINAL], watermarks={"AAPL": TUE}, reason="fetch", now=NOW)
    for marks in ({"AAPL": MON}, {}):
        with pytest.raises(ConfigError, match="AAPL would move back from 2025-11-18"):
            state.replace_ledger([], watermarks=marks, reason=reason, now=LATER)
    assert [row.session_date for row in state.sessions()] == [MON]
    assert len(check_history(state, "AAPL")) == 1


# Several writers, crashes

CHILD = """
import os, signal, sys
from datetime import UTC, date, datetime, timedelta
from sqlalchemy import Engine, event
from condvest.domain.ledger import LedgerRow
from condvest.state import State

url, mode, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
def die(connection, cursor, statement, *rest):
    if statement.startswith("INSERT INTO data_ingestion_watermark"):
        os.kill(os.getpid(), signal.SIGKILL)
if mode == "die":
    event.listen(Engine, "before_cursor_execute", die)
now = datetime(2025, 11, 20, tzinfo=UTC)
with State.open(url, migrate=True) as state:
    for step in range(10):
        day = date(2025, 1, 1) + timedelta(days=2 * step + number)
        marks = {"SHARED": day, f"OWN{number}": day}
        state.record([LedgerRow(session_date=day, state="final")], watermarks=marks, reason="fetch", now=now)
"""


def child(url: str, mode: str, number: int) -> subprocess.Popen[bytes]:
    """Start a process that opens (and migrates) the database and records ten sessions of its own."""
    return subprocess.Popen([sys.executable, "-c", CHILD, url, mode, str(number)], stderr=subprocess.PIPE)


def test_two_processes_at_once_lose_nothing(state_url: str) -> None:
    """Both make the tables of an empty database and write the same watermark: each migration and each update counts once."""
    processes = [child(state_url, "write", number) for number in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    with State.open(state_url, migrate=False) as state:
        assert len(state.sessions()) == 20
        last = date(2025, 1, 20)
        assert state.symbol_watermarks() == {"SHARED": last, "OWN0": last - timedelta(days=1), "OWN1": last}
        assert [len(check_history(state, symbol)) for symbol in ("OWN0", "OWN1")] == [10, 10]
        check_history(state, "SHARED")


def test_a_process_killed_amid_a_transaction_leaves_the_old_state(state: State, state_url: str) -> None:
    """Killed between closing the old watermark and adding the new one: the old one stands, the next writer goes on (D22)."""
    state.record([FINAL], watermarks={"SHARED": date(2024, 1, 2)}, reason="fetch", now=NOW)
    process = child(state_url, "die", 0)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert [row.session_date for row in state.sessions()] == [MON]
    assert [row.last_session for row in check_history(state, "SHARED")] == [date(2024, 1, 2)]
    state.record([FINAL], watermarks={"SHARED": MON}, reason="fetch", now=LATER)
    assert state.symbol_watermarks() == {"SHARED": MON}


def test_threads_may_share_one_state_and_open_their_own(state_url: str) -> None:
    """Calls from several threads wait for each other; opening an empty database from several threads makes it once."""

    def one(number: int) -> None:
        with State.open(state_url, migrate=True) as state:
            state.record([], watermarks={"AAPL": MON + timedelta(days=number)}, reason="fetch", now=NOW)
            list(pool_of_readers.map(lambda _: state.symbol_watermarks(), range(3)))

    with ThreadPoolExecutor(4) as pool, ThreadPoolExecutor(4) as pool_of_readers:
        list(pool.map(one, range(8)))
    with State.open(state_url, migrate=False) as state:
        assert state.symbol_watermarks() == {"AAPL": MON + timedelta(days=7)}
        check_history(state, "AAPL")


def test_a_lock_held_too_long_is_a_passing_failure(state: State, state_url: str) -> None:
    """A writer that has to wait for longer than the time-out gives up with an error that may be tried again; readers go on."""
    holder = Database(state_url, lock_timeout_seconds=1)
    with State.open(state_url, migrate=False, lock_timeout_seconds=1) as waiting:
        with holder.write():
            with pytest.raises(TransientError, match="not available"):
                waiting.record([FINAL], watermarks={}, reason="fetch", now=NOW)
            assert waiting.sessions() == []
        waiting.record([FINAL], watermarks={}, reason="fetch", now=NOW)
    holder.close()
    assert len(state.sessions()) == 1


# Symbols

APPLE = SymbolRow(symbol="AAPL", name="Apple Inc.", type="CS", market="stocks", primary_exchange="XNAS", currency="usd")
DETAILS = SymbolRow(
    symbol="AAPL",
    list_date=date(1980, 12, 12),
    sic_code="3571",
    sic_description="ELECTRONIC COMPUTERS",
    market_cap=3.5e12,
    details_at=NOW,
)


def test_a_symbol_comes_back_as_it_was_recorded(state: State) -> None:
    """Every field survives; first and last seen are set by the database."""
    full = replace(
        APPLE,
        cik="0000320193",
        composite_figi="BBG000B9XRY4",
        share_class_figi="BBG001S5N8V8",
        active=False,
        delisted_at=NOW,
    )
    assert state.upsert_symbols([full, DETAILS], NOW) == 1
    details = {
        name: getattr(DETAILS, name)
        for name in ("list_date", "sic_code", "sic_description", "market_cap", "details_at")
    }
    assert state.symbols() == [replace(full, **details, first_seen=NOW, last_seen=NOW)]


def test_list_and_details_each_speak_for_their_own_columns(state: State) -> None:
    """The daily list does not wipe the details, and details do not wipe the list: neither undoes the other's work."""
    state.upsert_symbols([APPLE], NOW)
    assert state.upsert_symbols([DETAILS], NOW) == 1
    assert state.upsert_symbols([replace(APPLE, name="Apple")], NOW) == 1
    (found,) = state.symbols()
    assert (found.name, found.type, found.market_cap, found.details_at) == ("Apple", "CS", 3.5e12, NOW)
    assert state.upsert_symbols([replace(DETAILS, symbol="NEW")], NOW) == 1
    assert [row.symbol for row in state.symbols()] == ["AAPL", "NEW"]


def test_the_same_list_again_writes_nothing(state: State) -> None:
    """A second run of one day writes nothing; on the next UTC day it writes `last_seen`, and counts no change."""
    rows = [replace(APPLE, symbol=f"S{number}") for number in range(2_500)]
    assert state.upsert_symbols(rows, NOW) == 2_500
    with statements() as seen:
        assert state.upsert_symbols(rows, LATER) == 0
    assert written(seen) == []
    with statements() as seen:
        assert state.upsert_symbols(rows, NOW + timedelta(days=1)) == 0
    assert 0 < len(written(seen)) < 5
    assert {(row.first_seen, row.last_seen) for row in state.symbols()} == {(NOW, NOW + timedelta(days=1))}
    assert state.upsert_symbols([], NOW) == 0


def test_a_ticker_that_is_used_again_is_another_security(state: State) -> None:
    """The active one of two rows counts, whatever their order; another FIGI forgets the details of the old company."""
    old = replace(APPLE, symbol="FB", name="Facebook", composite_figi="BBG000MM2P62")
    gone = replace(old, active=False, delisted_at=NOW)
    fund = replace(APPLE, symbol="FB", name="A fund", type="ETF", composite_figi="BBG01ABCDEF0")
    state.upsert_symbols([old, replace(DETAILS, symbol="FB")], NOW)
    state.upsert_symbols([replace(gone, delisted_at=NOW - timedelta(days=900)), gone], NOW)
    assert [(row.active, row.delisted_at, row.market_cap) for row in state.symbols()] == [(False, NOW, 3.5e12)]
    for rows in ([gone, fund], [fund, gone]):
        state.upsert_symbols(rows, LATER)
        (found,) = state.symbols()
        assert (found.name, found.active, found.delisted_at) == ("A fund", True, None)
        assert (found.market_cap, found.details_at) == (None, None)


def test_symbols_sort_by_code_point(state: State) -> None:
    """Case matters and order does not depend on the server's locale."""
    state.upsert_symbols([replace(APPLE, symbol=symbol) for symbol in ("b", "BCpC", "BCPC", "a", "B.A")], NOW)
    assert [row.symbol for row in state.symbols()] == ["B.A", "BCPC", "BCpC", "a", "b"]


def test_details_are_asked_for_in_order_of_need(state: State) -> None:
    """Never asked first, active before delisted; then the oldest; never again what is fresh or was asked after the delisting."""
    day = timedelta(days=1)
    gone = replace(APPLE, active=False, delisted_at=NOW - 100 * day)
    listed = [replace(APPLE, symbol=symbol) for symbol in ("NEW2", "NEW1", "OLD", "OLDER", "EDGE", "FRESH")]
    delisted = [replace(gone, symbol=symbol) for symbol in ("A_GONE_NEW", "GONE_BEFORE", "GONE_AFTER")]
    state.upsert_symbols([*listed, *delisted], NOW)
    ages = {"OLD": 40, "OLDER": 50, "EDGE": 30, "FRESH": 29, "GONE_BEFORE": 101, "GONE_AFTER": 99}
    state.upsert_symbols([replace(DETAILS, symbol=s, details_at=NOW - age * day) for s, age in ages.items()], NOW)
    wanted = ["NEW1", "NEW2", "A_GONE_NEW", "GONE_BEFORE", "OLDER", "OLD", "EDGE"]
    assert state.stale_details(100, NOW) == wanted
    assert state.stale_details(2, NOW) == wanted[:2]
    assert state.stale_details(100, NOW, max_age_days=45)[3:] == ["GONE_BEFORE", "OLDER"]


# Runs


def test_a_run_is_recorded_from_start_to_end(state: State) -> None:
    """What was asked for, what came of it, what it cost: all of it can be read back; a killed run stays `running`."""
    killed = state.start_run("resample", {}, NOW)
    run = state.start_run("fetch bars", {"date": MON, "symbols": ["AAPL"], "note": "ä"}, NOW)
    traffic = Traffic(requests=1, gets=2, puts=3, deletes=4, lists=5, bytes_in=6, bytes_out=2_500_000_000)
    state.finish_run(run, "partial", counts={"rows": 5}, traffic=traffic, error="1 session left", now=LATER)
    last, first = state.recent_runs(10)
    assert (last.id, last.job, last.outcome, last.error) == (run, "fetch bars", "partial", "1 session left")
    assert (last.started_at, last.finished_at) == (NOW, LATER)
    assert last.arguments == {"date": "2025-11-17", "symbols": ["AAPL"], "note": "ä"}
    assert (last.counts, last.traffic) == ({"rows": 5}, traffic)
    assert (first.id, first.outcome, first.finished_at, first.traffic) == (killed, "running", None, Traffic())
    assert [row.id for row in state.recent_runs(1)] == [run]


def test_a_run_may_name_what_is_no_text(state: State) -> None:
    """A file's name need not be UTF-8, and a message may hold NUL, which PostgreSQL refuses: both are escaped."""
    run = state.start_run("verify", {"folder": "a\udcff"}, NOW)
    state.finish_run(run, "partial", counts={"files": ["b\udcff\0"]}, error="c\udcff\0", now=LATER)
    (row,) = state.recent_runs(1)
    assert (row.arguments, row.counts) == ({"folder": "a\udcff"}, {"files": ["b\udcff\0"]})
    assert row.error == r"c\udcff\x00"


def test_runs_of_a_span_come_by_their_beginning(state: State) -> None:
    """The span is open at its beginning and closed at its end; the order is that of the instants, not of the records."""
    hour = timedelta(hours=1)
    late, early, on_time = (state.start_run("run", {}, NOW + hours * hour) for hours in (3, 1, 2))
    assert [run.id for run in state.runs_between(NOW, NOW + 3 * hour)] == [early, on_time, late]
    assert [run.id for run in state.runs_between(NOW + hour, NOW + 2 * hour)] == [on_time]
    assert state.runs_between(NOW + 3 * hour, NOW + 9 * hour) == []
    assert [state.has_runs_by(NOW + hours * hour) for hours in (0, 1, 2)] == [False, True, True]


def test_only_a_started_run_can_be_finished(state: State) -> None:
    """A number that is not there is an error, not a silence (D26)."""
    with pytest.raises(DataError, match="run 7 is not in batch_jobs"):
        state.finish_run(7, "done", counts={}, now=NOW)


# --- fetches take turns -----------------------------------------------------------------------------------------


def test_one_fetch_at_a_time(state: State, state_url: str) -> None:
    """Who comes second waits, and is told when it takes too long; when the first has ended, or fell, it goes on."""
    with State.open(state_url, migrate=False) as other:
        with state.exclusive(), pytest.raises(TransientError, match="another fetch into this lake"):
            other.exclusive(wait_seconds=0.05).__enter__()
        with pytest.raises(RuntimeError, match="fell"), state.exclusive():
            raise RuntimeError("fell")
        with other.exclusive(wait_seconds=0.05):
            assert state.sessions() == []


def test_who_loses_the_right_to_fetch_is_told(postgres_url: str) -> None:
    """Another fetch may have run meanwhile: what was done is not called a success. The next one is not kept out."""
    end = (
        "SELECT pg_terminate_backend(pid, 5000) AS ended FROM pg_locks JOIN pg_database ON oid = database"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    )
    address = make_url(postgres_url).translate_connect_args(username="user", database="dbname")
    with State.open(postgres_url, migrate=True) as state, psycopg.connect(**address, autocommit=True) as other:
        with pytest.raises(TransientError, match="lock of fetches was lost"), state.exclusive():
            assert other.execute(end).fetchall() == [(True,)]
        with pytest.raises(psycopg.errors.DivisionByZero), state.exclusive():
            other.execute(f"SELECT 1 / (count(*) FILTER (WHERE ended) - 1) FROM ({end}) AS ends")
        with state.exclusive(wait_seconds=1):
            assert state.sessions() == []


def test_a_folder_in_place_of_the_lock_file_is_a_wrong_setting(tmp_path: Path) -> None:
    """It would be there at the next try, too."""
    (tmp_path / "state.sqlite.fetching").mkdir()
    with (
        State.open(f"sqlite:///{tmp_path}/state.sqlite", migrate=True) as state,
        pytest.raises(ConfigError, match=r"state\.sqlite\.fetching cannot be locked"),
        state.exclusive(wait_seconds=1),
    ):
        pass


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, TransientError),
        (errno.EIO, TransientError),
        (errno.EROFS, ConfigError),
        (errno.ELOOP, ConfigError),
    ],
)
def test_a_disk_that_fails_under_the_lock_file_may_pass_and_a_file_of_others_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    """Once there is room the same command goes on; what must be set otherwise is told as such."""
    opened = os.open

    def failing(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if str(path).endswith(".fetching"):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, mode, dir_fd=dir_fd)

    with State.open(f"sqlite:///{tmp_path}/state.sqlite", migrate=True) as state:
        monkeypatch.setattr(os, "open", failing)
        with pytest.raises(kind, match=os.strerror(number)), state.exclusive(wait_seconds=1):
            pass
        monkeypatch.undo()
        with state.exclusive(wait_seconds=1):
            assert state.sessions() == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_wrong_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Two fetches at once could not be kept apart there."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with State.open(f"sqlite:///{tmp_path}/state.sqlite", migrate=True) as state:
        monkeypatch.setattr(fcntl, "flock", refuse)
        with pytest.raises(ConfigError, match="on a file system with locks"), state.exclusive(wait_seconds=1):
            pass


def test_the_lock_of_fetches_goes_with_its_process(state: State, state_url: str) -> None:
    """A fetch that is killed keeps nobody out."""
    code = (
        "import os, signal, sys; from condvest.state import State\n"
        "with State.open(sys.argv[1], migrate=False).exclusive():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, state_url], check=False)
    assert done.returncode == -signal.SIGKILL
    with state.exclusive(wait_seconds=5):
        pass
