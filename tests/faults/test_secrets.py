"""Secrets are planted, a whole day goes wrong in every way, and nothing that is left or said holds one of them.

Real processes as a person starts them, on a folder with SQLite and on S3 with PostgreSQL; servers that repeat what they are
sent; wrong keys, passwords and tokens. Then the same for objects and errors inside a process, and for the Lambda handlers.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

import pytest
from sqlalchemy import make_url

from condvest.app import App
from condvest.aws import daily_meta_fetcher, daily_ohlcv_fetcher, record_session
from condvest.config import load_settings, settings_table
from condvest.demo.market import NEW_YORK
from condvest.demo.standin import StandIn
from condvest.errors import CondvestError, ConfigError
from condvest.storage import layout, objects
from condvest.storage.opening import open_store
from condvest.storage.pacing import Patience
from condvest.storage.store import IF_ABSENT
from faults.echo import EchoingProvider, echoing_provider, refusing_server, unreadable_server
from faults.planted import (
    FLAT_SECRET,
    KEY,
    PASSWORD,
    TOKEN,
    WRONG_KEY,
    WRONG_PASSWORD,
    WRONG_SECRET,
    CommandLines,
    Search,
    forms,
)
from integration.jobs_kit import DAYS, market_of
from servers.postgres import PostgresServer
from servers.seaweed import SECRET_KEY, S3Server

DAY, NEXT = DAYS[:2]
SYMBOLS = ("AAPL", "BCpC", "IBM")
DENIED = (
    "<Error><Code>{code}</Code><AWSAccessKeyId>id</AWSAccessKeyId><Token-0>SENT</Token-0><Sent>{planted}</Sent></Error>"
)


def evening(session: date) -> datetime:
    """Return the instant of 16:05 in New York."""
    return datetime.combine(session, time(16, 5), tzinfo=NEW_YORK).astimezone(UTC)


class Person:
    """Starts commands as processes and keeps all that they say; the provider repeats every key that it is sent."""

    def __init__(self, folder: Path, provider: EchoingProvider, settings: Mapping[str, str]) -> None:
        """Work in a folder with some settings."""
        self.folder = folder
        self.search = Search(KEY, WRONG_KEY, PASSWORD, WRONG_PASSWORD, SECRET_KEY, WRONG_SECRET, TOKEN, FLAT_SECRET)
        self.said: list[str] = []
        self._settings = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "POLYGON_API_KEY": KEY,
            "POLYGON_BASE_URL": provider.url,
            "POLYGON_REQUESTS_PER_MINUTE": "0",
            "POLYGON_RETRY_SECONDS": "0",
            "POLYGON_FLAT_FILES_ACCESS_KEY_ID": "id",
            "POLYGON_FLAT_FILES_SECRET_ACCESS_KEY": FLAT_SECRET,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": WRONG_SECRET,
            "AWS_SESSION_TOKEN": TOKEN,
            "CONDVEST_FSYNC": "false",
            **settings,
        }

    def run(self, now: datetime, *words: str, code: int = 0, **settings: str) -> str:
        """Run a command at an instant, with other settings for this once ("": unset); return all that it said."""
        given = {**self._settings, "CONDVEST_NOW": now.isoformat(), **settings}
        done = subprocess.run(
            [sys.executable, "-m", "condvest", *words],
            cwd=self.folder,
            env=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "Traceback" not in said
        self.search.look(f"what `condvest {' '.join(words)}` says", said)
        return said


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A provider that knows three symbols, two rows a page, on the evening of the second session."""
    market = market_of(DAYS[:2], SYMBOLS)
    market.add_split("AAPL", DAY, 1, 2)
    market.raw_rows[DAY] = [{"T": "BAD", "o": 1, "h": 0, "l": 2, "c": 1, "v": 1, "t": 1}]
    with StandIn(market, now=lambda: evening(NEXT), api_key=KEY, page_size=2) as running:
        yield running


@pytest.fixture
def provider(standin: StandIn) -> Iterator[EchoingProvider]:
    """The same, repeating the key in all that it says."""
    with echoing_provider(standin) as made:
        yield made


