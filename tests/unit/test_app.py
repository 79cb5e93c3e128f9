"""Wiring: which lake, state, source and clock settings give, and what is said when they do not fit."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from condvest.app import App, zones
from condvest.app.lists import read_intervals
from condvest.app.runs import plain, run_job
from condvest.aws.events import plan_as_json, refused_as_json
from condvest.config import load_settings, settings_table
from condvest.domain.ledger import LedgerRow
from condvest.domain.records import Traffic
from condvest.errors import CondvestError, ConfigError, TransientError
from condvest.jobs import fetch_bars
from condvest.jobs.fetch_report import FetchReport
from condvest.jobs.vacuum import VacuumReport
from condvest.storage import layout

NOW = datetime(2025, 11, 22, 18, tzinfo=UTC)
Make = Callable[..., App]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """Make an App from settings given by name, in an empty folder."""
    for name in [*os.environ]:
        if name in {setting.name for setting in settings_table()} or name.startswith(("CONDVEST_", "MASSIVE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def make(*, lake: str | None = None, now: datetime | None = NOW, **settings: str) -> App:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        return App(load_settings(), lake=lake, now=now)

    return make


def test_state_of_a_folder_lake_lies_in_it(made: Make, tmp_path: Path) -> None:
    """The state moves with the folder, and a listing of the lake never shows it."""
    with made(lake="my lake?#%41") as app:
        app.state.expect([date(2025, 11, 20)], now=NOW)
        assert (tmp_path / "my lake?#%41" / ".condvest" / "state.sqlite").is_file()
        assert list(app.store.list("")) == []


def test_state_of_a_lake_on_s3_lies_in_the_users_folder(made: Make, tmp_path: Path) -> None:
    """One file a lake and server; looking whether it is there makes no folder."""
    places = set()
    for lake, endpoint in (("s3://a", ""), ("s3://a/b", ""), ("s3://a", "http://127.0.0.1:1")):
        with made(lake=lake, AWS_ENDPOINT_URL=endpoint) as app:
            path = app.sqlite_path()
            assert path.is_relative_to(tmp_path / "state" / "condvest")
            places.add(path)
    assert len(places) == 3
    assert not (tmp_path / "state").exists()


def test_state_of_a_lake_in_memory_ends_with_it(made: Make) -> None:
    """A ledger that outlives its lake would speak of bars that are gone."""
    with made(lake="memory://test-app") as app:
        assert app.is_new()
        app.state.expect([date(2025, 11, 20)], now=NOW)
        path = app.sqlite_path()
        assert path.exists()
        assert not app.is_new()
    assert not path.exists()


def test_a_lake_that_is_not_there_is_not_made_by_looking(made: Make, tmp_path: Path) -> None:
    """A mistyped path is told, and stays absent."""
    with made(lake="no/such/lake") as app, pytest.raises(ConfigError, match=r"no lake at .*--from"):
        app.require_lake()
    assert list(tmp_path.iterdir()) == []


def test_an_object_or_a_ledger_makes_a_lake(made: Make) -> None:
    """A lake of which nothing but the ledger is there yet is one: its sessions are pending."""
    with made(lake="one") as app:
        app.store.put(layout.MANIFEST, b"x")
        app.require_lake()
    with made(lake="two") as app:
        app.state.expect([date(2025, 11, 20)], now=NOW)
        app.require_lake()


@pytest.mark.postgres
def test_state_on_postgresql(made: Make, postgres_url: str) -> None:
    """RDS_* lead to PostgreSQL; its tables are made by `db upgrade` alone, which may be run again."""
    from sqlalchemy import make_url

    from condvest.app.commands import upgrade_state

    url = make_url(postgres_url)
    settings = {
        "RDS_HOST": url.host or "",
        "RDS_PORT": str(url.port),
        "RDS_DATABASE": url.database or "",
        "RDS_USER": url.username or "",
        "RDS_PASSWORD": url.password or "",
    }
    with made(lake="lake", **settings) as app, pytest.raises(ConfigError, match="condvest db upgrade"):
        app.is_new()
    with made(lake="lake") as app:
        shown = upgrade_state(app)
        assert shown == upgrade_state(app)
        assert (url.password or "-") not in shown.replace(url.host or "", "")
        assert app.is_new()
        app.state.expect([date(2025, 11, 20)], now=NOW)
        app.require_lake()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"RDS_HOST": "db"}, "RDS_DATABASE is not set"),
        ({"RDS_HOST": "db", "RDS_DATABASE": "d"}, "RDS_USER is not set"),
        ({"RDS_HOST": "db", "RDS_SECRET_ARN": "arn:x"}, "read on AWS only"),
        (
            {"RDS_HOST": "db", "RDS_DATABASE": "d", "RDS_USER": "u", "RDS_SECRET_ARN": "arn:x"},
            "RDS_PASSWORD .*AWS only",
        ),
    ],
)
def test_half_a_database_is_told(made: Make, settings: dict[str, str], said: str) -> None:
    """What is missing is named, and that an ARN serves on AWS only."""
    with made(lake="lake", **settings) as app, pytest.raises(ConfigError, match=said):
        app.state  # noqa: B018 - the property opens it


def test_the_address_of_the_database_carries_its_security(made: Make) -> None:
    """The mode of TLS and the certificate reach libpq, and special characters of a password survive."""
    from sqlalchemy import make_url

    settings = {"RDS_DATABASE": "d", "RDS_USER": "u", "RDS_PASSWORD": "p@:/%?", "RDS_CA_FILE": "system"}
    with made(lake="lake", RDS_HOST="db.example.com", **settings) as app:
        url = make_url(app.state_url())
    assert (url.password, url.port) == ("p@:/%?", 5432)
    assert dict(url.query) == {"sslmode": "verify-full", "sslrootcert": "system"}


def test_a_database_may_be_reached_by_a_socket(made: Make) -> None:
    """As libpq has it, RDS_HOST is the socket's folder then; the database stays what RDS_DATABASE says."""
    from sqlalchemy import make_url

    with made(lake="lake", RDS_HOST="/run/postgresql", RDS_DATABASE="d", RDS_USER="u") as app:
        url = make_url(app.state_url())
    assert (url.query["host"], url.port, url.database, url.host or "") == ("/run/postgresql", 5432, "d", "")


