"""Settings become a store, a state database, a calendar, a source and a clock; each is made when first asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
import time
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from condvest.app.lists import read_intervals, read_symbols
from condvest.app.run_log import RunLog, Unrecorded
from condvest.config import Settings
from condvest.domain.calendar import Calendar
from condvest.domain.records import Traffic
from condvest.domain.symbols import parse_symbols
from condvest.errors import ConfigError
from condvest.log import event, warn
from condvest.storage import layout
from condvest.storage.closures import read_closures
from condvest.storage.folder import FolderStore
from condvest.storage.opening import holds_a_lake, open_store
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.sources.flat_files import FlatFileSource
    from condvest.sources.polygon import PolygonSource
    from condvest.sources.retry import RetryPolicy
    from condvest.state import State

_AWS_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


class App:
    """One lake with all that belongs to it. Use it in a `with` block, or `close` it."""

    def __init__(
        self,
        settings: Settings,
        *,
        lake: str | None = None,
        now: datetime | None = None,
        records_runs: bool = True,
        deadline: float | None = None,
    ) -> None:
        """Take settings; `lake` and `now` (aware) win over them. Nothing is opened yet.

        Without `records_runs` jobs do not open the state database to record that they ran. `deadline`: until when, on the
        clock of `time.monotonic`, the provider and another fetch may be waited for (None: as long as the settings say).
        """
        self.settings = settings
        self._records_runs = records_runs
        self._deadline = deadline
        self.lake_url = settings.lake if lake is None else lake
        self._now = settings.now if now is None else now
        self._sources: list[PolygonSource | FlatFileSource] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._recorded = Traffic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the state database and the sources that were opened. May be called twice."""
        if "state" in self.__dict__:
            self.state.close()
        for source in self._sources:
            if source.kind == "grouped":
                source.close()
        self._sources.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def now(self) -> datetime:
        """Return the instant that counts as now (aware): a fixed one where that is set, else the clock's."""
        return self._now or datetime.now(UTC)

    @property
    def requests(self) -> int:
        """How many requests went to the provider so far."""
        return sum(source.requests for source in self._sources)

    @property
    def provider_bytes(self) -> int:
        """How many bytes of bodies came from the provider so far, as transferred."""
        return sum(source.bytes_in for source in self._sources)

    @property
    def traffic(self) -> Traffic:
        """What was asked of the provider and of the store so far."""
        opened = dataclasses.asdict(self.store.meter.snapshot()) if "store" in self.__dict__ else {}
        return Traffic(requests=self.requests, **opened)

    def take_traffic(self) -> Traffic:
        """Return what was asked since the last call: each request belongs to one run, those before its job begins too."""
        asked, before = self.traffic, self._recorded
        self._recorded = asked
        return asked - before

    @cached_property
    def store(self) -> Store:
        """The lake's objects."""
        if self.lake_url.startswith("s3://"):
            self._hand_over_keys()
        settings = self.settings
        store = open_store(
            self.lake_url,
            region=settings.aws_region,
            endpoint_url=settings.aws_endpoint_url,
            concurrency=settings.condvest_concurrency,
            fsync=settings.condvest_fsync,
        )
        if isinstance(store, FolderStore) and not settings.condvest_fsync:
            warn(
                "not_durable", setting="CONDVEST_FSYNC=false", lake=store.url, effect="a power failure may lose writes"
            )
        return store

    @cached_property
    def state(self) -> State:
        """The state database, opened; SQLite is made and migrated by itself, PostgreSQL by `condvest db upgrade`."""
        return self.open_state(migrate=False)

    def open_state(self, *, migrate: bool) -> State:
        """Open the state database; the caller closes it. ConfigError: see `State.open`."""
        from condvest.state import State

        return State.open(self.state_url(), migrate=migrate)

    def fetch_wait_seconds(self) -> float:
        """Return how long another fetch may be waited for: half an hour, and never beyond the deadline."""
        from condvest.state.database import FETCH_WAIT_SECONDS

        if self._deadline is None:
            return FETCH_WAIT_SECONDS
        return min(FETCH_WAIT_SECONDS, max(0.0, round(self._deadline - time.monotonic(), 3)))

    @property
    def runs(self) -> RunLog:
        """Where runs are recorded."""
        return self.state if self._records_runs else Unrecorded()

    @cached_property
    def calendar(self) -> Calendar:
        """The shipped calendar less the closures that are recorded in the lake, as it was when first asked for."""
        return self.read_calendar()

    def read_calendar(self) -> Calendar:
        """Return the calendar as the lake has it now: a job may have recorded a closure meanwhile."""
        return Calendar.shipped(read_closures(self.store))

    @cached_property
    def universe(self) -> frozenset[str] | None:
        """The symbols that the lake is limited to (CONDVEST_UNIVERSE); None: all."""
        text = self.settings.condvest_universe
        return None if text is None else frozenset(read_symbols(text, name="CONDVEST_UNIVERSE"))

    @cached_property
    def intervals(self) -> list[int]:
        """The intervals that silver holds (RESAMPLING_INTERVALS), ascending."""
        return read_intervals(self.settings.resampling_intervals, name="RESAMPLING_INTERVALS")

    def limited(self, text: str, *, name: str = "--symbols") -> list[str]:
        """Return the symbols of an option such as `AAPL,BRK.B`; ConfigError, naming it, for one outside the universe."""
        try:
            symbols = parse_symbols(text)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
        strange = sorted(set(symbols) - self.universe) if self.universe is not None else []
        if strange:
            raise ConfigError(
                f"{name}: {strange[0]} is not in CONDVEST_UNIVERSE, which limits this lake; add it there, or leave it out"
            )
        return symbols

    def source(self) -> PolygonSource:
        """Return a new client of the provider's REST API; ConfigError without a key."""
        from condvest.sources.polygon import PolygonSource

        settings = self.settings
        if settings.polygon_api_key is None:
            raise ConfigError(
                "POLYGON_API_KEY is not set; the provider needs a key; set it in the environment or in .env"
                + _arn_hint("POLYGON_API_KEY_SECRET_ARN", settings.polygon_api_key_secret_arn)
            )
        made = PolygonSource(
            settings.polygon_base_url,
            settings.polygon_api_key.get_secret_value(),
            requests_per_minute=settings.polygon_requests_per_minute,
            retry=_retry_policy(settings.polygon_retry_seconds, self._deadline),
        )
        self._sources.append(made)
        return made

    def flat_files(self) -> FlatFileSource:
        """Return a new client of the provider's flat files; ConfigError without their keys."""
        from condvest.sources.flat_files import FlatFileSource

        settings = self.settings
        key, secret = settings.polygon_flat_files_access_key_id, settings.polygon_flat_files_secret_access_key
        made = FlatFileSource(
            access_key_id=key.get_secret_value() if key else "",
            secret_access_key=secret.get_secret_value() if secret else "",
            endpoint=settings.polygon_flat_files_endpoint,
            bucket=settings.polygon_flat_files_bucket,
            retry=_retry_policy(settings.polygon_retry_seconds, self._deadline),
        )
        self._sources.append(made)
        return made

    def is_new(self) -> bool:
        """Say whether there is no lake yet: nothing that one consists of, and no state that speaks of one. Makes nothing."""
        if holds_a_lake(self.store):
            return False
        if self.settings.rds_host is None:
            return not self.sqlite_path().exists()
        return self.state.ledger_is_empty()

    def require_lake(self) -> None:
        """Raise ConfigError when there is no lake: what reads one must not make one out of a mistyped path."""
        if self.is_new():
            raise ConfigError(
                f"no lake at {self.store.url}: nothing of one lies there; fetch first: `condvest fetch bars --from 2020-01-02`,"
                " or name the right place with --lake or LAKE_URL"
            )

    def ready_state(self) -> State:
        """Return the state database; an empty ledger beside a filled landing zone is rebuilt before anything is decided."""
        if self.state.ledger_is_empty() and self.store.holds(layout.LANDING):
            from condvest.jobs.rebuild import rebuild_ledger

            sessions = rebuild_ledger(
                self.store,
                self.state,
                calendar=self.calendar,
                now=self.now(),
                universe=self.universe,
                only_empty=True,
            )
            if sessions:  # else another run did it meanwhile
                event("ledger_rebuilt", sessions=sessions, why="the state was empty beside a filled lake")
        return self.state

    def _hand_over_keys(self) -> None:
        """Give the client library the keys of `.env`: it looks for them in the environment alone."""
        if os.environ.get("AWS_ACCESS_KEY_ID"):
            return  # a token or secret from elsewhere would not fit
        for name in _AWS_KEYS:
            value = getattr(self.settings, name)
            if value is not None:
                os.environ[name.upper()] = value.get_secret_value()

    def state_url(self) -> str:
        """Return the address of the state database, password included: never to be shown. ConfigError when half is set."""
        from sqlalchemy import URL

        settings = self.settings
        if settings.rds_host is None:
            return URL.create("sqlite", database=str(self.sqlite_path())).render_as_string()
        for name in ("RDS_DATABASE", "RDS_USER"):
            if getattr(settings, name.lower()) is None:
                raise ConfigError(
                    f"{name} is not set; RDS_HOST is ({settings.rds_host}), so the state database is PostgreSQL; set {name},"
                    " or unset RDS_HOST to keep the state in a SQLite file"
                    + _arn_hint("RDS_SECRET_ARN", settings.rds_secret_arn)
                )
        if settings.rds_password is None and settings.rds_secret_arn is not None:
            raise ConfigError(
                "RDS_PASSWORD is not set; it has to be outside AWS"
                + _arn_hint("RDS_SECRET_ARN", settings.rds_secret_arn)
            )
        query = {"sslmode": settings.sslmode} | ({"sslrootcert": settings.rds_ca_file} if settings.rds_ca_file else {})
        password, host = settings.rds_password, settings.rds_host
        if host.startswith("/"):  # the folder of a socket; before the @ of an address it would be read as the database
            host, query = "", query | {"host": host}
        return URL.create(
            "postgresql+psycopg",
            username=settings.rds_user,
            password=password.get_secret_value() if password else None,
            host=host,
            port=settings.rds_port,
            database=settings.rds_database,
            query=query,
        ).render_as_string(hide_password=False)

    def sqlite_path(self) -> Path:
        """Return where the state of this lake is: in a lake folder, or in the user's state folder for one on S3."""
        if isinstance(self.store, FolderStore):
            return self.store.root / ".condvest" / "state.sqlite"
        if self.store.url.startswith("memory:"):
            # What it speaks of ends with the process, and so must it.
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="condvest-")
            return Path(self._folder.name) / "state.sqlite"
        home = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
        place = f"{self.store.url} {self.settings.aws_endpoint_url or ''}"
        return home / "condvest" / hashlib.sha256(place.encode()).hexdigest()[:16] / "state.sqlite"


def _retry_policy(seconds: float, deadline: float | None) -> RetryPolicy:
    from condvest.sources.retry import RetryPolicy

    if not seconds:
        return RetryPolicy(attempts=1, empty_attempts=1, deadline=deadline)
    return RetryPolicy(total_timeout_seconds=seconds, deadline=deadline)


def _arn_hint(name: str, arn: str | None) -> str:
    return "" if arn is None else f" ({name} is set, but it is read on AWS only)"
