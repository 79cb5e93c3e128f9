"""The REST source against the stand-in provider, over real connections on loopback."""

from __future__ import annotations

import gzip
import logging
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from condvest.aio import io_loop
from condvest.demo.market import Bar, Market
from condvest.demo.standin import StandIn
from condvest.domain.answers import SessionAnswer, SessionRefusal, parse_range
from condvest.domain.metadata import Listing, Row
from condvest.errors import CondvestError, ConfigError, DataError, NotEntitled, NotYetAvailable, TransientError
from condvest.sources import http
from condvest.sources.http import ProviderClient, checked_base_url
from condvest.sources.polygon import PolygonSource
from condvest.sources.retry import RetryPolicy
from condvest.sources.sessions import GIVE_UP_AFTER

KEY = "k3y-That-must-never-show"
QUICK = RetryPolicy(attempts=3, wait_initial_seconds=0.001, wait_max_seconds=0.01, empty_attempts=2)
GROUPED = "/v2/aggs/grouped"
RANGE = "/v2/aggs/ticker/"
FIRST = date(2024, 3, 4)
SESSIONS = [FIRST + timedelta(days=days) for days in (0, 1, 2, 3, 4, 7, 8, 9)]  # a DST change lies between two of them
NOW = datetime(2024, 3, 13, 22, 0, tzinfo=UTC)  # 18:00 in New York on the last session


def bar(close: float) -> Bar:
    """Return a sane bar that closes at a price."""
    return Bar(close - 1, close + 2, close - 3, close, 1000.5, close, 12)


@pytest.fixture
def market() -> Market:
    """Three symbols over eight sessions."""
    market = Market()
    for number, session in enumerate(SESSIONS):
        for symbol in ("AAPL", "BCPC", "BCpC"):
            market.set_bar(symbol, session, bar(100.0 + number + len(symbol)))
    return market


@pytest.fixture
def provider(market: Market) -> Iterator[StandIn]:
    """The stand-in, running."""
    with StandIn(market, now=lambda: NOW, api_key=KEY) as running:
        yield running


@pytest.fixture
def source(provider: StandIn) -> Iterator[PolygonSource]:
    """A source with short waits."""
    with PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK, timeout_seconds=5) as made:
        yield made


def outcomes(source: PolygonSource, sessions: list[date]) -> list[SessionAnswer | SessionRefusal]:
    """Fetch sessions to the end."""
    return list(source.fetch_sessions(sessions))


def rows_of(source: PolygonSource, listing: Listing) -> Iterator[Row]:
    """Yield the rows of a listing, page by page."""
    for page in source.pages(listing):
        yield from page.rows


def refusal(outcome: SessionAnswer | SessionRefusal) -> SessionRefusal:
    """Return an outcome that must be a refusal."""
    assert isinstance(outcome, SessionRefusal)
    return outcome


# --- whole sessions ---------------------------------------------------------------------------------------------


def test_sessions_come_in_order_with_one_raw_request_each(source: PolygonSource, provider: StandIn) -> None:
    """One request brings a session's whole market; answers keep the order asked for, however long each takes."""
    provider.fail(f"{GROUPED}/locale/us/market/stocks/{SESSIONS[0]}", kind="delay", seconds=0.2)
    found = outcomes(source, SESSIONS)
    assert [outcome.session for outcome in found] == SESSIONS
    for outcome in found:
        assert isinstance(outcome, SessionAnswer)
        assert outcome.parsed.bars["symbol"].to_pylist() == ["AAPL", "BCPC", "BCpC"]
        assert set(outcome.parsed.bars["date"].to_pylist()) == {outcome.session}
    assert source.kind == "grouped"
    assert source.requests == len(provider.requests) == len(SESSIONS)
    assert source.bytes_in == sum(len(outcome.body) for outcome in found if isinstance(outcome, SessionAnswer))
    assert all(request.query == {"adjusted": "false", "include_otc": "false"} for request in provider.requests)


