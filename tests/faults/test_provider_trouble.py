"""What the provider does to a whole job, row by row of its known trouble: ledger, lake and exit code, and the run after it.

`ROWS` says for each row which tests hold it: those of this module take whole commands, the others take the client, the
parser or one job, over a real connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, time, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from condvest.demo.standin import StandIn
from condvest.sources.retry import DEFAULT_RETRY
from condvest.storage import layout
from faults.commands import GROUPED, SPLITS, TICKERS, Desk
from faults.echo import refusing_server
from faults.named_tests import known_tests
from integration.jobs_kit import DAYS, QUICK, SYMBOLS, market_of

DAY, NEXT, THIRD = DAYS[:3]
THANKSGIVING = date(2025, 11, 27)

#: A row of the provider's known trouble -> the tests that hold it, `folder/module.py::name`; those of this file by name.
ROWS: dict[str, tuple[str, ...]] = {
    "401": (
        "test_401_stops_the_day_at_once_and_the_right_key_completes_it",
        "test_401_in_the_middle_of_a_listing_takes_nothing_of_it",
        "integration/test_polygon.py::test_a_refused_key_stops_everything_at_once",
        "integration/test_fetch_bars.py::test_a_refused_key_stops_at_once",
        "integration/test_cli.py::test_a_refused_key_is_named_and_never_shown",
    ),
    "403, permanent": (
        "test_403_permanent_is_said_once_and_the_rest_goes_on",
        "integration/test_polygon.py::test_sessions_before_the_plan_are_not_entitled",
        "integration/test_fetch_bars.py::test_a_session_outside_the_plan_is_said_once_and_not_asked_for_again",
        "integration/test_fetch_symbols.py::test_sessions_before_the_plan_are_named_and_asked_for_once",
    ),
    "403, passing": (
        "test_403_passing_leaves_the_session_to_the_next_run",
        "integration/test_polygon.py::test_today_before_its_end_stays_pending",
        "integration/test_fetch_bars.py::test_a_session_that_is_not_over_stays_pending",
    ),
    "429 without Retry-After": (
        "test_429_is_waited_for_and_then_left_to_the_next_run",
        "test_the_waits_outlast_the_window_of_the_rate_limit",
        "integration/test_polygon.py::test_requests_are_spaced_by_the_rate",
    ),
    "429 with Retry-After": (
        "integration/test_polygon.py::test_the_wait_that_the_server_asks_for_is_kept",
        "integration/test_polygon.py::test_a_wait_beyond_the_limit_ends_the_attempts",
    ),
    "empty answer on a session": (
        "test_an_empty_answer_on_a_session_is_no_holiday",
        "integration/test_polygon.py::test_D18_an_empty_answer_on_a_session_is_never_done",
        "integration/test_fetch_bars.py::test_D18_an_empty_answer_is_no_holiday",
    ),
    "a holiday": (
        "test_a_holiday_is_never_asked_for",
        "integration/test_fetch_meta.py::test_an_announced_closure_is_recorded_and_is_no_session_any_more",
    ),
    "short answer": (
        "test_half_of_the_usual_symbols_is_the_least_that_is_believed",
        "integration/test_fetch_bars.py::test_a_short_answer_stays_out_until_it_is_accepted",
        "integration/test_fetch_bars.py::test_a_short_answer_takes_nothing_from_a_session_that_is_done",
    ),
    "duplicates in one answer": (
        "test_rows_that_come_twice_count_once",
        "integration/test_fetch_bars.py::test_two_different_rows_of_one_symbol_both_go_to_quarantine",
    ),
    "200 DELAYED": ("test_delayed_is_as_good_as_ok", "integration/test_polygon.py::test_delayed_is_a_good_answer"),
    "a page fails in the middle": (
        "test_a_page_that_fails_in_the_middle_is_resumed_from_that_page",
        "test_a_listing_that_cannot_be_had_whole_is_not_half_recorded",
        "test_a_range_that_cannot_be_had_whole_lands_nothing",
        "integration/test_polygon.py::test_a_page_that_fails_in_the_middle_is_retried",
        "integration/test_polygon.py::test_a_promised_page_that_is_empty_is_asked_for_again",
        "integration/test_polygon.py::test_a_broken_next_url_is_an_error",
        "integration/test_polygon.py::test_pages_in_a_circle_end",
    ),
    "next_url of another host": (
        "test_a_listing_that_points_elsewhere_is_followed_here",
        "integration/test_polygon.py::test_pages_are_merged_and_followed_on_our_own_host_only",
        "integration/test_polygon.py::test_a_key_in_a_next_url_is_dropped",
        "integration/test_polygon.py::test_a_redirect_is_not_followed",
    ),
    "a missing `results`, a broken body": (
        "integration/test_polygon.py::test_passing_failures_are_retried_then_leave_the_session_pending",
        "integration/test_polygon.py::test_D18_a_listing_of_the_wrong_shape_is_no_empty_listing",
        "integration/test_polygon.py::test_a_spoiled_answer_is_asked_for_again",
    ),
    "split errors": (
        "unit/test_actions.py::test_a_split_that_the_price_contradicts_is_flagged",
        "unit/test_actions.py::test_of_two_ratios_the_one_in_the_prices_is_applied",
        "integration/test_fetch_meta.py::test_splits_that_cannot_be_read_are_named_and_the_rest_comes",
    ),
    "flat files: an outage, not there yet, keys refused": (
        "test_flat_files_that_fail_keep_to_the_retry_setting",
        "integration/test_flat_files.py::test_files_come_unpacked_in_order_and_what_is_absent_stays_pending",
        "integration/test_flat_files.py::test_wrong_keys_and_a_wrong_bucket_stop_at_once",
        "integration/test_flat_files.py::test_sessions_outside_the_plan_are_not_entitled",
    ),
    "an outage": (
        "integration/test_polygon.py::test_a_provider_that_is_down_is_left_alone",
        "integration/test_cli.py::test_an_outage_of_metadata_does_not_stop_the_day",
    ),
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """An empty lake beside a provider that knows nine symbols from 2025-11-03 on."""
    with Desk(tmp_path, monkeypatch) as made:
        yield made


def of(session: date) -> str:
    """Return the path of a session's answer."""
    return f"{GROUPED}/locale/us/market/stocks/{session}"


