"""The cache of recent bars: true of one version of a `data.parquet`, dropped where it is of another."""

from __future__ import annotations

import io
import uuid
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from condvest.domain.bars import DAILY_SCHEMA, SERIES_NAMES
from condvest.errors import CommitConflict, TransientError
from condvest.storage import layout, recent
from condvest.storage.opening import open_store
from condvest.storage.parquet import decode, encode_recent, encode_table
from condvest.storage.recent import RECENT_DAYS, RecentWriter, last_bars, read_recent
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
    assert recent.equals(bars.slice(200 - RECENT_DAYS - 1).select(SERIES_NAMES))


def test_a_whole_market_comes_back(memory: Store) -> None:
    """Symbols are put together in handfuls, in whatever order they come; each has its own rows and version."""
    names = [f"N{number * 37 % 200:03}" for number in range(200)]
    assert write(memory, *((history(name, 1 + int(name[1:]) % 5), f"e-{name}") for name in names))
    recent = read_recent(memory)
    assert list(recent.spans) == sorted(names)
    for name in names:
        found = recent.of(name, f"e-{name}")
        assert found is not None
        assert found[1].equals(history(name, 1 + int(name[1:]) % 5).select(SERIES_NAMES))


def test_what_is_kept_of_a_history_lets_the_history_go() -> None:
    """Else a merge of the market would hold all of it in memory; a whole history in one chunk, or a new bar behind it."""
    bars = history("AAPL", 500)
    for whole in (bars, pa.concat_tables([bars.slice(0, 499), bars.slice(499)])):
        places = {
            buffer.address
            for column in whole.columns
            for chunk in column.chunks
            for buffer in chunk.buffers()
            if buffer
        }
        last = last_bars(whole)
        assert last.equals(bars.slice(500 - RECENT_DAYS - 1))
        for column in last.columns:
            assert not places & {buffer.address for chunk in column.chunks for buffer in chunk.buffers() if buffer}


def test_a_cache_in_several_row_groups_is_the_same(memory: Store) -> None:
    """That of a large market has them: each brings a dictionary of its own, and a symbol may stand astride two."""
    write(memory, *((history(name, 5), f"e-{name}") for name in ("AAPL", "BCpC", "IBM")))
    rows = decode(memory.get(layout.RECENT_BARS).data, recent.SCHEMA, layout.RECENT_BARS)
    sink = io.BytesIO()
    pq.write_table(rows, sink, row_group_size=4)
    memory.put(layout.RECENT_BARS, sink.getvalue())
    for name in ("AAPL", "BCpC", "IBM"):
        found = read_recent(memory).of(name, f"e-{name}")
        assert found is not None
        assert found[1].equals(history(name, 5).select(SERIES_NAMES))


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


def _other_shape(name: str, values: pa.Array) -> bytes:
    """Return a parquet file with the columns of the cache, one of them another."""
    table = pa.table({field.name: pa.nulls(1, field.type) for field in recent.SCHEMA})
    return encode_table(table.drop_columns([name]).append_column(name, values))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not parquet",
        b"PAR1PAR1",
        _other_shape("date", pa.array(["AAPL"])),
        _other_shape("symbol", pa.array([["AAPL"]])),
        encode_table(pa.table({"symbol": ["AAPL"]})),
    ],
)
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