def test_no_sessions_no_requests(source: PolygonSource) -> None:
    """Nothing to fetch asks for nothing."""
    assert outcomes(source, []) == []
    assert source.requests == 0


def test_big_bodies_are_read_too(source: PolygonSource, market: Market) -> None:
    """A market of thousands of rows arrives whole."""
    for number in range(2000):
        market.set_bar(f"S{number}", FIRST, bar(50.0))
    (answer,) = outcomes(source, [FIRST])
    assert isinstance(answer, SessionAnswer)
    assert answer.parsed.total == answer.parsed.bars.num_rows == 2003


def test_delayed_is_a_good_answer(source: PolygonSource, provider: StandIn) -> None:
    """200 DELAYED, as delayed plans get it, is as good as OK."""
    provider.delayed = True
    (answer,) = outcomes(source, [FIRST])
    assert isinstance(answer, SessionAnswer)
    assert b"DELAYED" in answer.body


def test_the_consumer_sets_the_pace(provider: StandIn) -> None:
    """Never more than `in_flight` sessions are asked for ahead of the consumer, and none after it stops."""
    with PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK, in_flight=3) as source:
        running = source.fetch_sessions(SESSIONS)
        assert next(running).session == SESSIONS[0]
        time.sleep(0.1)
        assert len(provider.requests) == 3
        running.close()  # type: ignore[attr-defined] # a generator; the protocol promises an iterator only
        time.sleep(0.05)
        assert len(provider.requests) == 3


def test_several_sessions_are_in_flight_at_once(source: PolygonSource, provider: StandIn) -> None:
    """Eight slow answers take the time of one, not of eight."""
    provider.fail(GROUPED, kind="delay", seconds=0.25, times=len(SESSIONS))
    begin = time.monotonic()
    assert len(outcomes(source, SESSIONS)) == len(SESSIONS)
    assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize("kind", ["truncate", "reset", "empty"])
def test_a_spoiled_answer_is_asked_for_again(source: PolygonSource, provider: StandIn, kind: str) -> None:
    """A cut body, a dropped connection and an answer that is empty under load pass when asked again."""
    provider.fail(GROUPED, kind=kind)  # type: ignore[arg-type] # one of the kinds
    (answer,) = outcomes(source, [FIRST])
    assert isinstance(answer, SessionAnswer)
    assert answer.parsed.total == 3
    assert source.requests == 2


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, None),
        (502, "<html>bad gateway</html>"),
        (429, None),
        (408, None),
        (202, None),
        (403, "<html>blocked by a firewall</html>"),
        (200, "not json"),
        (200, "[1, 2]"),
        (200, '{"status": "ERROR", "error": "internal"}'),
        (200, '{"status": "OK", "results": 5}'),
        (200, '{"status": "OK", "adjusted": true, "results": []}'),
    ],
)
def test_passing_failures_are_retried_then_leave_the_session_pending(
    source: PolygonSource, provider: StandIn, status: int, body: str | None
) -> None:
    """5xx, 429, a proxy's 403, broken bodies and errors inside a 200 are retried; then the session is pending."""
    provider.fail(GROUPED, status=status, body=body, times=2)
    assert isinstance(outcomes(source, [FIRST])[0], SessionAnswer)
    provider.fail(GROUPED, status=status, body=body, times=3)
    refused = refusal(outcomes(source, [FIRST])[0])
    assert refused.state == "pending"
    assert "gave up after attempt 3" in refused.reason
    assert source.requests == 6