def clean_bars(tmp_path: Path, act: Callable[[Desk], object]) -> dict[str, bytes]:
    """Return the bronze of a lake beside a provider without trouble."""
    with pytest.MonkeyPatch.context() as patch, Desk(tmp_path / "clean", patch) as desk:
        act(desk)
        return bars_of(desk)


def bars_of(desk: Desk) -> dict[str, bytes]:
    """Return the bronze of a lake."""
    return {key: body for key, body in desk.objects().items() if key.startswith(layout.BRONZE)}


def test_every_row_names_tests_that_there_are() -> None:
    """A row that lost its test is found here."""
    here = f"faults/{Path(__file__).name}::"
    named = {name if "::" in name else here + name for names in ROWS.values() for name in names}
    assert named - known_tests() == set()
    mine = {name for name in known_tests() if name.startswith(here)}
    assert mine - named == {here + "test_every_row_names_tests_that_there_are"}


# --- refusals ---------------------------------------------------------------------------------------------------


def test_401_stops_the_day_at_once_and_the_right_key_completes_it(desk: Desk) -> None:
    """Exit code 2 and the setting's name after one request; the run is recorded as failed, and nothing as pending."""
    key = desk.provider.api_key
    desk.evening(DAY).run("fetch", "bars", "--date", str(DAY))
    before = desk.objects()
    desk.evening(NEXT).set(POLYGON_API_KEY="another")
    outcome, asked = desk.asked("run")
    assert (outcome.code, 1 <= len(asked) <= 2) == (2, True)  # two sessions are due, and both may be in flight
    assert "POLYGON_API_KEY was refused" in outcome.err
    assert (desk.last_run().outcome, desk.objects()) == ("failed", before)
    assert desk.states() == {DAY: "provisional", NEXT: "missing"}
    assert desk.set(POLYGON_API_KEY=key).run("run").code == 0
    assert desk.states() == {DAY: "final", NEXT: "provisional"}


