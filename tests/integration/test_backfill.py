"""Backfill: many sessions at once land first and then go straight into each symbol's `data.parquet`."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from condvest.demo.market import NEW_YORK, Market
from condvest.jobs.fetch_bars import BULK_SESSIONS
from condvest.sources.flat_files import FlatFileSource, object_key
from condvest.storage import layout
from integration.jobs_kit import DAYS, QUICK, SYMBOLS, Kit, bar, market_of
from integration.watched_lake import Killed
from servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, S3Server

FEW = SYMBOLS[:3]
MANY = DAYS[:21]
LAST = MANY[-1]
GROUPED = "/v2/aggs/grouped/locale/us/market/stocks"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Kit]:
    """An empty lake on the evening of the 21st session of three symbols."""
    with Kit(tmp_path / "small", market=market_of(DAYS[:23], FEW)) as kit:
        yield kit.evening(LAST)


def test_more_than_twenty_sessions_write_no_daily_files(small: Kit) -> None:
    """Issue 2, item 5: twenty years of a market must not mean fifty million objects."""
    assert len(MANY) == BULK_SESSIONS + 1
    report = small.fetch(*MANY)
    assert small.daily_keys() == []
    assert [len(small.consolidated(symbol)) for symbol in FEW] == [21, 21, 21]
    assert small.closes("BCpC") == {day: 120.0 + number for number, day in enumerate(MANY)}
    assert (report.asked, report.landed, len(report.final), report.provisional) == (21, 21, 20, [LAST])
    assert small.state.symbol_watermarks() == dict.fromkeys(FEW, LAST)
    small.assert_as_rebuilt()


def test_twenty_sessions_are_still_fetched_day_by_day(small: Kit) -> None:
    """The bound itself: 20 sessions make `date=` files."""
    small.fetch(*DAYS[:20])
    assert len(small.daily_keys()) == 60


def test_it_lands_first_then_merges_then_writes_the_ledger(small: Kit) -> None:
    """Rule 5, and no more writes than answers, symbols and two caches."""
    seen: list[str] = []
    small.lake.before_write = lambda _: seen.append("".join(sorted(set(small.states().values()))))
    small.fetch(*MANY)
    kinds = [key.split("/")[1] for key in small.lake.touched]
    assert kinds == ["landing"] * 21 + ["raw_ohlcv"] * 3 + ["recent_bars.parquet", "consolidation_manifest.parquet"]
    assert set(seen) == {"missing"}


def test_a_second_backfill_writes_nothing(small: Kit) -> None:
    """Rule 8: no PUT, no DELETE, and it says so."""
    small.fetch(*MANY)
    reports = []
    cost = small.cost(lambda: reports.append(small.fetch(*MANY)))
    assert (cost.puts, cost.deletes, reports[0].nothing_new) == (0, 0, True)


def test_consolidation_finds_nothing_to_do_after_a_backfill(small: Kit) -> None:
    """The backfill brings the manifest up itself."""
    small.fetch(*MANY)
    reports = []
    cost = small.cost(lambda: reports.append(small.consolidate()))
    assert (cost.puts, cost.deletes, reports[0].nothing_new) == (0, 0, True)


@pytest.mark.parametrize("write", [0, 9, 21, 23, 25])
def test_a_backfill_that_is_killed_goes_on_where_it_was(small: Kit, write: int) -> None:
    """After k landings or k merges: what landed is not asked for again, what is merged not written again."""
    small.lake.kill_at(write)
    with pytest.raises(Killed):
        small.fetch(*MANY)
    small.lake.kill_at(None)
    assert set(small.states().values()) == {"missing"}
    landed = len(small.listed(layout.LANDING))
    merged = len(small.listed(layout.BRONZE))
    requests, small.lake.touched = len(small.provider.requests), []
    report = small.fetch(*MANY)
    assert landed == min(write, 21)
    assert (report.resumed, len(small.provider.requests) - requests) == (landed, 21 - landed)
    assert len([key for key in small.lake.touched if key.startswith(layout.BRONZE)]) == 3 - merged
    assert len(report.final) == 20
    small.assert_as_rebuilt()


def test_a_kill_before_the_ledger_costs_no_request_and_no_bar(small: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is written but the ledger: the next run reads landing and writes the ledger."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(small.state, "record", kill)
        with pytest.raises(Killed):
            small.fetch(*MANY)
    small.lake.touched = []
    report = small.fetch(*MANY)
    assert (report.asked, report.resumed, small.lake.touched) == (0, 21, [])
    assert set(small.states()) == set(MANY)


def test_it_ends_in_the_rows_that_day_by_day_gives(tmp_path: Path) -> None:
    """One way or the other, the bars are the same."""
    values = []
    for name, bulk in (("bulk", True), ("daily", False)):
        with Kit(tmp_path / name, market=market_of(DAYS[:21], FEW)) as kit:
            kit.evening(LAST)
            for part in [MANY] if bulk else [MANY[:11], MANY[11:]]:
                kit.fetch(*part)
            kit.consolidate()
            rows = [row for symbol in FEW for row in kit.consolidated(symbol)]
            values.append([{**row, "ingested_at": None} for row in rows])
    assert values[0] == values[1]


def test_it_joins_what_is_there(small: Kit) -> None:
    """Older and newer bars of a symbol stay, and a restated value replaces its own."""
    small.evening(DAYS[22]).fetch(DAYS[22])
    small.consolidate()
    small.fetch(*DAYS[:22])
    assert list(small.closes("AAPL")) == DAYS[:23]
    small.market.set_bar("AAPL", DAYS[4], bar(55.0))
    report = small.after(days=1).fetch(*DAYS[:22])
    assert (report.changed, report.landed) == (1, 1)
    assert small.closes("AAPL")[DAYS[4]] == 55.0
    assert {row.session_date: row.restated for row in small.state.sessions()}[DAYS[4]] == 1
    small.consolidate()
    small.assert_as_rebuilt()


def test_sessions_that_fail_are_left_and_the_others_land(small: Kit) -> None:
    """A refused session is pending with its reason; the next run asks for it alone."""
    small.provider.fail(f"{GROUPED}/{MANY[7]}", status=503, times=2)
    small.provider.fail(f"{GROUPED}/{MANY[8]}", kind="empty", times=2)
    report = small.fetch(*MANY)
    assert list(report.pending) == [MANY[7], MANY[8]]
    assert {day for day, state in small.states().items() if state == "pending"} == {MANY[7], MANY[8]}
    assert len(small.closes("AAPL")) == 19
    report = small.fetch()
    assert (report.asked, report.left) == (2, [])
    small.consolidate()
    assert list(small.closes("AAPL")) == MANY
    small.assert_as_rebuilt()


def test_a_short_session_among_many_is_left(tmp_path: Path) -> None:
    """The check for short answers holds in a backfill too."""
    with Kit(tmp_path, market=market_of(MANY)) as kit:
        kit.provider.fail(f"{GROUPED}/{MANY[12]}", kind="short")
        report = kit.evening(LAST).fetch(*MANY)
        assert [line.split(":")[1] for line in report.left] == [" short answer"]
        assert kit.fetch(*MANY).left == []
        assert list(kit.closes("TRUE")) == MANY


def test_what_lies_before_the_plan_is_not_asked_for_again(tmp_path: Path) -> None:
    """Years outside the plan are `not_entitled`: said once, no gap, no work left."""
    with Kit(tmp_path, market=market_of(MANY, FEW), plan_start=MANY[10]) as kit:
        report = kit.evening(LAST).fetch(*MANY)
        assert (report.not_entitled, report.left) == (MANY[:10], [])
        assert list(kit.closes("AAPL")) == MANY[10:]
        assert kit.fetch().asked == 0


def test_a_corrupt_file_holds_back_the_ledger_and_nothing_else(small: Kit) -> None:
    """The other symbols are merged; the run says what is left; after the repair it is completed without the provider."""
    small.store.put(layout.data_key("BCPC"), b"not parquet")
    report = small.fetch(*MANY)
    assert [layout.data_key("BCPC") in line for line in report.left] == [True]
    assert len(small.consolidated("AAPL")) == len(small.consolidated("BCpC")) == 21
    assert set(small.states().values()) == {"missing"}
    small.consolidate(force_full=True)
    report = small.fetch(*MANY)
    assert (report.asked, report.left) == (0, [])
    small.assert_as_rebuilt()


def test_a_universe_limits_what_is_merged(small: Kit) -> None:
    """Landing is whole; bronze has the symbols of the universe."""
    small.universe = frozenset({"AAPL", "IBM"})
    small.fetch(*MANY)
    assert small.listed(layout.BRONZE) == [layout.data_key("AAPL")]
    small.assert_as_rebuilt()


def test_another_writer_of_the_same_symbol_loses_nothing(small: Kit) -> None:
    """Rule 6: a session that another run merged in between stays."""
    small.evening(DAYS[22]).fetch(DAYS[22])
    small.lake.first(layout.data_key("AAPL"), lambda: small.consolidate(skip_cleanup=True))
    small.fetch(*MANY)
    small.consolidate()
    assert list(small.closes("AAPL")) == [*MANY, DAYS[22]]
    small.assert_as_rebuilt()


# --- flat files -------------------------------------------------------------------------------------------------


def flat_file(market: Market, session: date) -> bytes:
    """Return a session as the provider's CSV: no vwap, the start of the New York day in nanoseconds."""
    start = int(datetime.combine(session, time(), tzinfo=NEW_YORK).timestamp()) * 10**9
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["ticker", "volume", "open", "close", "high", "low", "window_start", "transactions"])
    for symbol, one in sorted(market.bars[session].items()):
        lines.writerow([symbol, one.volume, one.open, one.close, one.high, one.low, start, one.transactions])
    return gzip.compress(text.getvalue().encode())


