"""Sessions in, symbols out: a transposition gives back exactly what it took, by symbol, whatever its chunks."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from condvest.domain.bars import DAILY_SCHEMA
from condvest.errors import TransientError
from condvest.jobs import transpose
from condvest.jobs.transpose import Transposition

AT = datetime(2025, 11, 3, 21, 5, tzinfo=UTC)
FIRST = date(2025, 1, 2)


def row(symbol: str, day: int) -> dict[str, object]:
    """Return one bar whose values tell symbol and day apart."""
    price = 10.0 + day + len(symbol) / 8
    values = {"open": price, "high": price + 1, "low": price - 1, "close": price, "volume": 1.0 + day}
    counts = {"vwap": None if day % 2 else price, "transactions": None if day % 3 else 7}
    session = FIRST + timedelta(days=day)
    return {"symbol": symbol, "date": session, **values, **counts, "ingested_at": AT + timedelta(days=day)}


def session(symbols: list[str], day: int) -> pa.Table:
    """Return the bars of one session."""
    return pa.Table.from_pylist([row(symbol, day) for symbol in symbols], schema=DAILY_SCHEMA)


@pytest.fixture(params=[(1_000_000, 256), (7, 256), (1, 1), (10, 2)], ids=str)
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of rows and buckets of symbols from everything at once down to one by one."""
    chunk_rows, bucket_symbols = request.param
    monkeypatch.setattr(transpose, "_CHUNK_ROWS", chunk_rows)
    monkeypatch.setattr(transpose, "_BUCKET_SYMBOLS", bucket_symbols)


@pytest.mark.usefixtures("sizes")
def test_each_symbol_comes_back_with_its_bars_in_order() -> None:
    """Symbols that come and go, each value as it went in, the columns in the lake's order."""
    market = [["B", "A", "BRK.B"], ["A"], ["C", "A", "BRK.B"], [], ["BCpC", "BCPC", "A"], ["B"]]
    with Transposition() as transposition:
        for day, symbols in enumerate(market):
            transposition.add(session(symbols, day))
        assert sorted(transposition.symbols) == ["A", "B", "BCPC", "BCpC", "BRK.B", "C"]
        found = dict(transposition.histories())
    assert {symbol: bars.to_pylist() for symbol, bars in found.items()} == {
        symbol: [row(symbol, day) for day, symbols in enumerate(market) if symbol in symbols]
        for symbol in ("A", "B", "BCPC", "BCpC", "BRK.B", "C")
    }
    assert {bars.schema for bars in found.values()} == {DAILY_SCHEMA}


@pytest.mark.usefixtures("sizes")
def test_the_symbols_are_known_before_the_histories_are_asked_for() -> None:
    """The caller lists what lies there for them first; rows that wait in memory count too."""
    with Transposition() as transposition:
        transposition.add(session(["B", "A"], 0))
        assert set(transposition.symbols) == {"A", "B"}
        transposition.add(session(["C"], 1))
        assert set(transposition.symbols) == {"A", "B", "C"}
        assert [bars.num_rows for _, bars in transposition.histories()] == [1, 1, 1]


@pytest.mark.usefixtures("sizes")
def test_many_symbols_over_many_sessions() -> None:
    """Several buckets and several chunks at once."""
    names = [f"S{number}" for number in range(23)]
    with Transposition() as transposition:
        for day in range(9):
            transposition.add(session([name for number, name in enumerate(names) if (number + day) % 4], day))
        found = dict(transposition.histories())
    assert set(found) == set(names)
    for number, name in enumerate(names):
        assert found[name].to_pylist() == [row(name, day) for day in range(9) if (number + day) % 4]


def test_nothing_in_nothing_out() -> None:
    """No session, or sessions without bars."""
    with Transposition() as transposition:
        assert list(transposition.histories()) == []
        transposition.add(DAILY_SCHEMA.empty_table())
        assert (transposition.symbols, list(transposition.histories())) == ([], [])


def test_its_files_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays on the local disk, after an error either."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(transpose, "_CHUNK_ROWS", 1)
    with suppress(RuntimeError), Transposition() as transposition:
        transposition.add(session(["A"], 0))
        assert len(list(tmp_path.rglob("*.arrow"))) == 1
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No place for temporary files is a failure that may pass, with a remedy: on making them, on writing, on reading."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(TransientError, match=r"temporary folder .*TMPDIR"):
        Transposition()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Transposition() as bars:
        bars.add(session(["AAPL"], 0))
        assert bars.symbols == ["AAPL"]
        for file in tmp_path.rglob("*.arrow"):
            file.unlink()
        with pytest.raises(TransientError, match=r"temporary folder .*TMPDIR"):
            list(bars.histories())