def test_the_wait_that_the_server_asks_for_is_kept(provider: StandIn) -> None:
    """Retry-After in seconds and as a date decides the wait; the exponential one is not used then."""
    policy = RetryPolicy(attempts=3, wait_initial_seconds=30, wait_max_seconds=30, empty_attempts=1)
    same = "Wed, 13 Mar 2024 22:00:00 GMT"
    with PolygonSource(provider.url, KEY, requests_per_minute=0, retry=policy) as source:
        provider.fail(GROUPED, status=429, headers={"Retry-After": "1"})
        provider.fail(GROUPED, status=503, headers={"Retry-After": same, "Date": same})
        begin = time.monotonic()
        assert isinstance(outcomes(source, [FIRST])[0], SessionAnswer)
        assert 1 <= time.monotonic() - begin < 5


@pytest.mark.parametrize(("value", "requests"), [("3600", 1), ("soon", 3), ("Wed, 13 Mar 2024 22:00:00 GMT", 3)])
def test_a_wait_beyond_the_limit_ends_the_attempts(
    source: PolygonSource, provider: StandIn, value: str, requests: int
) -> None:
    """A server that says 'in an hour' is not asked before; a Retry-After that nobody can read is as none."""
    provider.fail(GROUPED, status=429, headers={"Retry-After": value}, times=5)
    assert refusal(outcomes(source, [FIRST])[0]).state == "pending"
    assert source.requests == requests


def test_D18_an_empty_answer_on_a_session_is_never_done(source: PolygonSource, market: Market) -> None:
    """A session whose answer stays empty is asked for again, then pending with that reason; others go on."""
    market.bars[SESSIONS[1]].clear()
    found = outcomes(source, SESSIONS[:3])
    assert [isinstance(outcome, SessionAnswer) for outcome in found] == [True, False, True]
    assert refusal(found[1]).state == "pending"
    assert "empty answer" in refusal(found[1]).reason
    assert source.requests == 2 + QUICK.empty_attempts


def test_sessions_before_the_plan_are_not_entitled(market: Market) -> None:
    """A permanent 403 concerns its session alone and is not retried."""
    with (
        StandIn(market, now=lambda: NOW, api_key=KEY, plan_start=SESSIONS[2]) as provider,
        PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK) as source,
    ):
        found = outcomes(source, SESSIONS)
        assert [outcome.state for outcome in found[:2] if isinstance(outcome, SessionRefusal)] == ["not_entitled"] * 2
        assert "upgrade the plan" in refusal(found[0]).reason
        assert all(isinstance(outcome, SessionAnswer) for outcome in found[2:])
        assert source.requests == len(SESSIONS)
        with pytest.raises(NotEntitled, match="plan does not include"):
            source.fetch_range("AAPL", SESSIONS[0], SESSIONS[1])


def test_today_before_its_end_stays_pending(market: Market) -> None:
    """The passing 403 leaves a session pending, though its status is the same as that of the permanent one."""
    noon = NOW - timedelta(hours=6)
    with (
        StandIn(market, now=lambda: noon, api_key=KEY) as provider,
        PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK) as source,
    ):
        found = outcomes(source, SESSIONS[-2:])
        assert isinstance(found[0], SessionAnswer)
        assert refusal(found[1]).state == "pending"
        assert "not handed out yet" in refusal(found[1]).reason
        assert source.requests == 2
        with pytest.raises(NotYetAvailable):
            source.fetch_range("AAPL", SESSIONS[-1], SESSIONS[-1])


def test_a_refused_key_stops_everything_at_once(provider: StandIn) -> None:
    """401 is a ConfigError that names the setting; it is not tried for all sessions, nor twice."""
    with PolygonSource(provider.url, "wrong", requests_per_minute=0, retry=QUICK, in_flight=2) as source:
        with pytest.raises(ConfigError, match="POLYGON_API_KEY was refused by"):
            outcomes(source, SESSIONS)
        assert source.requests <= 2


def test_other_refusals_concern_their_session_alone(source: PolygonSource, provider: StandIn) -> None:
    """A 400 or 404 is not retried and leaves the session pending; the others are answered."""
    provider.fail(f"{GROUPED}/locale/us/market/stocks/{SESSIONS[0]}", status=400)
    provider.fail(f"{GROUPED}/locale/us/market/stocks/{SESSIONS[1]}", status=404)
    found = outcomes(source, SESSIONS[:3])
    assert [refusal(outcome).state for outcome in found[:2]] == ["pending", "pending"]
    assert isinstance(found[2], SessionAnswer)
    assert source.requests == 3