@pytest.fixture
def flat_files(s3_server: S3Server) -> Callable[[Market, Sequence[date]], FlatFileSource]:
    """Puts sessions of a market into a bucket of the real S3 server and returns the source that reads them."""
    bucket = "flatfiles-backfill"

    def upload(market: Market, sessions: Sequence[date]) -> FlatFileSource:
        store = S3Store(
            bucket,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            endpoint=s3_server.endpoint_url,
            region=REGION,
            client_options={"allow_http": True},
        )
        for session in sessions:
            obstore.put(store, object_key(session), flat_file(market, session))
        return FlatFileSource(
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            endpoint=s3_server.endpoint_url,
            bucket=bucket,
            retry=QUICK,
        )

    return upload


@pytest.mark.s3
def test_flat_files_give_the_rows_that_rest_gives(
    flat_files: Callable[[Market, Sequence[date]], FlatFileSource], tmp_path: Path
) -> None:
    """The same bars but for vwap, which flat files do not have; no request goes to the REST API."""
    market = market_of(MANY, FEW)
    source = flat_files(market, MANY)
    rows = []
    for name, given in (("rest", None), ("flat", source)):
        with Kit(tmp_path / name, market=market) as kit:
            report = kit.next_morning(LAST).fetch(*MANY, source=given)
            assert (len(report.final), report.left) == (21, [])
            assert (len(kit.provider.requests) == 0) == (given is not None)
            rows.append([row for symbol in FEW for row in kit.consolidated(symbol)])
            assert {row.source for row in kit.state.sessions()} == {"flat_files" if given else "grouped"}
            kit.assert_as_rebuilt()
    rest, flat = rows
    assert [row | {"vwap": None} for row in rest] == flat