def a_bad_day(person: Person, provider: EchoingProvider) -> None:
    """Fetch, merge and resample two sessions while all that has to do with the provider goes wrong once."""
    provider.refuse = 500
    assert "500: " in person.run(evening(DAY), "fetch", "bars", "--date", str(DAY), code=1)
    provider.refuse = None
    assert "POLYGON_API_KEY was refused" in person.run(evening(DAY), "fetch", "bars", code=2, POLYGON_API_KEY=WRONG_KEY)
    person.run(evening(DAY), "fetch", "bars")
    person.run(evening(NEXT), "--json", "run", "--details", "2")
    provider.refuse = 403
    person.run(evening(NEXT), "--json", "fetch", "meta", code=1)
    provider.refuse = None
    with refusing_server(403, DENIED.format(code="SignatureDoesNotMatch", planted=FLAT_SECRET)) as (url, addresses):
        words = ("fetch", "bars", "--date", str(DAY), "--source", "flat-files")
        assert "SignatureDoesNotMatch" in person.run(evening(NEXT), *words, code=2, POLYGON_FLAT_FILES_ENDPOINT=url)
        person.search.look("addresses of flat files", "\n".join(addresses))
    assert "run" in person.run(evening(NEXT), "status")


def check_lake(person: Person, lake: str, provider: EchoingProvider) -> None:
    """Look for secrets in every object and in every address that was asked for."""
    store = open_store(lake)
    assert person.search.look_at_objects(store) > 15
    kinds = [info.key for info in store.list("")]
    assert any(key.startswith(layout.QUARANTINE) for key in kinds)
    assert any(key.startswith(layout.landing_prefix("tickers")) for key in kinds)
    person.search.look("addresses", "\n".join(provider.addresses))
    assert any("cursor" in address for address in provider.addresses)


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    """A search that finds nothing proves something: it finds each form, packed, in a database and in an error's context."""
    for number, form in enumerate(sorted(forms(KEY))):
        search = Search(KEY)
        search.look(str(number), b"before " + form + b" behind")
        assert search.found
    store = open_store(str(tmp_path / "lake"))
    store.put("a/b", gzip.compress(KEY.encode()))
    search = Search(KEY)
    search.look_at_objects(store)
    assert [line.count("unpacked") for line in search.found] == [1]
    search = Search(KEY)
    try:
        try:
            raise ValueError(KEY)
        except ValueError:
            raise ConfigError("x") from None
    except ConfigError as error:
        search.look_at_error(error)
    assert search.found


def test_no_secret_shows_on_a_folder_with_sqlite(tmp_path: Path, provider: EchoingProvider) -> None:
    """Output, objects, ledger, files of the folder, addresses and command lines of a bad day hold no secret."""
    person = Person(tmp_path, provider, {"LAKE_URL": "lake"})
    with CommandLines() as lines:
        a_bad_day(person, provider)
    check_lake(person, str(tmp_path / "lake"), provider)
    person.search.look_at_files(tmp_path)
    assert person.search.look_at_database(f"sqlite:///{tmp_path}/lake/.condvest/state.sqlite") > 15
    person.search.look("command lines", b"\n".join(lines.seen))
    assert any(b"condvest" in line for line in lines.seen) or not Path("/proc/self/cmdline").exists()
    assert person.search.found == []


