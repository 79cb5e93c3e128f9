"""The cache of fetched bars: each row is true of one version of a `date=` file, and is given for that one alone."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from condvest.domain.bars import DAILY_SCHEMA
from condvest.errors import ConfigError
from condvest.storage import fetched, layout
from condvest.storage.fetched import KEPT_SESSIONS, WORTH, fetched_sessions, read_fetched, try_fetched, write_fetched
from condvest.storage.opening import open_store
from condvest.storage.parquet import decode, encode_fetched
from condvest.storage.store import Store

DAY = date(2025, 11, 14)
NEXT = date(2025, 11, 17)
AT = datetime(2025, 11, 14, 21, 5, tzinfo=UTC)


def bars(*rows: tuple[str, date, float]) -> pa.Table:
    """Return daily bars, given by symbol, session and close."""
    prices = {"open": 1.0, "high": 99.0, "low": 0.5, "volume": 9.0, "vwap": None, "transactions": 3, "ingested_at": AT}
    return pa.Table.from_pylist(
        [{"symbol": symbol, "date": day, "close": close} | prices for symbol, day, close in rows], DAILY_SCHEMA
    )


TWO = bars(("BCpC", DAY, 2.0), ("AAPL", DAY, 1.0))


@pytest.fixture
def memory() -> Store:
    """An empty store."""
    return open_store(f"memory://{uuid.uuid4().hex}")


def closes(store: Store, *wanted: tuple[str, date, str]) -> list[float | None]:
    """Return the closes that are known of some versions of `date=` files."""
    known = read_fetched(store, {day for _, day, _ in wanted})
    rows = [known.of(symbol).get((day, etag)) for symbol, day, etag in wanted]
    return [None if row is None else known.take([row])["close"][0].as_py() for row in rows]


def test_what_was_written_comes_back_by_the_version_of_its_file(memory: Store) -> None:
    """The bar stands beside the ETag that it was given with; neither another version nor another session has it."""
    write_fetched(memory, TWO, ["e2", "e1"])
    assert closes(memory, ("AAPL", DAY, "e1"), ("BCpC", DAY, "e2"), ("AAPL", DAY, "e2")) == [1.0, 2.0, None]
    assert closes(memory, ("AAPL", NEXT, "e1"), ("MSFT", DAY, "e1")) == [None, None]


def test_many_symbols_at_once_are_as_each_alone(memory: Store) -> None:
    """In any order, also one that is asked for twice, has several sessions, has no ETag, or is not there."""
    days = [date(2025, 11, day) for day in (10, 11, 12, 13, 14)]
    rows = bars(*((symbol, day, 2.0) for symbol in ("AAPL", "BCpC", "MSFT") for day in days))
    write_fetched(memory, rows, [f"e{number}" if number != 7 else "" for number in range(15)])
    known = read_fetched(memory, days)
    symbols = ["MSFT", "AAPL", "NONE", "BCpC", "AAPL"]
    assert list(known.of_each(symbols)) == [known.of(symbol) for symbol in symbols]
    assert [len(versions) for versions in known.of_each(symbols)] == [5, 5, 0, 4, 5]


def test_a_file_without_an_etag_is_never_known(memory: Store) -> None:
    """A server that gives no ETag says nothing about versions."""
    write_fetched(memory, TWO, ["", "e1"])
    assert closes(memory, ("BCpC", DAY, ""), ("AAPL", DAY, "e1")) == [None, 1.0]


def test_several_sessions_are_one_object_each(memory: Store) -> None:
    """Read together they are ordered by symbol, then session, and a symbol's rows come as one piece."""
    write_fetched(memory, pa.concat_tables([TWO, bars(("BCpC", NEXT, 4.0), ("AAPL", NEXT, 3.0))]), ["a", "b", "c", "d"])
    assert fetched_sessions(memory) == [DAY, NEXT]
    known = read_fetched(memory, [NEXT, DAY])
    assert known.take([0]).schema.equals(DAILY_SCHEMA)
    assert known.take([0, 1])["close"].to_pylist() == [1.0, 3.0]
    assert known.take([0, 3])["close"].to_pylist() == [1.0, 4.0]


def test_a_later_write_takes_the_place_of_the_same_symbols(memory: Store) -> None:
    """The others stay: they are as true as before."""
    write_fetched(memory, TWO, ["e2", "e1"])
    write_fetched(memory, bars(("AAPL", DAY, 5.0), ("MSFT", DAY, 6.0)), ["f1", "f2"])
    wanted = [("AAPL", DAY, "e1"), ("AAPL", DAY, "f1"), ("BCpC", DAY, "e2"), ("MSFT", DAY, "f2")]
    assert closes(memory, *wanted) == [None, 5.0, 2.0, 6.0]