def test_a_provider_that_is_down_is_left_alone(provider: StandIn) -> None:
    """After five sessions in a row failed with all their retries, the others are refused without a request."""
    provider.fail(GROUPED, status=503, times=1000)
    days = [FIRST + timedelta(days=day) for day in range(200)]
    with PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK, in_flight=2) as source:
        found = outcomes(source, days)
        assert [outcome.session for outcome in found] == days
        assert all(refusal(outcome).state == "pending" for outcome in found)
        assert "gave up" in refusal(found[GIVE_UP_AFTER - 1]).reason
        assert all("not asked: provider is down" in refusal(outcome).reason for outcome in found[GIVE_UP_AFTER:])
        assert source.requests <= (GIVE_UP_AFTER + 2) * QUICK.attempts


def test_failures_that_are_not_in_a_row_do_not_count_as_an_outage(provider: StandIn) -> None:
    """Any answer between two failures shows that the provider is up."""
    for session in SESSIONS[:4] + SESSIONS[5:]:
        provider.fail(f"{GROUPED}/locale/us/market/stocks/{session}", status=503, times=3)
    with PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK) as source:
        found = outcomes(source, SESSIONS)
    assert [isinstance(outcome, SessionAnswer) for outcome in found] == [day == SESSIONS[4] for day in SESSIONS]
    assert not any("not asked" in refusal(outcome).reason for outcome in found[5:])


def test_a_server_that_never_ends_its_answer_is_a_time_out(provider: StandIn) -> None:
    """The time-out bounds the whole request; it is retried like any passing failure."""
    provider.fail(GROUPED, kind="delay", seconds=1.0, times=3)
    with PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK, timeout_seconds=0.05) as source:
        assert "within 0.05 s" in refusal(outcomes(source, [FIRST])[0]).reason


def test_nobody_listening_is_a_passing_failure(market: Market) -> None:
    """A provider that cannot be reached leaves sessions pending."""
    with StandIn(market, api_key=KEY) as provider:
        gone = provider.url
    with PolygonSource(gone, KEY, requests_per_minute=0, retry=QUICK) as source:
        assert "ConnectError" in refusal(outcomes(source, [FIRST])[0]).reason


# --- the rate ---------------------------------------------------------------------------------------------------


def test_requests_are_spaced_by_the_rate(provider: StandIn) -> None:
    """600 a minute are a tenth of a second apart, from the first one on: no burst that the provider would refuse."""
    with PolygonSource(provider.url, KEY, requests_per_minute=600, retry=QUICK) as source:
        begin = time.monotonic()
        outcomes(source, SESSIONS[:4])
        assert 0.28 <= time.monotonic() - begin < 2


# --- one symbol ---------------------------------------------------------------------------------------------------


def test_a_range_has_the_sessions_of_new_york(source: PolygonSource, provider: StandIn) -> None:
    """`t` is the start of a day in New York, on both sides of a clock change; bounds are inclusive; prices raw."""
    body, parsed = source.fetch_range("AAPL", SESSIONS[0], SESSIONS[-2])
    assert parsed.bars["date"].to_pylist() == SESSIONS[:-1]
    assert parsed == parse_range(body, "AAPL")
    assert provider.requests[-1].query["adjusted"] == "false"


@pytest.mark.parametrize("symbol", ["BCpC", "BCPC", "BRK.B", "A#B%C?D&E"])
def test_symbols_reach_the_provider_exactly(source: PolygonSource, market: Market, symbol: str) -> None:
    """Case matters, and no character of a symbol changes the path."""
    market.set_bar(symbol, FIRST, bar(77.0))
    _, parsed = source.fetch_range(symbol, FIRST, FIRST)
    assert parsed.bars["symbol"].to_pylist() == [symbol]
    assert parsed.bars["close"].to_pylist() == [77.0]
    details = source.ticker_details(symbol)
    assert details is not None
    assert details["ticker"] == symbol


