"""Wrong data that an earlier implementation gave, each kept out by a test that has its number (D07 to D16).

Where a defect belongs to one job its test stands with that job; here are those that go through several.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from datetime import time as clock_time
from pathlib import Path

import pyarrow as pa
import pytest

from condvest.analytics import Lake
from condvest.demo.market import NEW_YORK
from condvest.domain.answers import parse_flat_file
from condvest.domain.calendar import Calendar
from condvest.errors import DataError
from condvest.storage import layout
from faults.commands import GROUPED, TICKERS, Desk
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of

DAY, NEXT, THIRD = DAYS[:3]
TWO = SYMBOLS[:2]


def days_of(table: pa.Table) -> list[date]:
    """Return the sessions of a table of bars."""
    found: list[date] = table["date"].to_pylist()
    return found


def test_D07_a_bar_grows_until_its_group_is_over(tmp_path: Path) -> None:
    """Built anew with each of its sessions, it is called complete with the last one and never before, and is right then."""
    days = DAYS[2:6]  # 11-05 to 11-07 are one group, 11-10 begins the next
    with Kit(tmp_path, market=market_of(days, TWO)) as kit:
        seen = []
        for session in days:
            kit.evening(session).fetch(session)
            kit.consolidate()
            kit.resample(3)
            (row, *_) = [
                row
                for key in kit.listed(layout.silver_prefix(3))
                for row in kit.table(key).to_pylist()
                if row["symbol"] == "AAPL"
            ]
            seen.append((row["end_date"], row["close"], row["volume"], row["n_sessions"], row["complete"]))
        whole = (days[2], 102.0, 3 * 1000.5, 3, True)
        assert seen == [(days[2], 100.0, 1000.5, 1, False), (days[2], 101.0, 2 * 1000.5, 2, False), whole, whole]


def test_D09_groups_do_not_depend_on_where_a_lake_begins_or_on_the_day(tmp_path: Path) -> None:
    """Seven years or the last one of them, built now or years later: the bars of all whole groups are the same."""
    sessions = Calendar.shipped().sessions(date(2019, 1, 2), date(2025, 11, 28))
    market = market_of(sessions, TWO[:1])
    bounds = {}
    for name, first, later in (("long", sessions[0], 0), ("short", sessions[-250], 0), ("late", sessions[-250], 2000)):
        with Kit(tmp_path / name, market=market) as kit:
            kit.evening(sessions[-1]).after(days=later).fetch_symbols("AAPL", first=first, last=sessions[-1])
            kit.consolidate()
            kit.resample(5, 34)
            bounds[name] = {
                interval: {
                    row["date"]: row
                    for key in kit.listed(layout.silver_prefix(interval))
                    for row in kit.table(key).to_pylist()
                }
                for interval in (5, 34)
            }
    for interval, whole in ((5, 48), (34, 5)):
        long, short = bounds["long"][interval], bounds["short"][interval]
        assert bounds["late"][interval] == short
        cut, *kept = sorted(short)
        assert len(kept) >= whole
        assert [short[day] for day in kept] == [long[day] for day in kept]
        assert (cut in long, short[cut]["n_sessions"] <= long[cut]["n_sessions"]) == (True, True)


def test_D10_a_series_stays_on_one_basis_though_a_split_comes(tmp_path: Path) -> None:
    """Raw prices before and after, fetched on either side of the split; adjusting is a matter of reading, dividends too."""
    market = market_of(DAYS[:3], TWO)
    with Kit(tmp_path, market=market) as kit:
        kit.evening(DAY).fetch(DAY)
        market.set_bar("AAPL", NEXT, bar(51.0))
        market.set_bar("AAPL", THIRD, bar(52.0))
        market.add_split("AAPL", NEXT, 1, 2)
        market.add_dividend("AAPL", THIRD, 0.51)
        kit.evening(NEXT).fetch()  # the session before comes again, on the day of the split
        kit.evening(THIRD).fetch()
        kit.fetch_symbols("AAPL", first=DAY, last=THIRD)  # and once more by the other endpoint
        assert all(request.query.get("adjusted") == "false" for request in kit.provider.requests)
        kit.fetch_meta()
        kit.consolidate()
        lake = Lake(kit.store, state=kit.state)
        closes = {how: lake.bars("AAPL", adjusted=how)["close"].to_pylist() for how in ("none", "splits", "all")}
        assert closes["none"] == [100.0, 51.0, 52.0]
        assert closes["splits"] == [50.0, 51.0, 52.0]
        assert closes["all"] == pytest.approx([50.0 * 0.99, 51.0 * 0.99, 52.0])


@pytest.mark.parametrize("day", ["2025-03-07", "2025-03-10", "2025-10-31", "2025-11-03"])
def test_D11_the_evening_and_the_final_hour_are_new_york_s_all_year(tmp_path: Path, day: str) -> None:
    """On both sides of a clock change a bar of 16:05 is provisional, at 10:59 next day still, and from 11:00 on final."""
    session = date.fromisoformat(day)
    with Kit(tmp_path, market=market_of([session], TWO)) as kit:
        kit.evening(session).fetch(session)
        following = date.fromordinal(session.toordinal() + 1)
        states = [kit.states()[session]]
        for minute in (clock_time(10, 59), clock_time(11, 0)):
            kit.now = datetime.combine(following, minute, tzinfo=NEW_YORK).astimezone(UTC)
            kit.market.set_bar("AAPL", session, bar(99.0))
            kit.fetch()
            states.append(kit.states()[session])
        assert states == ["provisional", "provisional", "final"]
        assert kit.closes("AAPL") == {session: 99.0}


def test_D11_every_schedule_names_new_york_s_clock() -> None:
    """A cron in UTC drifts by an hour with daylight saving: no schedule of the deployment is one."""
    stack = Path(__file__).parents[2] / "deploy" / "stack"
    lines = [line for path in stack.glob("*.yaml") for line in path.read_text(encoding="utf-8").splitlines()]
    crons = [number for number, line in enumerate(lines) if line.strip().startswith("ScheduleExpression: cron")]
    assert len(crons) >= 4
    assert {lines[number + 1].strip() for number in crons} == {"ScheduleExpressionTimezone: America/New_York"}


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Put this machine into another time zone."""

    def move(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("name", ["America/Los_Angeles", "Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"])
def test_D12_a_bar_has_its_session_s_date_wherever_the_machine_is(
    tmp_path: Path, zone: Callable[[str], None], name: str
) -> None:
    """Whole sessions stamp the end of the day, ranges its start, flat files nanoseconds: one date, in every time zone."""
    zone(name)
    with Kit(tmp_path, market=market_of(DAYS[:2], TWO)) as kit:
        kit.evening(DAY).fetch(DAY)
        kit.evening(NEXT).fetch_symbols(*TWO, first=DAY, last=NEXT)
        kit.consolidate()
        assert kit.closes("AAPL") == {DAY: 100.0, NEXT: 101.0}
        assert kit.lake.touched.count(layout.daily_key("AAPL", DAY)) == 1  # the range brought nothing new
    start = int(datetime.combine(DAY, clock_time(), tzinfo=NEW_YORK).timestamp()) * 10**9
    head = "ticker,volume,open,close,high,low,window_start,transactions"
    flat = parse_flat_file(f"{head}\nAAPL,1,1,1,1,1,{start},1\n".encode(), DAY)
    assert (days_of(flat.bars), flat.rejects) == ([DAY], ())


def test_D13_counts_stay_whole_numbers_and_no_volume_counts_twice(tmp_path: Path) -> None:
    """A restated bar is one row in silver too; transactions are integers in every file."""
    with Kit(tmp_path, market=market_of(DAYS[2:5], TWO)) as kit:
        kit.evening(DAYS[4]).fetch(*DAYS[2:5])
        kit.consolidate()
        kit.market.set_bar("AAPL", DAYS[4], bar(7.0, transactions=10**10))
        kit.next_morning(DAYS[4]).fetch()
        kit.consolidate()
        kit.resample(3)
        (key,) = kit.listed(layout.silver_prefix(3))
        table = kit.table(key)
        assert table.schema.field("transactions").type == pa.int64()
        (row,) = [row for row in table.to_pylist() if row["symbol"] == "AAPL"]
        assert (row["volume"], row["transactions"]) == (3 * 1000.5, 10**10 + 24)


def test_D14_sub_penny_prices_come_through_every_file_as_they_were_printed(tmp_path: Path) -> None:
    """Prices are binary floats from answer to silver, digit for digit, and no job writes to what it reads from."""
    price = 0.00012345678901234
    exact = replace(bar(5.0), open=price, high=price * 3, low=price / 3, close=price * 2, volume=0.125, vwap=price)
    market = market_of(DAYS[2:5], TWO)
    market.set_bar("AAPL", DAYS[2], exact)
    with Kit(tmp_path, market=market) as kit:
        kit.evening(DAYS[4]).fetch(*DAYS[2:5])
        kit.consolidate()
        (first, *_) = kit.consolidated("AAPL")
        printed = (exact.open, exact.high, exact.low, exact.close, exact.volume, exact.vwap)
        assert tuple(first[name] for name in ("open", "high", "low", "close", "volume", "vwap")) == printed
        before = kit.files(layout.BRONZE)
        kit.resample(3)
        assert kit.files(layout.BRONZE) == before
        table = Lake(kit.store).bars("AAPL", first=DAYS[2], last=DAYS[2])
        assert (table["open"].to_pylist(), table["close"].to_pylist()) == ([exact.open], [exact.close])
        (row, *_) = [row for key in kit.listed(layout.SILVER) if "_3d" in key for row in kit.table(key).to_pylist()]
        assert (row["symbol"], row["open"], row["low"]) == ("AAPL", exact.open, exact.low)


def test_D15_the_last_day_of_a_range_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the provider, of the lake, in SQL and on the command line: both bounds are inclusive."""
    market = market_of(DAYS[:5], TWO)
    with Desk(tmp_path, monkeypatch, market=market) as desk:
        desk.next_morning(DAYS[4])
        words = ("--from", str(DAY), "--to", str(THIRD))
        assert desk.run("fetch", "bars", *words).code == 0
        assert list(desk.states()) == [DAY, NEXT, THIRD]
        assert desk.run("fetch", "bars", "--symbols", "AAPL", "--from", str(DAY), "--to", str(DAYS[3])).code == 0
        desk.run("consolidate")
        lake = Lake.open(str(tmp_path / "lake"))
        assert days_of(lake.bars("AAPL", first=NEXT, last=DAYS[3])) == list(DAYS[1:4])
        assert days_of(lake.bars("AAPL", first=THIRD, last=THIRD)) == [THIRD]
        query = f"select date from bronze where symbol = 'AAPL' and date between '{NEXT}' and '{DAYS[3]}' order by date"
        assert days_of(lake.sql(query)) == list(DAYS[1:4])
        shown = desk.run("bars", "AAPL", "--from", str(DAY), "--to", str(NEXT), "--format", "csv").out
        assert [line.split(",")[1].strip('"') for line in shown.splitlines()[1:]] == [str(DAY), str(NEXT)]
        with desk.state as state:
            assert [row.session_date for row in state.sessions(NEXT, THIRD)] == [NEXT, THIRD]


def test_D16_no_list_of_tickers_stands_in_for_one_that_cannot_be_had(kit: Kit) -> None:
    """A listing that fails, or is empty, names no symbol of its own; bars need none, and exchanges stay as they are given."""
    kit.provider.fail(TICKERS, status=404, times=9)
    with pytest.raises(DataError, match="not found"):
        kit.evening(DAY).fetch_meta()
    assert kit.state.symbols() == []
    kit.provider.heal()
    kit.provider.fail(TICKERS, kind="empty", times=2)
    kit.fetch_meta()
    assert kit.state.symbols() == []
    kit.fetch(DAY)
    assert sorted(kit.state.symbol_watermarks()) == sorted(SYMBOLS)
    kit.market.add_ticker("IBM", primary_exchange="XNYS")
    kit.market.add_ticker("NA", primary_exchange="XXXX")
    kit.after(days=1).fetch_meta()
    given = {row.symbol: row.primary_exchange for row in kit.state.symbols()}
    assert (len(given), given["IBM"], given["NA"], given["AAPL"]) == (9, "XNYS", "XXXX", "XNAS")
    assert [request.path for request in kit.provider.requests if request.path.startswith(GROUPED)] == [
        f"{GROUPED}/locale/us/market/stocks/{DAY}"
    ]


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """An empty lake beside a provider that knows nine symbols."""
    with Kit(tmp_path) as made:
        yield made
