"""The flat files against a real S3 server, and against a server that answers what a real one cannot be made to."""

from __future__ import annotations

import gzip
import logging
import traceback
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from condvest.demo.faults import Answer
from condvest.demo.http_server import Request, Server
from condvest.demo.market import NEW_YORK
from condvest.domain.answers import SessionAnswer, SessionRefusal, parse_flat_file
from condvest.errors import ConfigError
from condvest.sources.flat_files import FlatFileSource, object_key
from condvest.sources.retry import RetryPolicy
from condvest.sources.sessions import GIVE_UP_AFTER
from servers.seaweed import ACCESS_KEY, REGION, SECRET_KEY, S3Server

BUCKET = "flatfiles"
QUICK = RetryPolicy(attempts=3, wait_initial_seconds=0.001, wait_max_seconds=0.01, empty_attempts=2)
SESSIONS = [date(2024, 3, 6), date(2024, 3, 7), date(2024, 3, 8), date(2024, 3, 11)]  # the clocks change on the 10th
COLUMNS = "ticker,volume,open,close,high,low,window_start,transactions"


def flat_file(session: date, *symbols: str) -> bytes:
    """Return a day's CSV in the provider's columns; `window_start` is the start of the New York day in nanoseconds."""
    start = int(datetime.combine(session, time(), tzinfo=NEW_YORK).timestamp()) * 10**9
    lines = [f"{symbol},1000.5,10.1,11.2,12.3,9.4,{start},7" for symbol in symbols]
    return "\n".join([COLUMNS, *lines, ""]).encode()


def make_source(
    endpoint: str,
    *,
    access_key_id: str = ACCESS_KEY,
    secret_access_key: str = SECRET_KEY,
    bucket: str = BUCKET,
    in_flight: int = 8,
) -> FlatFileSource:
    """Return a source with short waits."""
    return FlatFileSource(
        endpoint=endpoint,
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        bucket=bucket,
        retry=QUICK,
        in_flight=in_flight,
        timeout_seconds=5,
    )


def outcomes(source: FlatFileSource, sessions: list[date]) -> list[SessionAnswer | SessionRefusal]:
    """Fetch sessions to the end."""
    return list(source.fetch_sessions(sessions))


def refusal(outcome: SessionAnswer | SessionRefusal) -> SessionRefusal:
    """Return an outcome that must be a refusal."""
    assert isinstance(outcome, SessionRefusal)
    return outcome


@pytest.fixture(scope="module")
def files(s3_server: S3Server) -> S3Store:
    """The provider's bucket on the real server, with files for all but the last session."""
    store = S3Store(
        BUCKET,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        endpoint=s3_server.endpoint_url,
        region=REGION,
        client_options={"allow_http": True},
    )
    for session in SESSIONS[:3]:
        obstore.put(store, object_key(session), gzip.compress(flat_file(session, "AAPL", "BCpC", "NA")))
    return store


class Script:
    """A server that gives the answers put into `answers` in order, then the last of them for ever."""

    def __init__(self) -> None:
        """Start it."""
        self.answers: list[Answer] = []
        self.seen: list[Request] = []
        self._server = Server(self._respond)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """End it."""
        self._server.stop()

    def _respond(self, request: Request) -> Answer:
        self.seen.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def script() -> Iterator[Script]:
    """A server that says what a test puts into it."""
    made = Script()
    yield made
    made.stop()


def good(session: date) -> Answer:
    """Return a file as S3 sends it."""
    headers = {"Last-Modified": "Fri, 08 Mar 2024 16:00:00 GMT", "ETag": '"x"', "Content-Type": "application/gzip"}
    return Answer(200, gzip.compress(flat_file(session, "AAPL")), headers)