def test_a_range_without_bars_is_an_answer(source: PolygonSource) -> None:
    """A symbol that was not listed then has no bars; that is no error."""
    body, parsed = source.fetch_range("NONE", SESSIONS[0], SESSIONS[-1])
    assert parsed.total == 0
    assert body == b'{"ticker":"NONE","adjusted":false,"results":[]}'


def test_a_range_of_another_symbol_is_refused(source: PolygonSource, provider: StandIn) -> None:
    """An answer for another ticker is taken for no symbol."""
    provider.fail(RANGE, status=200, body={"ticker": "BCPC", "status": "OK", "results": []})
    with pytest.raises(DataError, match="BCPC"):
        source.fetch_range("BCpC", FIRST, FIRST)


def test_pages_are_merged_and_followed_on_our_own_host_only(market: Market) -> None:
    """`next_url` names another host: its path and query are asked for here, and the key goes nowhere else."""
    with (
        StandIn(market, api_key=KEY) as other,
        StandIn(market, now=lambda: NOW, api_key=KEY, page_size=3) as provider,
        PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK) as source,
    ):
        provider.next_url_host = other.url
        _, parsed = source.fetch_range("AAPL", SESSIONS[0], SESSIONS[-1])
        assert parsed.bars["date"].to_pylist() == SESSIONS
        assert [request.path for request in provider.requests].count(provider.requests[0].path) == 3
        assert not other.requests


def test_a_key_in_a_next_url_is_dropped(source: PolygonSource, provider: StandIn) -> None:
    """Even where the provider puts a key into a link, it is not sent in a URL."""
    path = "/stocks/v1/splits"
    link = f"https://api.polygon.io{path}?cursor=abc&apiKey={KEY}&limit=7"
    provider.fail(path, status=200, body={"status": "OK", "results": [{"ticker": "A"}], "next_url": link})
    provider.fail(path, status=200, body={"status": "OK", "results": [{"ticker": "B"}]})
    assert [row["ticker"] for row in rows_of(source, "splits")] == ["A", "B"]
    assert provider.requests[-1].query == {"cursor": "abc", "limit": "7"}


def test_a_page_that_fails_in_the_middle_is_retried(market: Market) -> None:
    """A listing survives failures of any of its pages, and raises where a page cannot be had: it never ends short."""
    with (
        StandIn(market, now=lambda: NOW, api_key=KEY, page_size=1) as provider,
        PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK) as source,
    ):
        listing = rows_of(source, "listed")
        assert next(listing)["ticker"] == "AAPL"
        provider.fail("/v3/reference/tickers", status=500)
        provider.fail("/v3/reference/tickers", kind="truncate")
        assert [row["ticker"] for row in listing] == ["BCPC", "BCpC"]
        listing = rows_of(source, "listed")
        next(listing)
        provider.fail("/v3/reference/tickers", status=500, times=3)
        with pytest.raises(TransientError, match="500"):
            list(listing)


def test_a_promised_page_that_is_empty_is_asked_for_again(market: Market, caplog: pytest.LogCaptureFixture) -> None:
    """An empty page behind a `next_url` may be load; one that stays empty is the end and is logged."""
    with (
        StandIn(market, now=lambda: NOW, api_key=KEY, page_size=2) as provider,
        PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK) as source,
    ):
        listing = rows_of(source, "listed")
        next(listing)
        provider.fail("/v3/reference/tickers", kind="empty")
        assert len(list(listing)) == 2
        assert "last_page_empty" not in caplog.text
        listing = rows_of(source, "listed")
        next(listing)
        provider.fail("/v3/reference/tickers", kind="empty", times=2)
        assert len(list(listing)) == 1
        assert "last_page_empty" in caplog.text


