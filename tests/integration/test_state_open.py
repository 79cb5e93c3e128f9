"""Opening a state database: addresses, versions, and what each failure is called. No message holds a password."""

from __future__ import annotations

import os
import socket
import traceback
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, inspect, text

from condvest.errors import CondvestError, ConfigError, DataError, TransientError
from condvest.state import State
from condvest.state.engine import Database
from servers.postgres import PASSWORD, PostgresServer


def failure(url: str, *, migrate: bool = True) -> CondvestError:
    """Return the error of opening `url`, having looked for the password in all that would be printed of it."""
    with pytest.raises(CondvestError) as caught:
        State.open(url, migrate=migrate, lock_timeout_seconds=1)
    printed = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in printed
    assert "p%40ss" not in printed
    assert "\n" not in str(caught.value)
    return caught.value


def run(url: str, statement: str) -> None:
    """Run one statement, past the state's own API."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_a_sqlite_file_is_made_with_its_folder(tmp_path: Path) -> None:
    """Nobody has to prepare anything on a laptop; opening again finds the same file, whose folder holds nothing else."""
    path = tmp_path / "100%41 new?x=1#ü" / "deep" / "state.sqlite"
    url = URL.create("sqlite", database=str(path)).render_as_string()
    for _ in range(2):
        with State.open(url, migrate=False) as state:
            assert state.url_shown == f"sqlite:///{path}"
            assert state.ledger_is_empty()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.sqlite"]


def test_a_sqlite_file_is_on_the_disk_with_the_way_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New folders are synced in the ones above before the ledger is made, and a commit waits for file and journal."""
    synced: list[int] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        assert not path.exists()
        fsync(handle)

    path = tmp_path / "new" / "deep" / "state.sqlite"
    monkeypatch.setattr(os, "fsync", noted)
    database = Database(f"sqlite:///{path}", lock_timeout_seconds=1)
    assert synced == [(tmp_path / "new").stat().st_ino, tmp_path.stat().st_ino]
    with database.read() as connection:
        found = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("synchronous", "journal_mode")]
    assert found == [3, "delete"]  # 3 is EXTRA
    database.close()


@pytest.mark.postgres
def test_postgresql_is_migrated_only_when_told(postgres_url: str) -> None:
    """A server is shared: its tables change on `condvest db upgrade`, not by the way."""
    error = failure(postgres_url, migrate=False)
    assert isinstance(error, ConfigError)
    assert "version none" in str(error)
    assert "run `condvest db upgrade`" in str(error)
    with State.open(postgres_url, migrate=True) as state:
        state.upgrade()
    with State.open(postgres_url.replace("postgresql+psycopg", "postgres"), migrate=False) as state:
        assert state.ledger_is_empty()
        assert PASSWORD not in repr(state) + state.url_shown
        assert "***" in repr(state)


def test_tables_of_a_newer_version_are_left_alone(state: State, state_url: str) -> None:
    """An older condvest does not touch what a newer one made."""
    run(state_url, "UPDATE alembic_version SET version_num = '9999'")
    error = failure(state_url)
    assert isinstance(error, ConfigError)
    assert "is at version 9999" in str(error)
    assert "update condvest" in str(error)


def test_tables_that_are_gone_are_named(state: State, state_url: str) -> None:
    """Someone dropped a table: the error says what is missing and what to run."""
    run(state_url, "DROP TABLE session_ledger")
    with pytest.raises(ConfigError, match=r"session_ledger.*db upgrade"):
        state.sessions()


@pytest.mark.parametrize(
    "url",
    [
        "no address, p@ss/word: 100%",
        "mysql://condvest:p%40ss%2Fword%3A 100%25@127.0.0.1/condvest",
        "postgresql+psycopg2://condvest:p%40ss%2Fword%3A 100%25@127.0.0.1/condvest",
        "postgresql://condvest:p@ss/word: 100%@127.0.0.1:5432/condvest",
        "sqlite://",
        "postgresql://condvest:p@ss@127.0.0.1/condvest",
        "sqlite:////tmp/a?b",
        "sqlite:///:memory:",
    ],
)
def test_an_address_that_cannot_serve_is_refused_at_once(url: str) -> None:
    """What is no address, another database or one without a file is a wrong setting; a password in it is not repeated."""
    assert isinstance(failure(url), ConfigError)