def test_403_permanent_is_said_once_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan's limit is no failure: exit code 0, one line for the session, and no request for it ever again."""
    with Desk(tmp_path, monkeypatch, plan_start=NEXT) as desk:
        outcome = desk.evening(THIRD).run("fetch", "bars", "--from", str(DAY), "--to", str(THIRD))
        assert outcome.code == 0
        assert outcome.err.count("session_refused") == 1
        assert desk.states() == {DAY: "not_entitled", NEXT: "final", THIRD: "provisional"}
        outcome, asked = desk.next_morning(THIRD).asked("fetch", "bars")
        assert (outcome.code, asked) == (0, [of(THIRD)])
        assert "session_refused" not in outcome.err


def test_403_passing_leaves_the_session_to_the_next_run(desk: Desk) -> None:
    """A session whose bars are not handed out yet is work left: exit code 1, pending; later the same command completes it."""
    desk.provider.end_of_day = time(17)
    outcome = desk.evening(DAY).run("fetch", "bars", "--date", str(DAY))
    assert outcome.code == 1
    assert "before end of day" in outcome.err
    assert (desk.states(), desk.listed()) == ({DAY: "pending"}, [])
    assert desk.at(desk.now + timedelta(hours=1)).run("fetch", "bars").code == 0
    assert desk.states() == {DAY: "provisional"}


def test_429_is_waited_for_and_then_left_to_the_next_run(desk: Desk) -> None:
    """Too many requests are no holiday: asked again without a Retry-After, then pending with exit code 1."""
    desk.provider.fail(of(DAY), status=429)
    outcome, asked = desk.evening(NEXT).asked("fetch", "bars", "--date", str(DAY))
    assert (outcome.code, len(asked)) == (0, 2)
    desk.provider.fail(of(NEXT), status=429, times=QUICK.attempts)
    outcome, asked = desk.asked("fetch", "bars")
    assert (outcome.code, len(asked)) == (1, QUICK.attempts)
    assert "maximum requests per minute" in outcome.err
    assert desk.states() == {DAY: "final", NEXT: "pending"}
    outcome, asked = desk.asked("fetch", "bars")
    assert (outcome.code, asked) == (0, [of(NEXT)])


def test_the_waits_outlast_the_window_of_the_rate_limit() -> None:
    """A provider that names no wait counts by the minute: the default waits last longer than one, and at most minutes."""
    policy = DEFAULT_RETRY
    waits = [policy.wait_initial_seconds * 2**number for number in range(policy.attempts - 1)]
    assert 60 <= sum(min(wait, policy.wait_max_seconds) for wait in waits) <= (policy.total_timeout_seconds or 0)
    assert [later / earlier for earlier, later in pairwise(waits)] == [2.0] * (policy.attempts - 2)


def test_flat_files_that_fail_keep_to_the_retry_setting(desk: Desk) -> None:
    """POLYGON_RETRY_SECONDS holds for both sources: so many requests, then exit code 1, and the session is pending."""
    with refusing_server(503, "<Error><Code>SlowDown</Code></Error>") as (url, addresses):
        desk.set(
            POLYGON_FLAT_FILES_ENDPOINT=url,
            POLYGON_FLAT_FILES_ACCESS_KEY_ID="id",
            POLYGON_FLAT_FILES_SECRET_ACCESS_KEY="secret",
        )
        outcome = desk.evening(NEXT).run("fetch", "bars", "--date", str(DAY), "--source", "flat-files")
        assert (outcome.code, len(addresses)) == (1, QUICK.attempts)
    assert desk.states() == {DAY: "pending"}
    assert desk.run("fetch", "bars").code == 0
    assert desk.states() == {DAY: "final", NEXT: "provisional"}


# --- answers that are not what they seem --------------------------------------------------------------------------


def test_an_empty_answer_on_a_session_is_no_holiday(desk: Desk) -> None:
    """Asked again, then exit code 1 and pending; the other sessions are done, and the next run asks for this one alone."""
    desk.provider.fail(of(NEXT), kind="empty", times=QUICK.empty_attempts)
    outcome = desk.evening(THIRD).run("fetch", "bars", "--from", str(DAY), "--to", str(THIRD))
    assert (outcome.code, desk.last_run().outcome) == (1, "partial")
    assert f"{NEXT}: empty answer" in outcome.err
    assert desk.states() == {DAY: "final", NEXT: "pending", THIRD: "provisional"}
    outcome, asked = desk.asked("fetch", "bars")
    assert (outcome.code, asked) == (0, [of(NEXT)])
    assert desk.states()[NEXT] == "final"