@pytest.mark.parametrize(
    ("text", "symbols"),
    [("AAPL, BCpC", {"AAPL", "BCpC"}), ("./u.txt", {"AAPL", "BRK.B", "IBM"}), ("u.txt", {"AAPL", "BRK.B", "IBM"})],
)
def test_the_universe_is_a_list_or_a_file(made: Make, tmp_path: Path, text: str, symbols: set[str]) -> None:
    """A file has symbols on lines or between commas, and comments."""
    (tmp_path / "u.txt").write_text("# mine\nAAPL, BRK.B,\n\nIBM\n")
    with made(lake="lake", CONDVEST_UNIVERSE=text) as app:
        assert app.universe == frozenset(symbols)
        assert app.limited("AAPL") == ["AAPL"]
        with pytest.raises(ConfigError, match="ZZZ is not in CONDVEST_UNIVERSE"):
            app.limited("ZZZ")
    with made(lake="lake", CONDVEST_UNIVERSE="") as app:
        assert app.universe is None
        assert app.limited("ZZZ,ZZZ") == ["ZZZ"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("AAPL,,IBM", "CONDVEST_UNIVERSE: symbol ''"),
        ("no/such.txt", "cannot be read"),
        ("empty.txt", "names no symbol"),
        ("binary.csv", "not UTF-8"),
        ("AA PL", "symbol 'AA PL'"),
    ],
)
def test_a_universe_that_cannot_be_is_told(made: Make, tmp_path: Path, text: str, said: str) -> None:
    """A universe is never taken for empty, which would mean all symbols or none."""
    (tmp_path / "empty.txt").write_text("# none\n\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with made(lake="lake", CONDVEST_UNIVERSE=text) as app, pytest.raises(ConfigError, match=said) as caught:
        app.universe  # noqa: B018 - the property reads it
    assert str(caught.value).startswith("CONDVEST_UNIVERSE")


def test_intervals_are_those_of_silver(made: Make) -> None:
    """RESAMPLING_INTERVALS takes some of the six, in any order, once each."""
    with made(lake="lake", RESAMPLING_INTERVALS=" 34, 3,3") as app:
        assert app.intervals == [3, 34]
    for text in ("", "7", "3;5", "3,", "-3", "3.0"):
        with pytest.raises(ConfigError, match="--intervals holds"):
            read_intervals(text, name="--intervals")


def test_sources_need_their_keys(made: Make) -> None:
    """The missing setting is named; one that is read on AWS only is told to be no help here."""
    with made(lake="lake") as app:
        with pytest.raises(ConfigError, match="POLYGON_API_KEY is not set"):
            app.source()
        with pytest.raises(ConfigError, match="POLYGON_FLAT_FILES_ACCESS_KEY_ID is not set"):
            app.flat_files()
    with made(lake="lake", POLYGON_API_KEY_SECRET_ARN="arn:x") as app, pytest.raises(ConfigError, match="AWS only"):
        app.source()
    keys = {"POLYGON_FLAT_FILES_ACCESS_KEY_ID": "a", "POLYGON_FLAT_FILES_SECRET_ACCESS_KEY": "b"}
    with made(lake="lake", POLYGON_API_KEY="k", **keys) as app:
        assert (app.source().kind, app.flat_files().kind) == ("grouped", "flat_files")
        assert app.requests == 0


def test_keys_of_the_file_reach_the_client_library(made: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It looks in the environment alone; keys that are there already are never mixed with others."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    (tmp_path / ".env").write_text("AWS_ACCESS_KEY_ID=file\nAWS_SECRET_ACCESS_KEY=file-secret\n")
    settings = load_settings()
    App(settings, lake="s3://bucket").store  # noqa: B018 - the property opens it
    assert (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]) == ("file", "file-secret")
    os.environ.update({"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "my-secret"})
    App(settings, lake="s3://bucket").store  # noqa: B018 - likewise
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "my-secret"


def test_the_clock_is_fixed_or_real(made: Make) -> None:
    """`now` given wins over CONDVEST_NOW, which wins over the clock; all are aware."""
    with made(now=None) as app:
        assert abs((datetime.now(UTC) - app.now()).total_seconds()) < 60
    with made(now=None, CONDVEST_NOW="2020-01-01T00:00:00Z") as app:
        assert app.now() == datetime(2020, 1, 1, tzinfo=UTC)
    with made() as app:
        assert app.now() == NOW


def test_a_recorded_closure_is_no_session(made: Make) -> None:
    """Closures in the lake win over the shipped calendar, and reach the calendar when asked for anew."""
    from condvest.app.commands import closures

    day = date(2026, 6, 2)
    with made(lake="lake") as app:
        app.store.put(layout.MANIFEST, b"x")
        assert app.calendar.is_session(day)
        assert closures(app, add=[day]) == [day]
        assert not app.read_calendar().is_session(day)
        with pytest.raises(ConfigError, match="outside the calendar"):
            closures(app, add=[date(1900, 1, 1)])
        assert closures(app) == [day]


def test_a_run_is_recorded_whatever_came_of_it(made: Make) -> None:
    """Done, nothing new, partial and failed runs stand in the record, with what they cost.

    What was asked before the first of them counts to it, and nothing counts twice: the runs add up to all there was.
    """
    with made(lake="lake") as app:
        app.store.put(layout.MANIFEST, b"x")

        def writing() -> VacuumReport:
            app.store.put("silver/x", b"12")
            return VacuumReport(False, files_removed=1, removed=[str(number) for number in range(50)])

        def failing(error: BaseException) -> VacuumReport:
            raise error

        results = [
            run_job(app, "a", {"symbols": None}, writing),
            run_job(app, "b", {}, lambda: VacuumReport(False)),
            run_job(app, "c", {}, lambda: VacuumReport(False, left=["x: why"])),
        ]
        assert [result.outcome for result in results] == ["done", "nothing_new", "partial"]
        assert [result.exit_code for result in results] == [0, 0, 1]
        assert (results[0].traffic.puts, results[0].traffic.bytes_out) == (2, 3)
        assert results[1].traffic == results[2].traffic == Traffic()
        for error in (TransientError("no answer"), KeyboardInterrupt(), ValueError("s3cr3t")):
            next(iter(app.store.list("silver/")))
            with pytest.raises(type(error)):
                run_job(app, "d", {}, lambda error=error: failing(error))  # type: ignore[misc]  # bound early
        assert app.traffic == Traffic(puts=2, bytes_out=3, lists=3)
        runs = app.state.recent_runs(10)[::-1]
    assert [run.outcome for run in runs] == ["done", "nothing_new", "partial", "failed", "failed", "failed"]
    assert [run.traffic for run in runs[:3]] == [result.traffic for result in results]
    assert [run.traffic for run in runs[3:]] == [Traffic(lists=1)] * 3
    assert runs[0].counts["removed"] == 50
    assert [run.error for run in runs[2:]] == ["1 left, first: x: why", "no answer", "KeyboardInterrupt", "ValueError"]


def test_values_become_plain() -> None:
    """What JSON does not know becomes text, the same on each run."""
    row = LedgerRow(session_date=date(2025, 1, 2), state="final", fetched_at=NOW)
    assert plain(row)["fetched_at"] == NOW.isoformat()
    assert plain({date(2025, 1, 2): {3, 1}, 5: (None, 1.5, True)}) == {"2025-01-02": [1, 3], "5": [None, 1.5, True]}
    assert plain(CondvestError("x")) == "x"


def test_another_fetch_is_waited_for_no_longer_than_the_deadline(made: Make, tmp_path: Path) -> None:
    """A function of 15 minutes says that a fetch is under way, and is not ended in the midst of half an hour's wait."""
    with made(lake=str(tmp_path / "lake")) as other:
        held, done = threading.Event(), threading.Event()

        def fetch() -> None:
            with other.state.exclusive():
                held.set()
                done.wait(5)

        thread = threading.Thread(target=fetch)
        thread.start()
        held.wait(5)
        with (
            App(other.settings, lake=other.lake_url, now=NOW, deadline=time.monotonic() + 0.2) as app,
            pytest.raises(TransientError, match="another fetch into this lake is under way"),
        ):
            zones.record(app)
        done.set()
        thread.join()


def test_what_a_planned_fetch_tells_fits_into_an_event(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much the provider says of each session: above 256 KiB the execution ends at once, and nothing catches it."""
    with made(lake="memory:", POLYGON_API_KEY="key") as app:
        days = app.calendar.sessions(date(2020, 1, 2), date(2025, 11, 20))[: zones.PLANNED_SESSIONS]
        report = FetchReport(pending=dict.fromkeys(days[:-1], "no " * 2000), remaining=[days[-1]])
        monkeypatch.setattr(fetch_bars, "fetch_bars", lambda *_, **__: report)
        rows = [LedgerRow(session_date=day, state="missing") for day in days]
        fetched = zones.fetch_planned(app, zones.FetchPlan(sessions=days, ledger=rows))
    assert fetched.again is not None
    told = json.dumps({"again": plan_as_json(fetched.again), "refused": refused_as_json(fetched.refused)})
    assert len(fetched.refused) == len(days) - 1
    assert len(told) < 256 * 1024