@pytest.mark.s3
@pytest.mark.postgres
def test_no_secret_shows_on_s3_with_postgresql(
    tmp_path: Path, provider: EchoingProvider, s3_server: S3Server, s3_url: str, postgres_server: PostgresServer
) -> None:
    """The same on servers, which refuse password, secret and token once each and repeat what they were sent."""
    role = PASSWORD.replace("'", "''")
    postgres_server.run(f"CREATE USER planted SUPERUSER PASSWORD '{role}'")
    with postgres_server.empty_database() as url:
        where = make_url(url).set(username="planted", password=PASSWORD)
        settings = {
            "LAKE_URL": s3_url,
            "RDS_HOST": str(where.host),
            "RDS_PORT": str(where.port),
            "RDS_DATABASE": str(where.database),
            "RDS_USER": "planted",
            "RDS_PASSWORD": PASSWORD,
            **s3_server.environment(),
            "AWS_SESSION_TOKEN": "",
        }
        person = Person(tmp_path, provider, settings)
        with CommandLines() as lines:
            assert "password authentication failed" in person.run(
                evening(DAY), "db", "upgrade", code=2, RDS_PASSWORD=WRONG_PASSWORD
            )
            person.run(evening(DAY), "db", "upgrade")
            refused_by_s3(person)
            a_bad_day(person, provider)
        check_lake(person, s3_url, provider)
        person.search.look_at_files(tmp_path)
        assert person.search.look_at_database(where.render_as_string(hide_password=False)) > 15
        person.search.look("command lines", b"\n".join(lines.seen))
    postgres_server.run("DROP USER planted")
    assert person.search.found == []


def refused_by_s3(person: Person) -> None:
    """Try a wrong secret, a token that does not belong to the key, and servers that refuse with all that they were sent."""
    words = ("fetch", "bars", "--date", str(DAY))
    assert "access refused" in person.run(evening(DAY), *words, code=2, AWS_SECRET_ACCESS_KEY=WRONG_SECRET)
    assert "access refused" in person.run(evening(DAY), *words, code=2, AWS_SESSION_TOKEN=TOKEN)
    said = DENIED.format(code="ExpiredToken", planted=WRONG_SECRET)
    with refusing_server(403, said) as (url, addresses):
        refused = person.run(evening(DAY), *words, code=2, AWS_ENDPOINT_URL=url, AWS_SESSION_TOKEN=TOKEN)
        assert "403 ExpiredToken" in refused
        person.search.look("addresses of S3", "\n".join(addresses))


# --- inside a process ---------------------------------------------------------------------------------------------


