"""What lies in a lake, as plain values: bronze, silver, landing. What was read once is not read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from condvest.storage import layout
from condvest.storage.store import Store
from property import oracle
from property.oracle import Daily, History, Landed, Values

Rows = list[tuple[Any, ...]]


class LakeView:
    """Reads a lake without the code under test, but for its keys."""

    def __init__(self, store: Store, *, unreadable_is_empty: bool = False) -> None:
        """Look at a store; nothing is read yet. A file that is no parquet raises, or has no rows."""
        self._store = store
        self._unreadable_is_empty = unreadable_is_empty
        self._read: dict[tuple[str, str], Any] = {}
        self._landed: dict[str, str] = {}

    def keys(self, prefix: str) -> list[str]:
        """Return the keys under a prefix."""
        return [info.key for info in self._store.list(prefix)]

    def bodies(self, prefixes: tuple[str, ...]) -> dict[str, bytes]:
        """Return the objects whose keys begin in one of some ways."""
        return {key: self._store.get(key).data for key in self.keys("") if key.startswith(prefixes)}

    def consolidated(self) -> dict[str, History]:
        """Return each symbol's `data.parquet`."""
        found = [info for info in self._store.list(layout.BRONZE) if info.key.endswith("/data.parquet")]
        return {symbol_of(info.key): self._parsed(info.key, info.etag, history_of) for info in found}

    def bronze(self) -> dict[str, History]:
        """Return each symbol's bars wherever they lie, in `data.parquet` or in a `date=` file: the ones seen last."""
        held: dict[str, History] = {}
        for info in self._store.list(layout.BRONZE):
            seen = held.setdefault(symbol_of(info.key), {})
            for day, bar in self._parsed(info.key, info.etag, history_of).items():
                if day not in seen or bar.seen > seen[day].seen:
                    seen[day] = bar
        return held

    def landing(self, sessions: Iterable[date]) -> dict[str, History]:
        """Return the bars of some sessions as landing tells them. What landed is never rewritten, and never goes."""
        found = {info.key: info.etag for info in self._store.list(layout.LANDING)}
        assert self._landed.items() <= found.items(), "a landed answer was changed or is gone"
        self._landed = found
        answers = [self._parsed(key, etag, _landed(key)) for key, etag in found.items()]
        return oracle.histories([answer for answer in answers if answer is not None], sessions)

    def silver(self, sessions: int) -> dict[str, Rows]:
        """Return the period bars of one length, by month (`YYYY-MM`), in the order of the files."""
        found = {}
        for key in self.keys(layout.silver_prefix(sessions)):
            parsed = layout.parse_silver_key(key)
            assert parsed is not None, key
            found[f"{parsed.year}-{parsed.month:02}"] = rows_of(self._store.get(key).data)
        return found

    def _parsed(self, key: str, etag: str, parse: Callable[[bytes], Any]) -> Any:
        if (key, etag) not in self._read:
            try:
                self._read[key, etag] = parse(self._store.get(key).data)
            except pa.ArrowInvalid:
                if not self._unreadable_is_empty:
                    raise
                self._read[key, etag] = {}
        return self._read[key, etag]


def symbol_of(key: str) -> str:
    """Return the symbol whose bars lie under a key."""
    found = layout.parse_bronze_key(key)
    assert found is not None, key
    return found.symbol


def rows_of(data: bytes) -> Rows:
    """Return the rows of a parquet file."""
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        columns = file.read().to_pydict()
    return list(zip(*columns.values(), strict=True))


def history_of(data: bytes) -> History:
    """Return a file of daily bars: one row a session, ascending."""
    rows = rows_of(data)
    history = {row[1]: Daily(Values(*row[2:9]), row[9]) for row in rows}
    assert list(history) == sorted(history), "sessions are not ascending"
    assert len(history) == len(rows), "a session stands twice"
    return history


def _landed(key: str) -> Callable[[bytes], Landed | None]:
    return lambda data: oracle.read_landed(key, data)