@pytest.mark.s3
def test_a_flat_file_that_is_not_there_yet_is_pending(
    flat_files: Callable[[Market, Sequence[date]], FlatFileSource], tmp_path: Path
) -> None:
    """Yesterday's file comes about 11:00: until then the session is left, and the REST API may bring it."""
    market = market_of(DAYS[:32], FEW)
    source = flat_files(market, DAYS[10:31])
    with Kit(tmp_path, market=market) as kit:
        report = kit.evening(DAYS[31]).fetch(*DAYS[10:32], source=source)
        assert list(report.pending) == [DAYS[31]]
        assert kit.fetch().provisional == [DAYS[31]]
        kit.consolidate()
        assert list(kit.closes("AAPL")) == DAYS[10:32]
        kit.assert_as_rebuilt()


def test_a_backfill_on_every_kind_of_lake_and_state(lake_url: str, state_url: str, tmp_path: Path) -> None:
    """The same promises on a folder and on S3, on SQLite and on PostgreSQL."""
    with Kit(tmp_path, market=market_of(DAYS[:22], FEW), lake_url=lake_url, state_url=state_url) as kit:
        kit.evening(LAST).lake.kill_at(22)
        with pytest.raises(Killed):
            kit.fetch(*MANY)
        kit.lake.kill_at(None)
        assert kit.fetch(*MANY).resumed == 21
        kit.evening(DAYS[21]).fetch()
        kit.after(days=40)
        assert kit.consolidate().files_removed == 3
        assert kit.daily_keys() == []
        assert list(kit.closes("BCpC")) == DAYS[:22]
        kit.assert_as_rebuilt()
