"""Fixtures that several suites share: real servers, started when the first test asks for them."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from condvest.state import State
from condvest.storage.opening import open_store
from condvest.storage.store import Store
from servers.postgres import PostgresServer, running_postgres_server
from servers.seaweed import BUCKET, S3Server, running_s3_server

# Before any module is collected that uses it, so that its asserts explain themselves.
pytest.register_assert_rewrite("integration.jobs_kit")

# A shell lets what it starts in the background ignore Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_S3 = pytest.param("s3", marks=pytest.mark.s3)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server, one for each process of tests."""
    with running_postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty database on a real PostgreSQL server, password included."""
    with postgres_server.empty_database() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty state database: each test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/state.sqlite"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def state(state_url: str) -> Iterator[State]:
    """An open, empty state database."""
    with State.open(state_url, migrate=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server, one for each process of tests."""
    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty lake on a real S3 server; the environment says how to reach it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(params=["folder", _S3])
def lake_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty lake: each test runs on a folder and on S3."""
    if request.param == "folder":
        return str(tmp_path / "lake")
    url: str = request.getfixturevalue("s3_url")
    return url


@pytest.fixture(params=["folder", _S3, "memory"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store: each test runs on a folder, on S3 and in memory."""
    if request.param == "folder":
        return str(tmp_path / "lake")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    url: str = request.getfixturevalue("s3_url")
    return url


@pytest.fixture
def store(store_url: str) -> Store:
    """An open, empty store of each kind."""
    return open_store(store_url)