@pytest.fixture
def inside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, provider: EchoingProvider, caplog: pytest.LogCaptureFixture
) -> Iterator[Search]:
    """Planted settings in this process, with every logger of every library at its most talkative; the log is looked at."""
    for name in [*os.environ]:
        if name in {setting.name for setting in settings_table()} or name.startswith(("AWS_", "CONDVEST_", "MASSIVE_")):
            monkeypatch.delenv(name)
    given = {
        "LAKE_URL": str(tmp_path / "lake"),
        "POLYGON_API_KEY": KEY,
        "POLYGON_BASE_URL": provider.url,
        "POLYGON_REQUESTS_PER_MINUTE": "0",
        "POLYGON_RETRY_SECONDS": "0",
        "POLYGON_FLAT_FILES_ACCESS_KEY_ID": "id",
        "POLYGON_FLAT_FILES_SECRET_ACCESS_KEY": FLAT_SECRET,
        "AWS_REGION": "ca-west-1",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": WRONG_SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "CONDVEST_NOW": evening(DAY).isoformat(),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("condvest"), "propagate", True)
    search = Search(KEY, WRONG_KEY, PASSWORD, WRONG_PASSWORD, WRONG_SECRET, TOKEN, FLAT_SECRET)
    with caplog.at_level(logging.DEBUG):
        yield search
    search.look("the log at DEBUG", caplog.text)
    search.look("the records of the log", "\n".join(repr(vars(record)) for record in caplog.records))
    assert search.looked_at > 20
    assert search.found == []


def tried(search: Search, work: Callable[[], object]) -> CondvestError:
    """Do what must fail, look at the error and at all that it was raised from or during, and return it."""
    with pytest.raises(CondvestError) as caught:
        work()
    search.look_at_error(caught.value)
    return caught.value


def test_no_secret_shows_in_objects_and_errors_of_the_provider(inside: Search, provider: EchoingProvider) -> None:
    """Whatever the provider answers, neither the client nor an error's chain, shown or suppressed, holds the key."""
    with App(load_settings()) as app:
        source = app.source()
        for status in (400, 401, 403, 404, 429, 500, 200):
            provider.refuse = status
            tried(inside, lambda: source.fetch_range("AAPL", DAY, NEXT))
        provider.refuse = None
        body, parsed = source.fetch_range("AAPL", DAY, NEXT)
        splits, tickers = [*source.pages("splits")], [*source.pages("listed")]
        assert [sum(len(page.rows) for page in pages) for pages in (splits, tickers)] == [1, 3]
        inside.look_at(app, app.settings, source, body, parsed, splits, tickers, *source.fetch_sessions([DAY]))
        inside.look_at(load_settings().model_dump(), load_settings().model_dump_json())


def test_no_secret_shows_where_an_answer_is_no_http(inside: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTTP library quotes a header that it cannot read, and the server put the key there."""
    with unreadable_server() as url:
        monkeypatch.setenv("POLYGON_BASE_URL", url)
        with App(load_settings()) as app:
            error = tried(inside, lambda: [*app.source().pages("splits")])
            inside.look_at(app)
    assert "RemoteProtocolError" in str(error)


def test_no_secret_shows_in_objects_and_errors_of_s3(inside: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that repeats the token in a refusal, an outage and a body that is no XML: no part of the store holds it."""
    monkeypatch.setattr(objects, "_PATIENCE", Patience(tries=1))
    monkeypatch.setattr(objects, "_TRIES", 1)
    answers = [(403, "AccessDenied"), (400, "ExpiredToken"), (500, "InternalError"), (404, "NoSuchBucket"), (200, "x")]
    for status, code in answers:
        with refusing_server(status, DENIED.format(code=code, planted=WRONG_SECRET)) as (url, _):
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            with App(load_settings(), lake="s3://bucket/lake") as app:
                if status == 200:
                    tried(inside, lambda: app.store.put("b", b""))
                else:
                    tried(inside, lambda: list(app.store.list("")))
                    tried(inside, lambda: app.store.get("a"))
                    tried(inside, lambda: app.store.put("a", b""))
                    tried(inside, lambda: app.store.put("a", b"", when=IF_ABSENT))
                    tried(inside, lambda: app.store.delete_many(["a"]))
                inside.look_at(app, app.store, app.settings)


def test_no_secret_shows_in_objects_and_errors_of_flat_files(inside: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused or failing, with the secret in the answer: neither error nor client holds it."""
    for status, code in [(403, "SignatureDoesNotMatch"), (500, "InternalError"), (404, "NoSuchBucket")]:
        with refusing_server(status, DENIED.format(code=code, planted=FLAT_SECRET)) as (url, _):
            monkeypatch.setenv("POLYGON_FLAT_FILES_ENDPOINT", url)
            with App(load_settings()) as app:
                source = app.flat_files()
                inside.look_at(app, source)
                if status == 500:
                    inside.look_at(*source.fetch_sessions([DAY]))
                else:
                    tried(inside, lambda: list(source.fetch_sessions([DAY])))  # noqa: B023 - called at once


@pytest.fixture
def planted_database(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty database of a user with the planted password; settings name it, all but the password."""
    role = PASSWORD.replace("'", "''")
    postgres_server.run(f"CREATE USER planted SUPERUSER PASSWORD '{role}'")
    with postgres_server.empty_database() as url:
        where = make_url(url).set(username="planted", password=PASSWORD)
        for name, value in (("HOST", where.host), ("PORT", where.port), ("DATABASE", where.database)):
            monkeypatch.setenv(f"RDS_{name}", str(value))
        monkeypatch.setenv("RDS_USER", "planted")
        yield where.render_as_string(hide_password=False)
    postgres_server.run("DROP USER planted")


@pytest.mark.postgres
def test_no_secret_shows_in_objects_and_errors_of_postgresql(
    inside: Search, planted_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password, tables that are absent, TLS that is not there, a closed port: no error and no state holds a password."""
    monkeypatch.setenv("RDS_PASSWORD", WRONG_PASSWORD)
    with App(load_settings()) as app:
        assert "password authentication failed" in str(tried(inside, lambda: app.state))
        inside.look_at(app)
    monkeypatch.setenv("RDS_PASSWORD", PASSWORD)
    for name, value in (("RDS_SSLMODE", "require"), ("RDS_PORT", "1"), ("RDS_DATABASE", "none")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with App(load_settings()) as app:
                tried(inside, lambda: app.state)
    with App(load_settings()) as app:
        assert "db upgrade" in str(tried(inside, lambda: app.state))
        with app.open_state(migrate=True) as state:
            inside.look_at(app, state)
            tried(inside, lambda: state.finish_run(99, "done", counts={}, now=app.now()))


# --- the Lambda handlers ------------------------------------------------------------------------------------------


@dataclass
class Context:
    """Lambda's context, with time enough."""

    aws_request_id: str = "run-1"

    def get_remaining_time_in_millis(self) -> int:
        """Return the time that is left, in milliseconds."""
        return 900_000


@contextmanager
def secret_of(monkeypatch: pytest.MonkeyPatch, value: str, *, status: int = 200) -> Iterator[None]:
    """Run a Secrets Manager that knows one secret, for the length of a block."""
    body = json.dumps(
        {"Name": "s", "SecretString": value, "__type": "AccessDeniedException", "message": f"{value} SENT"}
    )
    with refusing_server(status, body) as (url, _), monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        yield


def test_no_secret_shows_on_lambda_that_fetches(
    inside: Search, provider: EchoingProvider, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key is read from Secrets Manager: no log, metric, answer or error of the fetchers holds it, nor what landed."""
    monkeypatch.delenv("POLYGON_API_KEY")
    monkeypatch.setenv("POLYGON_API_KEY_SECRET_ARN", "arn:aws:secretsmanager:ca-west-1:1:secret:key")
    event = {"date": str(DAY)}
    with secret_of(monkeypatch, KEY, status=400):
        assert "cannot be read" in str(tried(inside, lambda: daily_ohlcv_fetcher.lambda_handler(event, Context())))
    with secret_of(monkeypatch, WRONG_KEY):
        assert "was refused" in str(tried(inside, lambda: daily_ohlcv_fetcher.lambda_handler(event, Context())))
    with secret_of(monkeypatch, json.dumps({"POLYGON_API_KEY": KEY})):
        provider.refuse = 500
        tried(inside, lambda: daily_ohlcv_fetcher.lambda_handler(event, Context()))
        tried(inside, lambda: daily_meta_fetcher.lambda_handler({}, Context()))
        provider.refuse = None
        inside.look("answer", json.dumps(daily_ohlcv_fetcher.lambda_handler(event, Context())))
        inside.look("answer", json.dumps(daily_meta_fetcher.lambda_handler({"details": ["AAPL"]}, Context())))
    said = capsys.readouterr()
    assert '"message":"failed"' in said.out
    inside.look("the function's log", said.out + said.err)
    assert inside.look_at_objects(open_store(os.environ["LAKE_URL"])) > 5


@pytest.mark.postgres
def test_no_secret_shows_on_lambda_that_records(
    inside: Search, planted_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The password is read from Secrets Manager: right or wrong, it shows nowhere, nor in any row of the database."""
    monkeypatch.setenv("RDS_SECRET_ARN", "arn:aws:secretsmanager:ca-west-1:1:secret:rds")
    with secret_of(monkeypatch, json.dumps({"username": "planted", "password": WRONG_PASSWORD})):
        error = tried(inside, lambda: record_session.lambda_handler({"mode": "upgrade"}, Context()))
        assert "password authentication failed" in str(error)
    with secret_of(monkeypatch, f'{{"username": "planted", "password": "{PASSWORD}'):  # cut short
        assert "no password" in str(tried(inside, lambda: record_session.lambda_handler({"mode": "status"}, Context())))
    with secret_of(monkeypatch, json.dumps({"username": "planted", "password": PASSWORD})):
        for event in ({"mode": "upgrade"}, {"mode": "plan", "request": {"date": str(DAY)}}, {"mode": "status"}):
            inside.look("answer", json.dumps(record_session.lambda_handler(event, Context())))
    said = capsys.readouterr()
    inside.look("the function's log", said.out + said.err)
    inside.look_at_database(planted_database)
