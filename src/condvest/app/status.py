"""What lies in a lake and how far it is: for a person who looks, and for a monitor that reads JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from condvest.app.wiring import App
from condvest.domain.ledger import SESSION_STATES, due, gaps, watermark
from condvest.domain.records import RunRow
from condvest.storage import layout
from condvest.storage.layout import BronzeKey
from condvest.storage.manifest import Entry, file_mark, listing_cuts, read_manifest
from condvest.storage.store import ObjectInfo

_SHOWN_RUNS = 5


@dataclass(slots=True)
class Layer:
    """How much lies in one part of the lake."""

    objects: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A lake as it is at `now`.

    Attributes:
        last_closed: the last session that has closed by `now`.
        sessions: how many sessions of the ledger are in each state.
        first_session: the ledger's first session; None: it has none.
        watermark: the last session before the first gap.
        gaps: sessions inside the ledger whose bars are not in the lake though they may come, ascending.
        due: how many sessions a fetch without dates would ask for.
        symbols: how many symbols have bars.
        pending_files: `date=` files that are not in their symbol's `data.parquet` yet, as far as the manifest knows.
        layers: objects and bytes by part of the lake.
        runs: the last runs, the newest first.
    """

    lake: str
    state: str
    now: datetime
    last_closed: date
    sessions: Mapping[str, int]
    first_session: date | None
    watermark: date | None
    gaps: Sequence[date]
    due: int
    symbols: int
    pending_files: int
    layers: Mapping[str, Layer]
    runs: Sequence[RunRow]


@dataclass(slots=True)
class _Walk:
    """What one listing of the whole lake adds up to; keys come ascending, so a symbol's files come together."""

    manifest: Mapping[str, Entry]
    layers: dict[str, Layer] = field(default_factory=dict)
    symbols: int = 0
    pending: int = 0
    symbol: str = ""
    data_etag: str | None = None
    marks: list[int] = field(default_factory=list)

    def take(self, info: ObjectInfo) -> None:
        """Count one object."""
        found = layout.parse_bronze_key(info.key)
        layer = self.layers.setdefault(_layer(info.key, found), Layer())
        layer.objects += 1
        layer.size_bytes += info.size_bytes
        if found is None:
            return
        if found.symbol != self.symbol:
            self.finish()
            self.symbol, self.data_etag = found.symbol, None
            self.symbols += 1
        if found.session is None:
            self.data_etag = info.etag
        else:
            self.marks.append(file_mark(found.session, info.etag))

    def finish(self) -> None:
        """Settle how many files of the symbol at hand are pending. A manifest is true of one `data.parquet` alone."""
        entry = self.manifest.get(self.symbol)
        trusted = entry is not None and entry.data_etag == self.data_etag
        merged = entry.merged if entry is not None and trusted else frozenset()
        self.pending += sum(mark not in merged for mark in self.marks)
        self.marks.clear()


def read_status(app: App) -> Status:
    """Look at the whole lake; writes nothing to it. ConfigError when there is none."""
    app.require_lake()
    state, calendar, now = app.ready_state(), app.calendar, app.now()
    walk = _Walk(read_manifest(app.store))
    for info in app.store.list("", cuts=listing_cuts(walk.manifest)):
        walk.take(info)
    walk.finish()
    rows = state.sessions()
    return Status(
        lake=app.store.url,
        state=state.url_shown,
        now=now,
        last_closed=calendar.last_closed(now),
        sessions={name: sum(row.state == name for row in rows) for name in SESSION_STATES},
        first_session=rows[0].session_date if rows else None,
        watermark=watermark(rows, calendar),
        gaps=gaps(rows, calendar),
        due=len(due(rows, calendar, now)),
        symbols=walk.symbols,
        pending_files=walk.pending,
        layers=walk.layers,
        runs=state.recent_runs(_SHOWN_RUNS),
    )


def _layer(key: str, found: BronzeKey | None) -> str:
    """Return the part of the lake that a key belongs to."""
    if found is not None:
        return f"{layout.BRONZE}{'data.parquet' if found.session is None else 'date='}"
    parts = key.split("/")
    return "/".join(parts[: 2 if len(parts) > 2 else 1])