def test_a_holiday_is_never_asked_for(desk: Desk) -> None:
    """Its answer would be empty as well: the calendar decides, not the provider."""
    before, after = date(2025, 11, 26), date(2025, 11, 28)
    outcome, asked = desk.evening(after).asked("fetch", "bars", "--from", str(before), "--to", str(after))
    assert (outcome.code, sorted(asked)) == (0, [of(before), of(after)])
    assert desk.states() == {before: "final", after: "provisional"}
    outcome, asked = desk.asked("fetch", "bars", "--date", str(THANKSGIVING))
    assert (outcome.code, asked) == (2, [])
    assert "nearest sessions are 2025-11-26 and 2025-11-28" in outcome.err


@pytest.mark.parametrize(("symbols", "code"), [(5, 0), (4, 1)])
def test_half_of_the_usual_symbols_is_the_least_that_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symbols: int, code: int
) -> None:
    """Five of nine symbols are taken; four are work left, of which nothing lands, and the whole answer completes it."""
    market = market_of(DAYS)
    whole, market.bars[NEXT] = market.bars[NEXT], {name: market.bars[NEXT][name] for name in SYMBOLS[:symbols]}
    with Desk(tmp_path, monkeypatch, market=market) as desk:
        assert desk.evening(DAY).run("fetch", "bars", "--date", str(DAY)).code == 0
        outcome = desk.evening(NEXT).run("fetch", "bars", "--date", str(NEXT))
        assert outcome.code == code
        assert ("short answer: 4 rows, usual are 9" in outcome.err) == (code == 1)
        written = 1 + symbols + 1  # landing, a file a symbol, the session in one
        assert len([key for key in desk.listed() if str(NEXT) in key]) == (written if code == 0 else 0)
        market.bars[NEXT] = whole
        assert desk.next_morning(NEXT).run("fetch", "bars").code == 0
        assert desk.states() == {DAY: "final", NEXT: "final"}
        assert len([key for key in desk.listed(layout.BRONZE) if str(NEXT) in key]) == 9


def test_rows_that_come_twice_count_once(desk: Desk, tmp_path: Path) -> None:
    """Each row twice in one answer: exit code 0, no volume counted twice, nothing in quarantine, the bytes of a clean lake."""
    desk.provider.fail(of(DAY), kind="duplicates")
    assert desk.evening(DAY).run("fetch", "bars", "--date", str(DAY)).code == 0
    assert desk.run("consolidate").code == 0

    def clean(other: Desk) -> None:
        other.evening(DAY).run("fetch", "bars", "--date", str(DAY))
        other.run("consolidate")

    assert bars_of(desk) == clean_bars(tmp_path, clean)
    assert desk.listed(layout.QUARANTINE) == []


def test_delayed_is_as_good_as_ok(desk: Desk, tmp_path: Path) -> None:
    """A delayed plan's good answers are done with exit code 0 and give the same bars."""
    desk.provider.delayed = True
    assert desk.evening(DAY).run("fetch", "bars", "--date", str(DAY)).code == 0
    assert desk.states() == {DAY: "provisional"}
    clean = clean_bars(tmp_path, lambda other: other.evening(DAY).run("fetch", "bars", "--date", str(DAY)))
    assert bars_of(desk) == clean


# --- listings ---------------------------------------------------------------------------------------------------