def refused(status: int, code: str) -> Answer:
    """Return an S3 error."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>"
    return Answer(status, text.encode(), {"Content-Type": "application/xml"})


# --- on the real server -----------------------------------------------------------------------------------------


@pytest.mark.s3
def test_files_come_unpacked_in_order_and_what_is_absent_stays_pending(s3_server: S3Server, files: S3Store) -> None:
    """One object a session; the body is the CSV itself; a file that is not there yet is pending with the hour to expect it."""
    source = make_source(s3_server.endpoint_url)
    found = outcomes(source, [SESSIONS[2], SESSIONS[3], SESSIONS[0], SESSIONS[1]])
    assert [outcome.session for outcome in found] == [SESSIONS[2], SESSIONS[3], SESSIONS[0], SESSIONS[1]]
    for outcome in (found[0], *found[2:]):
        assert isinstance(outcome, SessionAnswer)
        assert outcome.body == flat_file(outcome.session, "AAPL", "BCpC", "NA")
        assert outcome.parsed == parse_flat_file(outcome.body, outcome.session)
        assert outcome.parsed.bars["symbol"].to_pylist() == ["AAPL", "BCpC", "NA"]
    assert refusal(found[1]).state == "pending"
    assert "11:00 New York" in refusal(found[1]).reason
    assert source.kind == "flat_files"
    assert source.requests == 4
    assert source.bytes_in == sum(obstore.head(files, object_key(session))["size"] for session in SESSIONS[:3])


@pytest.mark.s3
def test_a_spoiled_file_is_read_again_then_pending(s3_server: S3Server, files: S3Store) -> None:
    """Cut, not gzip, not CSV, another day's rows, no rows: asked for again, then pending; never a short session."""
    packed = gzip.compress(flat_file(SESSIONS[0], "AAPL"))
    spoiled = {
        date(2023, 1, 3): packed[:-9],
        date(2023, 1, 4): b"no gzip at all",
        date(2023, 1, 5): packed[:20] + b"\xff" * 10 + packed[30:],
        date(2023, 1, 6): gzip.compress(b"ticker,price\nA,1\n"),
        date(2023, 1, 9): packed,
        date(2023, 1, 10): gzip.compress(flat_file(date(2023, 1, 10))),
    }
    for session, data in spoiled.items():
        obstore.put(files, object_key(session), data)
    for session in spoiled:  # one at a time, or five in a row count as an outage
        source = make_source(s3_server.endpoint_url)
        assert refusal(outcomes(source, [session])[0]).state == "pending"
        assert source.requests == (QUICK.empty_attempts if session == date(2023, 1, 10) else QUICK.attempts)