def test_a_sqlite_path_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path) -> None:
    """A folder in place of the file, or a file in place of the folder."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "state.sqlite"):
        assert isinstance(failure(f"sqlite:///{path}"), ConfigError)


def test_a_corrupt_sqlite_file_is_reported_and_kept(tmp_path: Path) -> None:
    """The error says that the ledger can be rebuilt; the file stays as it is."""
    path = tmp_path / "state.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    error = failure(f"sqlite:///{path}")
    assert isinstance(error, DataError)
    assert "rebuilt from the lake" in str(error)
    assert path.read_bytes().startswith(b"not a database")


def test_a_migration_that_fails_leaves_nothing_of_it(state_url: str) -> None:
    """The last table of the first step is there already: none of the others is made, no version is recorded."""
    if state_url.startswith("sqlite"):
        Path(state_url.removeprefix("sqlite:///")).parent.mkdir()
    run(state_url, "CREATE TABLE batch_jobs (id INTEGER)")
    error = failure(state_url)
    assert isinstance(error, ConfigError)
    assert "batch_jobs" in str(error)
    engine = create_engine(state_url)
    assert inspect(engine).get_table_names() == ["batch_jobs"]
    engine.dispose()


@pytest.mark.postgres
def test_a_server_that_is_not_there_may_come_back(postgres_server: PostgresServer) -> None:
    """A closed port, an unknown host: may be tried again."""
    url = postgres_server.url("postgres")
    for gone in (url.replace(f":{postgres_server.port}/", ":1/"), url.replace("127.0.0.1", "no-such-host.invalid")):
        error = failure(gone)
        assert isinstance(error, TransientError)
        assert "is not reachable" in str(error)


@pytest.mark.postgres
def test_a_server_that_refuses_is_a_wrong_setting(postgres_server: PostgresServer) -> None:
    """Wrong password, unknown user, database, option: another try would not help."""
    server = postgres_server
    urls = [
        server.url("postgres", password="wrong"),
        server.url("postgres", user="nobody"),
        server.url("none"),
        server.url("postgres") + "?sslmode=require",
        server.url("postgres") + "?sslmode=perhaps",
    ]
    for url in urls:
        error = failure(url)
        assert isinstance(error, ConfigError), error
        assert "refuse" in str(error)


@pytest.mark.postgres
def test_a_user_without_rights_is_told_so(postgres_server: PostgresServer, postgres_url: str) -> None:
    """Permission denied is a matter of settings, with the server's code for it."""
    State.open(postgres_url, migrate=True).close()
    postgres_server.run(f"CREATE USER reader PASSWORD '{PASSWORD}'")
    url = postgres_url.replace("//condvest:", "//reader:")
    error = failure(url)
    assert isinstance(error, ConfigError)
    assert "42501" in str(error)


@pytest.mark.postgres
def test_settings_of_a_server_do_not_matter(postgres_server: PostgresServer) -> None:
    """A server without an encoding (`initdb --locale=C`), and one that writes dates as they are written in Germany."""
    now = datetime(2025, 11, 4, 12, tzinfo=UTC)
    encoding = "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    postgres_server.run(f"CREATE DATABASE odd {encoding}")
    postgres_server.run("ALTER DATABASE odd SET DateStyle = 'German'")
    postgres_server.run("ALTER DATABASE odd SET client_encoding = 'LATIN1'")
    with State.open(postgres_server.url("odd"), migrate=True) as state:
        state.record([], watermarks={"AAPL": date(2025, 11, 3)}, reason="fetch", now=now)
        state.start_run("fetch bars", {"note": "ä日"}, now)
        (run,) = state.recent_runs(1)
        assert (run.started_at, run.arguments) == (now, {"note": "ä日"})
        assert state.symbol_watermarks() == {"AAPL": date(2025, 11, 3)}
    postgres_server.run("DROP DATABASE odd WITH (FORCE)")


@pytest.mark.postgres
def test_a_server_that_takes_no_writes_may_take_them_again(postgres_server: PostgresServer, postgres_url: str) -> None:
    """A standby does so until it takes over: no right or version is wrong."""
    with State.open(postgres_url, migrate=True):
        pass
    name = postgres_url.rpartition("/")[2].partition("?")[0]
    postgres_server.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with State.open(postgres_url, migrate=False) as state, pytest.raises(TransientError, match=r"25006\); try again"):
        state.start_run("verify", {}, datetime(2025, 11, 4, tzinfo=UTC))


@pytest.mark.postgres
def test_both_ends_of_a_connection_notice_that_the_other_is_gone(postgres_url: str) -> None:
    """Within minutes, not hours: else a run hangs, and the lock of a machine that is gone keeps all others out."""
    database = Database(postgres_url, lock_timeout_seconds=1)
    with database.read() as connection:
        server = connection.execute(text("SHOW tcp_keepalives_idle")).scalar()
        driver: Any = connection.connection.driver_connection
        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            client = [
                line.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            ]
    assert (server, client) == ("60", [60, 15, 4, 120_000])
    database.close()


@pytest.mark.postgres
def test_a_connection_that_the_server_ended_is_replaced(postgres_server: PostgresServer, postgres_url: str) -> None:
    """A server that restarted between two calls is not even noticed; within a call it is a passing failure."""
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'condvest'"
    with State.open(postgres_url, migrate=True) as state:
        postgres_server.run(end)
        assert state.ledger_is_empty()
    database = Database(postgres_url, lock_timeout_seconds=1)

    def ended_amid() -> None:
        with database.write() as connection:
            postgres_server.run(end)
            connection.execute(text("SELECT 1"))

    with pytest.raises(TransientError, match="try again"):
        ended_amid()
    database.close()