def test_one_file_alone_is_not_worth_an_object(memory: Store) -> None:
    """Reading it costs as much as reading the object would."""
    write_fetched(memory, bars(("AAPL", DAY, 1.0)), ["e1"])
    assert fetched_sessions(memory) == []


def test_a_few_bars_of_a_large_session_are_left_out(memory: Store) -> None:
    """Their files are read: that costs less than the whole object again."""
    names = [f"S{number:03d}" for number in range(2 * WORTH + 1)]
    write_fetched(memory, bars(*((name, DAY, 1.0) for name in names)), names)
    before = memory.get(layout.fetched_key(DAY)).data
    write_fetched(memory, bars(("S000", DAY, 2.0), ("S001", DAY, 2.0)), ["f", "g"])
    assert memory.get(layout.fetched_key(DAY)).data == before
    write_fetched(memory, bars(*((name, DAY, 2.0) for name in names[:3])), ["f", "g", "h"])
    assert closes(memory, ("S002", DAY, "h"), ("S003", DAY, "S003")) == [2.0, 1.0]


def test_an_older_session_than_those_that_are_kept_is_not_written(memory: Store) -> None:
    """Nothing is written only to be removed at once."""
    for ago in range(KEPT_SESSIONS):
        day = DAY - timedelta(days=ago)
        write_fetched(memory, bars(("AAPL", day, 1.0), ("BCpC", day, 2.0)), ["a", "b"])
    before, puts = fetched_sessions(memory), memory.meter.snapshot().puts
    old = DAY - timedelta(days=99)
    write_fetched(memory, bars(("AAPL", old, 1.0), ("BCpC", old, 2.0)), ["a", "b"])
    assert (fetched_sessions(memory), memory.meter.snapshot().puts) == (before, puts)


@pytest.mark.parametrize("refused", ["list", "map", "put_many", "delete_many"])
def test_a_store_that_refuses_the_cache_stops_nobody(
    memory: Store, refused: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The bars are in their files already: that the object could not be written is logged."""

    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("403")

    monkeypatch.setattr(memory, refused, refuse)
    write_fetched(memory, TWO, ["e2", "e1"])
    assert "fetched_bars_not_written" in caplog.text


def test_only_the_last_sessions_are_kept(memory: Store) -> None:
    """What is older is read from its files, if it still waits."""
    days = [DAY - timedelta(days=ago) for ago in range(KEPT_SESSIONS + 3)]
    for day in days:
        write_fetched(memory, bars(("AAPL", day, 1.0), ("BCpC", day, 2.0)), ["a", "b"])
    assert fetched_sessions(memory) == sorted(days)[-KEPT_SESSIONS:]


@pytest.mark.parametrize(
    "spoiled",
    [
        b"",
        b"PAR1",
        encode_fetched(TWO),
        encode_fetched(pa.Table.from_pylist([{"symbol": None, "date": DAY}], fetched.SCHEMA)),
    ],
    ids=["empty", "cut", "without etags", "nulls"],
)
def test_an_object_that_cannot_be_read_holds_nothing(
    memory: Store, spoiled: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the next write begins it anew."""
    memory.put(layout.fetched_key(DAY), spoiled)
    assert closes(memory, ("AAPL", DAY, "e1")) == [None]
    assert "fetched_bars_unreadable" in caplog.text
    assert list(try_fetched(memory, [DAY])[1]) == [layout.fetched_key(DAY)]
    write_fetched(memory, TWO, ["e2", "e1"])
    assert closes(memory, ("AAPL", DAY, "e1")) == [1.0]


def test_an_object_under_another_session_holds_nothing(memory: Store) -> None:
    """A row is of the session in its key, or of none."""
    write_fetched(memory, TWO, ["e2", "e1"])
    memory.put(layout.fetched_key(NEXT), memory.get(layout.fetched_key(DAY)).data)
    assert closes(memory, ("AAPL", NEXT, "e1"), ("AAPL", DAY, "e1")) == [None, 1.0]


def test_a_flipped_bit_is_noticed(memory: Store) -> None:
    """Checksums cover every value, since it would go into a `data.parquet` unseen."""
    write_fetched(memory, TWO, ["e2", "e1"])
    key = layout.fetched_key(DAY)
    body = memory.get(key).data
    sound = decode(body, fetched.SCHEMA, key)
    for at in range(len(body)):
        memory.put(key, body[:at] + bytes([body[at] ^ 4]) + body[at + 1 :])
        known, errors = try_fetched(memory, [DAY])
        assert errors or known.rows.equals(sound), at