@pytest.mark.parametrize("link", ["no url", "https://[broken", "https://api.polygon.io/%C3%A9\u00e9", 7])
def test_a_broken_next_url_is_an_error(source: PolygonSource, provider: StandIn, link: object) -> None:
    """A link that leads nowhere does not end a listing in silence."""
    provider.fail("/stocks/v1/splits", status=200, body={"status": "OK", "results": [], "next_url": link})
    with pytest.raises(DataError, match="next_url"):
        list(rows_of(source, "splits"))


def test_pages_in_a_circle_end(source: PolygonSource, provider: StandIn) -> None:
    """A cursor that comes back is an error, not an endless listing."""
    page = {
        "status": "OK",
        "results": [{"ticker": "A"}],
        "next_url": "https://api.polygon.io/stocks/v1/splits?cursor=x",
    }
    provider.fail("/stocks/v1/splits", status=200, body=page, times=5)
    with pytest.raises(DataError, match="no end"):
        list(rows_of(source, "splits"))
    assert source.requests == 2


# --- metadata ---------------------------------------------------------------------------------------------------


def test_metadata_listings(source: PolygonSource, provider: StandIn, market: Market) -> None:
    """Active and delisted tickers, splits and dividends by date, closures: each as the provider gives it."""
    market.delist("BCPC", SESSIONS[5])
    market.add_split("AAPL", SESSIONS[4], 1, 4)
    market.add_split("BCpC", SESSIONS[2], 10, 1)
    market.add_dividend("AAPL", SESSIONS[3], 0.24)
    market.add_closure(date(2024, 3, 29), "Good Friday")
    assert [row["ticker"] for row in rows_of(source, "listed")] == ["AAPL", "BCpC"]
    assert [row["ticker"] for row in rows_of(source, "delisted")] == ["BCPC"]
    assert [row["ticker"] for row in rows_of(source, "splits")] == ["BCpC", "AAPL"]
    assert [row["cash_amount"] for row in rows_of(source, "dividends")] == [0.24]
    assert {row["date"] for row in source.market_upcoming()} == {"2024-03-29"}
    assert source.ticker_details("NONE") is None
    asked = [request.query.get("limit") for request in provider.requests]
    assert asked == ["1000", "1000", "5000", "5000", None, None]


def test_nothing_to_list_is_an_answer(source: PolygonSource) -> None:
    """No splits, no dividends and no closures are empty lists, at one request each."""
    assert [*rows_of(source, "splits"), *rows_of(source, "dividends"), *source.market_upcoming()] == []
    assert source.requests == 3


@pytest.mark.parametrize(
    "body", ["not json", '{"status": "OK"}', "[]", '{"status":"OK","results":["A"]}', '{"status":"OK","results":{}}']
)
def test_D18_a_listing_of_the_wrong_shape_is_no_empty_listing(
    source: PolygonSource, provider: StandIn, body: str
) -> None:
    """Missing `results` without a count of 0, or rows that are no objects: a failure, not 'there are none'."""
    provider.fail("/stocks/v1/splits", status=200, body=body, times=3)
    with pytest.raises(TransientError, match="gave up after attempt 3"):
        list(rows_of(source, "splits"))


@pytest.mark.parametrize("body", ['{"status": "OK", "results": []}', "[]", '{"status": "NOT_FOUND"}'])
def test_details_of_the_wrong_shape_are_refused(source: PolygonSource, provider: StandIn, body: str) -> None:
    """Only 404 means that a ticker is unknown."""
    provider.fail("/v3/reference/tickers/AAPL", status=200, body=body, times=3)
    with pytest.raises(TransientError):
        source.ticker_details("AAPL")


