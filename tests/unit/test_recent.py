"""The cache of recent bars: true of one version of a `data.parquet`, dropped where it is of another."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from condvest.domain.bars import DAILY_SCHEMA
from condvest.errors import CommitConflict, TransientError
from condvest.storage import layout, recent
from condvest.storage.opening import open_store
from condvest.storage.parquet import decode, encode_recent
from condvest.storage.recent import RECENT_DAYS, VALUES, RecentWriter, last_bars, read_recent
from condvest.storage.store import Store, When

LAST = date(2025, 11, 14)
AT = datetime(2025, 11, 14, 21, 5, tzinfo=UTC)


def history(symbol: str, days: int, last: date = LAST) -> pa.Table:
    """Return one bar for each of the `days` days up to `last`."""
    prices = {"open": 1.0, "high": 3.0, "low": 0.5, "close": 2.0, "volume": 9.0, "vwap": None, "transactions": None}
    rows = [
        {"symbol": symbol, "date": last - timedelta(days=ago), **prices, "ingested_at": AT} for ago in range(days)[::-1]
    ]
    return pa.Table.from_pylist(rows, schema=DAILY_SCHEMA)


@pytest.fixture
def memory() -> Store:
    """An empty store."""
    return open_store(f"memory://{uuid.uuid4().hex}")


def write(store: Store, *histories: tuple[pa.Table, str]) -> bool:
    """Put the recent bars of some symbols."""
    writer = RecentWriter(store)
    for bars, etag in histories:
        writer.add(last_bars(bars), etag)
    return writer.write()


def test_the_last_months_of_a_symbol_come_back(memory: Store) -> None:
    """All bars since 120 days before its last one, without `symbol` and `ingested_at`; and the date from which all are there."""
    bars = history("AAPL", 200)
    assert write(memory, (bars, "e1"))
    found = read_recent(memory).of("AAPL", "e1")
    assert found is not None
    since, recent = found
    assert since == LAST - timedelta(days=RECENT_DAYS)
    assert recent.equals(bars.slice(200 - RECENT_DAYS - 1).select(VALUES))


def test_bars_of_another_version_are_not_given(memory: Store) -> None:
    """The ETag of the `data.parquet` decides; an unknown symbol has none."""
    write(memory, (history("AAPL", 3), "e1"))
    assert read_recent(memory).of("AAPL", "e2") is None
    assert read_recent(memory).of("IBM", "e1") is None


def test_other_symbols_keep_their_bars(memory: Store) -> None:
    """A run over some symbols puts theirs in place of the older ones."""
    write(memory, (history("BCpC", 3), "b1"), (history("AAPL", 3), "a1"))
    write(memory, (history("AAPL", 2), "a2"))
    recent = read_recent(memory)
    assert recent.of("AAPL", "a1") is None
    assert {symbol: span.stop - span.begin for symbol, span in recent.spans.items()} == {"AAPL": 2, "BCpC": 3}


def test_the_same_bars_give_the_same_bytes_and_are_not_written_again(memory: Store) -> None:
    """Rule 8, whatever the order in which symbols come."""
    write(memory, (history("BCpC", 3), "b1"), (history("AAPL", 3), "a1"))
    puts = memory.meter.puts
    assert not write(memory, (history("AAPL", 3), "a1"), (history("BCpC", 3), "b1"))
    assert not write(memory)
    assert memory.meter.puts == puts


def test_symbols_that_stopped_long_ago_are_left_out(memory: Store) -> None:
    """The cache grows with the living market, not with all that ever traded."""
    write(memory, (history("OLD", 9, LAST - timedelta(days=RECENT_DAYS + 1)), "o"), (history("NEW", 9), "n"))
    assert set(read_recent(memory).spans) == {"NEW"}
    write(memory, (history("ALSO", 9, LAST - timedelta(days=RECENT_DAYS)), "a"))
    assert set(read_recent(memory).spans) == {"ALSO", "NEW"}


@pytest.mark.parametrize("body", [b"", b"not parquet", b"PAR1PAR1"])
def test_a_cache_that_cannot_be_read_counts_as_lost(
    memory: Store, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next write replaces it."""
    memory.put(layout.RECENT_BARS, body)
    assert read_recent(memory).spans == {}
    assert "recent_bars_unreadable" in caplog.text
    assert write(memory, (history("AAPL", 3), "a1"))
    assert read_recent(memory).of("AAPL", "a1") is not None


def test_only_a_certain_absence_counts_as_lost(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the store is an error."""

    def fail(key: str) -> None:
        raise TransientError("503")

    monkeypatch.setattr(memory, "get", fail)
    with pytest.raises(TransientError):
        read_recent(memory)


def test_a_writer_that_is_second_joins_what_the_first_wrote(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 6 holds for caches too."""
    put, others = memory.put, [(history("IBM", 3), "i1")]

    def second(key: str, data: bytes, *, when: When) -> str:
        if others:
            other = others.pop()
            write(memory, other)
        return put(key, data, when=when)

    monkeypatch.setattr(memory, "put", second)
    assert write(memory, (history("AAPL", 3), "a1"))
    assert set(read_recent(memory).spans) == {"AAPL", "IBM"}


def test_a_cache_that_cannot_be_written_stops_no_job(
    memory: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After 20 lost races it is given up, and said: without it a resample reads more, nothing else."""

    def lost(key: str, data: bytes, *, when: When) -> str:
        raise CommitConflict(key)

    monkeypatch.setattr(memory, "put", lost)
    assert not write(memory, (history("AAPL", 3), "a1"))
    assert "recent_bars_not_written" in caplog.text


def test_a_cache_out_of_order_counts_as_lost(memory: Store) -> None:
    """Rows that stand in two places, or not by date, are not all that a symbol has."""
    write(memory, (history("AAPL", 3), "a1"))
    rows = decode(memory.get(layout.RECENT_BARS).data, recent.SCHEMA, layout.RECENT_BARS)
    for spoiled in (pa.concat_tables([rows, rows]), rows.take([2, 1, 0])):
        memory.put(layout.RECENT_BARS, encode_recent(spoiled))
        assert read_recent(memory).spans == {}