@pytest.mark.s3
@pytest.mark.parametrize(
    "wrong", [{"access_key_id": "nobody"}, {"secret_access_key": "wrong"}, {"bucket": "no-such-bucket"}]
)
def test_wrong_keys_and_a_wrong_bucket_stop_at_once(
    s3_server: S3Server, files: S3Store, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What concerns all sessions is a ConfigError that names the setting and shows no key."""
    caplog.set_level(logging.DEBUG)
    source = make_source(s3_server.endpoint_url, **wrong)
    with pytest.raises(ConfigError, match=r"POLYGON_FLAT_FILES_(ACCESS_KEY_ID|BUCKET)") as caught:
        outcomes(source, SESSIONS)
    shown = "".join(traceback.format_exception(caught.value)) + repr(source) + caplog.text
    assert not [key for key in (ACCESS_KEY, SECRET_KEY, "nobody") if key in shown]


@pytest.mark.s3
def test_the_lake_s_aws_settings_do_not_reach_the_provider(
    s3_server: S3Server, files: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, session token, region and endpoint of the lake's own S3 stand in AWS_*; flat files use none of them."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION"):
        monkeypatch.setenv(f"AWS_{name}", "lake")
    for name in ("ENDPOINT_URL", "ENDPOINT_URL_S3"):
        monkeypatch.setenv(f"AWS_{name}", "http://127.0.0.1:9")
    for name in ("SKIP_SIGNATURE", "REQUEST_PAYER", "VIRTUAL_HOSTED_STYLE_REQUEST", "S3_EXPRESS"):
        monkeypatch.setenv(f"AWS_{name}", "true")
    assert isinstance(outcomes(make_source(s3_server.endpoint_url), SESSIONS[:1])[0], SessionAnswer)


# --- what a real server cannot be made to say ---------------------------------------------------------------------


def test_no_token_of_the_lake_is_sent(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """In AWS a role's session token stands in the environment; the provider never sees it."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-lake")
    script.answers = [good(SESSIONS[0])]
    assert isinstance(outcomes(make_source(script.url), SESSIONS[:1])[0], SessionAnswer)
    (request,) = script.seen
    assert request.path == "/flatfiles/us_stocks_sip/day_aggs_v1/2024/03/2024-03-06.csv.gz"
    assert "x-amz-security-token" not in request.headers
    assert SECRET_KEY not in str(request.headers)


def test_sessions_outside_the_plan_are_not_entitled(script: Script) -> None:
    """403 AccessDenied, which the provider sends before a plan's window, concerns its session alone; no retry."""
    script.answers = [refused(403, "AccessDenied"), refused(403, "AccessDenied"), good(SESSIONS[2])]
    source = make_source(script.url, in_flight=1)
    found = outcomes(source, SESSIONS[:3])
    assert [refusal(outcome).state for outcome in found[:2]] == ["not_entitled"] * 2
    assert "upgrade" in refusal(found[0]).reason
    assert isinstance(found[2], SessionAnswer)
    assert source.requests == 3


def test_sessions_before_the_first_file_are_refused_unasked(script: Script) -> None:
    """Flat files begin on 2003-09-10; earlier sessions are not entitled, without a request."""
    script.answers = [good(date(2003, 9, 10))]
    source = make_source(script.url)
    found = outcomes(source, [date(2003, 9, 9), date(2003, 9, 10)])
    assert refusal(found[0]).state == "not_entitled"
    assert "2003-09-10" in refusal(found[0]).reason
    assert isinstance(found[1], SessionAnswer)
    assert source.requests == 1


def test_passing_failures_are_retried(script: Script) -> None:
    """5xx, SlowDown, dropped and cut answers pass when asked again."""
    whole = good(SESSIONS[0])
    script.answers = [
        refused(500, "InternalError"),
        refused(503, "SlowDown"),
        whole,
        Answer(200, whole.body, whole.headers, sent="half"),
        Answer(200, b"", sent="reset"),
        whole,
    ]
    source = make_source(script.url)
    for requests in (3, 6):
        assert isinstance(outcomes(source, SESSIONS[:1])[0], SessionAnswer)
        assert source.requests == requests


def test_an_outage_leaves_the_rest_unasked(script: Script) -> None:
    """After five sessions in a row failed with all retries, the others are refused without a request."""
    script.answers = [refused(503, "ServiceUnavailable")]
    days = [SESSIONS[0] + timedelta(days=day) for day in range(60)]
    source = make_source(script.url)
    found = outcomes(source, days)
    assert [outcome.session for outcome in found] == days
    assert "503" in refusal(found[0]).reason
    assert "not asked" in refusal(found[-1]).reason
    assert source.requests <= (GIVE_UP_AFTER + 8) * QUICK.attempts


@pytest.mark.parametrize("status", [401, 403])
def test_keys_that_are_refused_never_show(script: Script, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """S3 repeats the access key in its error; no log line, error or cause of ours does."""
    caplog.set_level(logging.DEBUG)
    script.answers = [refused(status, "InvalidAccessKeyId")]
    source = make_source(script.url)
    with pytest.raises(ConfigError, match="POLYGON_FLAT_FILES_SECRET_ACCESS_KEY") as caught:
        outcomes(source, SESSIONS)
    script.answers = [refused(500, "InternalError")]
    reasons = [refusal(outcome).reason for outcome in outcomes(source, SESSIONS)]
    shown = "".join([*traceback.format_exception(caught.value), *reasons, repr(source), caplog.text])
    assert "request_failed" in caplog.text
    assert ACCESS_KEY not in shown
    assert SECRET_KEY not in shown


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"endpoint": "http://files.massive.com"}, "ENDPOINT"),
        ({"endpoint": "files.massive.com"}, "ENDPOINT"),
        ({"access_key_id": ""}, "ACCESS_KEY_ID"),
        ({"secret_access_key": " "}, "SECRET_ACCESS_KEY"),
        ({"bucket": ""}, "BUCKET"),
    ],
)
def test_wrong_settings_are_named_at_the_start(settings: dict[str, Any], named: str) -> None:
    """Each setting that is missing or unsafe is refused before anything is sent."""
    with pytest.raises(ConfigError, match=f"POLYGON_FLAT_FILES_{named}"):
        make_source(**{"endpoint": "https://files.massive.com"} | settings)


def test_nobody_listening_is_a_passing_failure(script: Script) -> None:
    """An endpoint that cannot be reached leaves sessions pending."""
    script.stop()
    assert refusal(outcomes(make_source(script.url), SESSIONS[:1])[0]).state == "pending"
