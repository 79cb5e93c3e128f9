"""Closures recorded in the lake: kept once, never lost to another writer, never guessed from a broken file."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from condvest.errors import CommitConflict, DataError
from condvest.storage import layout
from condvest.storage.closures import read_closures, record_closures
from condvest.storage.folder import FolderStore
from condvest.storage.store import When

FIRST, SECOND = date(2027, 1, 5), date(2027, 3, 1)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An empty lake."""
    return FolderStore(tmp_path / "lake", fsync=False)


def test_closures_add_up_and_come_back_ascending(store: FolderStore) -> None:
    """Each call adds; what is there already writes nothing."""
    assert read_closures(store) == []
    assert record_closures(store, [SECOND])
    assert record_closures(store, [FIRST, SECOND])
    assert read_closures(store) == [FIRST, SECOND]
    puts = store.meter.snapshot().puts
    assert not record_closures(store, [FIRST])
    assert not record_closures(store, [])
    assert store.meter.snapshot().puts == puts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"closures": [1]}',
        b'{"closures": ["2027-13-01"]}',
        b"\xff",
        b"[" * 100_000,
        b'{"closures": ""}',
        b'{"closures": {}}',
    ],
)
def test_a_broken_file_is_an_error_and_stays(store: FolderStore, body: bytes) -> None:
    """Ordinals hang on it, so nothing is assumed; the message names the key and the remedy."""
    store.put(layout.CLOSURES, body)
    with pytest.raises(DataError, match="restore it"):
        read_closures(store)
    with pytest.raises(DataError):
        record_closures(store, [FIRST])
    assert store.get(layout.CLOSURES).data == body


def test_two_writers_both_count(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that lost the race reads again and adds to what the other wrote."""
    put = FolderStore.put
    raced: list[bool] = []

    def racing(self: FolderStore, key: str, data: bytes, *, when: When) -> str:
        if not raced:
            raced.append(True)
            put(self, key, b'{"closures": ["2027-03-01"]}')
        return put(self, key, data, when=when)

    monkeypatch.setattr(FolderStore, "put", racing)
    assert record_closures(store, [FIRST])
    assert read_closures(store) == [FIRST, SECOND]


def test_endless_races_end_in_an_error(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives up at some time, and says so."""

    def lost(self: FolderStore, key: str, data: bytes, *, when: When) -> str:
        raise CommitConflict("lost")

    monkeypatch.setattr(FolderStore, "put", lost)
    with pytest.raises(CommitConflict, match="run again"):
        record_closures(store, [FIRST])
