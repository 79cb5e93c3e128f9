"""A second look at what cannot be read, and the caches that take it before they are begun anew."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from condvest.domain.bars import DAILY_SCHEMA
from condvest.errors import DataError, TransientError
from condvest.storage import layout
from condvest.storage.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from condvest.storage.manifest import Entry, entries_in, read_manifest, update_manifest
from condvest.storage.opening import open_store
from condvest.storage.recent import RecentWriter, read_recent
from condvest.storage.second_look import look, reads_the_same
from condvest.storage.store import IF_ABSENT, Stored, if_match
from integration.watched_lake import Lake

DAY = date(2025, 11, 3)
NOW = datetime(2025, 11, 3, 22, tzinfo=UTC)


@pytest.fixture
def lake() -> Lake:
    """An empty lake whose reads can be spoiled."""
    return Lake(open_store(f"memory://{uuid.uuid4().hex}"))


def decoded(stored: Stored) -> str:
    """Read what is written in capitals."""
    text = stored.data.decode("latin-1")
    if not text.isupper():
        raise DataError(f"{text}: no capitals")
    return text


def entry(symbol: str) -> Entry:
    """Return an entry of a manifest."""
    return Entry(symbol, DAY, 1, NOW, f"etag of {symbol}", frozenset(), ())


def bars(symbol: str) -> pa.Table:
    """Return one bar."""
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
    return pa.Table.from_pylist([{"symbol": symbol, "date": DAY, "ingested_at": NOW, **prices}], DAILY_SCHEMA)


def add_recent(lake: Lake, symbol: str) -> None:
    """Write the recent bars of one more symbol."""
    writer = RecentWriter(lake)
    writer.add(bars(symbol), symbol)
    writer.write()


@pytest.mark.parametrize("times", [0, 1, 2, 9])
def test_what_the_network_spoils_is_read_until_it_can_be_decoded(lake: Lake, times: int) -> None:
    """However often it is spoiled, if each time otherwise."""
    etag = lake.put("key", b"SOUND")
    lake.spoil("key", times=times)
    found = look(lake, "key", decoded)
    assert (found.content, found.error, found.when) == ("SOUND", None, if_match(etag))


def test_what_reads_the_same_twice_is_bad(lake: Lake) -> None:
    """Why is told, and how to replace it."""
    etag = lake.put("key", b"bad")
    found = look(lake, "key", decoded)
    assert (found.content, str(found.error), found.when) == (None, "bad: no capitals", if_match(etag))
    lake.spoil("key")
    assert str(look(lake, "key", decoded).error) == "bad: no capitals"


def test_a_network_that_spoils_everything_is_an_error(lake: Lake) -> None:
    """Nothing is known of the object then, neither that it is sound nor that it is bad."""
    lake.put("key", b"SOUND")
    lake.spoil("key", times=100)
    with pytest.raises(TransientError, match="key: 10 readings of it differ"):
        look(lake, "key", decoded)


def test_what_is_absent_is_neither(lake: Lake) -> None:
    """Also where it goes between two readings."""
    found = look(lake, "key", decoded)
    assert (found.stored, found.content, found.error, found.when) == (None, None, None, IF_ABSENT)
    lake.put("key", b"bad")
    reads = iter([None])
    lake.on_read = lambda key: None if next(reads, key) is None else lake.store.delete_many([key])
    assert look(lake, "key", decoded).stored is None


def test_only_the_bytes_that_were_read_read_the_same(lake: Lake) -> None:
    """Another content, or none, is not what was read before."""
    lake.put("key", b"bad")
    assert reads_the_same(lake, "key", b"bad")
    lake.spoil("key")
    assert not reads_the_same(lake, "key", b"bad")
    assert not reads_the_same(lake, "other", b"bad")


def test_a_manifest_that_is_spoiled_on_its_way_keeps_its_entries(lake: Lake) -> None:
    """Neither a reader nor an update takes it for lost."""
    update_manifest(lake, [entry("AAPL")])
    lake.spoil(layout.MANIFEST)
    assert update_manifest(lake, [entry("IBM")])
    assert read_manifest(lake).keys() == {"AAPL", "IBM"}
    lake.spoil(layout.MANIFEST)
    assert read_manifest(lake).keys() == {"AAPL", "IBM"}
    spoiled = Stored(b"spoiled", lake.get(layout.MANIFEST).etag)
    assert entries_in(lake, spoiled).keys() == {"AAPL", "IBM"}


def test_recent_bars_that_are_spoiled_on_their_way_keep_their_symbols(lake: Lake) -> None:
    """The bars of symbols that this run did not merge stay."""
    add_recent(lake, "AAPL")
    lake.spoil(layout.RECENT_BARS)
    add_recent(lake, "IBM")
    assert read_recent(lake).spans.keys() == {"AAPL", "IBM"}


def test_a_checkpoint_that_is_spoiled_on_its_way_counts(lake: Lake) -> None:
    """Its interval is not built anew."""
    good = Checkpoint(3, "calendar", "kernel1/writer1", DAY, {}, {})
    write_checkpoint(lake, good, IF_ABSENT)
    lake.spoil(layout.checkpoint_key(3))
    assert read_checkpoint(lake, 3)[0] == good