def test_details_of_another_ticker_are_refused(source: PolygonSource, provider: StandIn) -> None:
    """Two companies are never joined by an answer for the wrong one."""
    provider.fail("/v3/reference/tickers/", status=200, body={"status": "OK", "results": {"ticker": "BCPC"}})
    with pytest.raises(DataError, match="'BCPC'"):
        source.ticker_details("BCpC")


# --- the key and the address --------------------------------------------------------------------------------------


def test_the_key_never_shows(provider: StandIn, market: Market, caplog: pytest.LogCaptureFixture) -> None:
    """No log line at any level, no error with its causes, no repr and no URL holds the key, even if the server does."""
    caplog.set_level(logging.DEBUG)
    echo = {"status": "ERROR", "message": f"bad key {KEY}", "error": KEY}
    shown = []
    with PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK, timeout_seconds=2) as source:
        shown.append(repr(source))
        for status in (400, 401, 403, 404, 429, 500, 200):
            said = echo | ({"status": "NOT_AUTHORIZED"} if status == 403 else {})
            provider.fail(RANGE, status=status, body=said, times=1 if status in (400, 401, 403, 404) else 3)
            with pytest.raises(CondvestError) as caught:
                source.fetch_range("AAPL", FIRST, FIRST)
            shown.append("".join(traceback.format_exception(caught.value, chain=True)))
            shown.append(repr(caught.value))
        provider.fail(RANGE, kind="reset", times=3)
        with pytest.raises(TransientError) as broken:
            source.fetch_range("AAPL", FIRST, FIRST)
        shown.append("".join(traceback.format_exception(broken.value, chain=True)))
        outcomes(source, SESSIONS)
    shown += [f"{request.path} {request.query}" for request in provider.requests]
    assert "request_failed" in caplog.text
    assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in provider.requests)
    assert KEY not in caplog.text
    assert not [text for text in shown if KEY in text]


def test_a_redirect_is_not_followed(source: PolygonSource, provider: StandIn, market: Market) -> None:
    """The key does not travel to where a redirect points; the error names the setting."""
    with StandIn(market, api_key=KEY) as other:
        provider.fail(RANGE, status=302, headers={"Location": f"{other.url}/x"})
        with pytest.raises(ConfigError, match="POLYGON_BASE_URL"):
            source.fetch_range("AAPL", FIRST, FIRST)
        assert not other.requests


def test_a_proxy_does_not_see_the_key_in_clear(provider: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to loopback go there directly, whatever proxy the environment names."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with PolygonSource(provider.url, KEY, requests_per_minute=0, retry=QUICK) as source:
        assert isinstance(outcomes(source, [FIRST])[0], SessionAnswer)


def test_https_means_tls(provider: StandIn) -> None:
    """An https base URL is never spoken to in clear: a server without TLS gets no request."""
    address = provider.url.replace("http://", "https://")
    with PolygonSource(address, KEY, requests_per_minute=0, retry=QUICK) as source:
        assert "ConnectError" in refusal(outcomes(source, [FIRST])[0]).reason
    assert not provider.requests


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("", "no http"),
        ("api.massive.com", "no http"),
        ("ftp://api.massive.com", "no http"),
        ("https://", "no http"),
        ("https://[broken", "no http"),
        ("https://host:99999", "no http"),
        ("http://api.massive.com", "must be https"),
        ("http://10.0.0.1", "must be https"),
        ("http://localhost.evil.com", "must be https"),
        (f"https://user:{KEY}@api.massive.com", "no user"),
        (f"https://api.massive.com?apiKey={KEY}", "no user"),
        (f"https://api.massive.com#{KEY}", "no user"),
    ],
)
def test_an_unsafe_base_url_is_refused(url: str, rule: str) -> None:
    """Keys go over https or loopback only; the error says setting, rule and remedy, and shows no credential."""
    with pytest.raises(ConfigError, match=rule) as caught:
        PolygonSource(url, KEY, requests_per_minute=5)
    assert "POLYGON_BASE_URL" in str(caught.value)
    assert "set POLYGON_BASE_URL" in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://api.massive.com/", "http://127.0.0.1:81", "http://[::1]:81", "http://localhost"]
)
def test_a_safe_base_url_is_taken(url: str) -> None:
    """TLS anywhere and http on loopback are fine; a slash at the end does not matter."""
    assert checked_base_url(url, setting="POLYGON_BASE_URL") == url.rstrip("/")