@pytest.fixture
def paged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A lake beside a provider that lists two rows a page: nine tickers make five pages, three splits two."""
    market = market_of(DAYS)
    for number, symbol in enumerate(("AAPL", "IBM", "MSFT")):
        market.add_split(symbol, DAYS[number], 1, 2)
    with Desk(tmp_path, monkeypatch, market=market, page_size=2) as made:
        made.evening(DAY).run("fetch", "bars", "--date", str(DAY))
        yield made


def after_pages(desk: Desk, path: str, pages: int) -> None:
    """Let so many pages pass; the fault that is asked for next hits the one after them."""
    desk.provider.fail(path, kind="delay", seconds=0, times=pages)


def cursors(desk: Desk, path: str) -> list[str]:
    """Return the cursor of each request for active tickers, or for another listing; the first page has none."""
    return [request.query.get("cursor", "") for request in desk.provider.requests if request.path == path]


def test_a_page_that_fails_in_the_middle_is_resumed_from_that_page(paged: Desk) -> None:
    """Only the page that failed is asked for again, with the same cursor; nothing of the listing is missing."""
    after_pages(paged, TICKERS, 2)
    paged.provider.fail(TICKERS, status=500)
    after_pages(paged, SPLITS, 1)
    paged.provider.fail(SPLITS, kind="reset")
    assert paged.run("fetch", "meta").code == 0
    asked = cursors(paged, TICKERS)
    assert len(asked) == 5 + 1 + 1  # active tickers, the page that failed once more, delisted tickers
    assert asked[2] == asked[3] != ""
    assert len(set(asked[:6])) == 5
    asked = cursors(paged, SPLITS)
    assert (len(asked), asked[1]) == (3, asked[2])
    assert paged.symbols() == sorted(SYMBOLS)


@pytest.mark.parametrize(("path", "pages", "kept"), [(TICKERS, 2, []), (TICKERS, 5, []), (SPLITS, 1, sorted(SYMBOLS))])
def test_a_listing_that_cannot_be_had_whole_is_not_half_recorded(
    paged: Desk, path: str, pages: int, kept: list[str]
) -> None:
    """A page that stays away fails the step with exit code 1; the other steps go on; the next run completes all of it."""
    after_pages(paged, path, pages)
    paged.provider.fail(path, status=503, times=QUICK.attempts)
    outcome = paged.run("run")
    assert (outcome.code, paged.last_run().outcome) == (1, "partial")
    assert "fetch meta: GET" in outcome.err
    assert (paged.symbols(), layout.SPLITS in paged.listed()) == (kept, False)
    assert len(paged.listed(layout.landing_prefix("tickers"))) == (1 if kept else 0)
    assert paged.listed(layout.landing_prefix("splits")) == []
    assert layout.data_key("AAPL") in paged.listed()
    assert paged.run("run").code == 0
    assert (paged.symbols(), layout.SPLITS in paged.listed()) == (sorted(SYMBOLS), True)
    outcome = paged.run("run")
    assert outcome.out.startswith("run: nothing new: 0 PUT, 0 DELETE")


def test_401_in_the_middle_of_a_listing_takes_nothing_of_it(paged: Desk) -> None:
    """A key that is withdrawn between two pages: exit code 2, no half of a listing, and the new key completes it."""
    after_pages(paged, TICKERS, 3)
    paged.provider.fail(TICKERS, status=401)
    outcome = paged.run("fetch", "meta")
    assert outcome.code == 2
    assert "POLYGON_API_KEY was refused" in outcome.err
    assert (paged.symbols(), paged.listed(layout.landing_prefix("tickers"))) == ([], [])
    assert paged.run("fetch", "meta").code == 0
    assert paged.symbols() == sorted(SYMBOLS)


def test_a_range_that_cannot_be_had_whole_lands_nothing(paged: Desk) -> None:
    """One symbol's pages are one answer: what came before the page that failed is not taken for all of it."""
    words = ("fetch", "bars", "--symbols", "AAPL,IBM", "--from", str(DAY), "--to", str(DAYS[4]))
    paged.next_morning(DAYS[4])
    after_pages(paged, "/v2/aggs/ticker/IBM/", 1)
    paged.provider.fail("/v2/aggs/ticker/IBM/", status=500, times=QUICK.attempts)
    assert paged.run(*words).code == 1
    landed = paged.listed(layout.landing_prefix("range"))
    assert [key for key in landed if "AAPL" in key] == landed != []
    assert [key for key in paged.listed(layout.symbol_prefix("IBM")) if str(NEXT) in key] == []
    assert paged.run(*words).code == 0
    with paged.state as state:
        marks = state.symbol_watermarks()
    assert (marks["AAPL"], marks["IBM"], marks["MSFT"]) == (DAYS[4], DAYS[4], DAY)


def test_a_listing_that_points_elsewhere_is_followed_here(paged: Desk) -> None:
    """Whatever host `next_url` names, pages are asked for at the provider's own address: no other host sees the key."""
    with StandIn(market_of(DAYS), api_key=paged.provider.api_key) as other:
        paged.provider.next_url_host = other.url
        assert paged.run("fetch", "meta").code == 0
        assert other.requests == []
    assert paged.symbols() == sorted(SYMBOLS)
    assert all("apikey" not in {name.lower() for name in request.query} for request in paged.provider.requests)