@pytest.mark.parametrize(
    ("key", "rule"), [("", "is not set"), ("  ", "is not set"), ("a b", "space"), ("k\u00e9y", "ASCII")]
)
def test_an_impossible_key_is_refused(key: str, rule: str) -> None:
    """A key that is missing or that no header can carry is named before anything is sent, and not shown."""
    with pytest.raises(ConfigError, match=rule) as caught:
        PolygonSource("https://api.massive.com", key, requests_per_minute=5)
    assert "POLYGON_API_KEY" in str(caught.value)


def test_a_negative_rate_is_refused() -> None:
    """The rate is 0 or more."""
    with pytest.raises(ConfigError, match="POLYGON_REQUESTS_PER_MINUTE is -1"):
        PolygonSource("https://api.massive.com", KEY, requests_per_minute=-1)


def test_a_path_in_the_base_url_is_kept(provider: StandIn) -> None:
    """Behind a gateway with a path prefix, first and following pages are asked for under it, once."""
    link = "https://api.polygon.io/gate/stocks/v1/splits?cursor=x"
    provider.fail("/gate/stocks/v1/splits", status=200, body={"status": "OK", "results": [{"n": 1}], "next_url": link})
    provider.fail("/gate/stocks/v1/splits", status=200, body={"status": "OK", "results": [{"n": 2}]})
    with PolygonSource(f"{provider.url}/gate/", KEY, requests_per_minute=0, retry=QUICK) as source:
        assert [row["n"] for row in rows_of(source, "splits")] == [1, 2]
    assert [request.path for request in provider.requests] == ["/gate/stocks/v1/splits"] * 2


def test_the_client_alone_answers_json(provider: StandIn) -> None:
    """`get_json` gives the body as received beside what it says; `repr` shows the address alone."""
    with ProviderClient(provider.url, KEY, requests_per_minute=0) as client:
        answer = io_loop().run(client.get_json("/v1/marketstatus/now"))
        assert answer.value["market"] == "extended-hours"
        assert answer.body.startswith(b"{")
        assert repr(client) == f"ProviderClient('{provider.url}')"


@pytest.mark.parametrize("following", ["/v3?cursor=\ud83d", "/" + "a" * 70_000, "/a b", "/a\0", {"a": 1}])
def test_a_next_page_that_cannot_be_asked_for(source: PolygonSource, provider: StandIn, following: object) -> None:
    """What no client can send is an error of ours; the listing does not end short."""
    page = {"status": "OK", "results": [], "count": 0, "next_url": following}
    provider.fail("/v3/reference/tickers", status=200, body=page)
    with pytest.raises(DataError, match="next_url"):
        list(source.pages("listed"))


def test_an_answer_beyond_all_bounds_is_not_read(
    source: PolygonSource, provider: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What unpacks to more than any answer has is given up before it fills the memory."""
    monkeypatch.setattr(http, "MOST_BODY_BYTES", 1 << 20)
    for body, headers in (
        (gzip.compress(bytes(50 << 20)), {"Content-Encoding": "gzip"}),
        (b" " * (2 << 20), {}),
    ):
        provider.fail("/v1/marketstatus", times=QUICK.attempts, status=200, body=body, headers=headers)
        with pytest.raises(TransientError, match="MiB, as none is"):
            source.market_upcoming()
    provider.fail("/v1/marketstatus", status=200, body=gzip.compress(b"[]"), headers={"Content-Encoding": "gzip"})
    assert source.market_upcoming() == []
