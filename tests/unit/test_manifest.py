"""The consolidation manifest: a cache that is true of one version of a `data.parquet`, and never believed beyond it."""

from __future__ import annotations

import io
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from condvest.errors import CommitConflict, TransientError
from condvest.storage import layout, manifest
from condvest.storage.manifest import (
    Change,
    Entry,
    file_mark,
    listing_cuts,
    read_manifest,
    short_mark,
    update_manifest,
)
from condvest.storage.opening import open_store
from condvest.storage.parquet import encode_table
from condvest.storage.store import Store, When

DAY = date(2025, 11, 3)
NEXT = date(2025, 11, 4)
AT = datetime(2025, 11, 4, 21, 5, 0, 1, tzinfo=UTC)


def entry(symbol: str, etag: str = "e1", **changes: object) -> Entry:
    """Return what the manifest says of one symbol."""
    made = Entry(
        symbol, NEXT, 2, AT, etag, frozenset({file_mark(DAY, "x"), file_mark(NEXT, "y")}), (Change(etag, DAY),)
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # names and types are those of Entry


@pytest.fixture
def memory() -> Store:
    """An empty store."""
    return open_store(f"memory://{uuid.uuid4().hex}")


def test_entries_come_back_as_they_were(memory: Store) -> None:
    """Every field, unknown first changes and empty sets too."""
    entries = [
        entry("BCpC"),
        entry("AAPL", changes=(Change("e0", None), Change("e1", NEXT))),
        entry("X", merged=frozenset()),
    ]
    assert update_manifest(memory, entries)
    assert read_manifest(memory) == {one.symbol: one for one in entries}


def test_the_columns_of_the_specification_come_first(memory: Store) -> None:
    """Any tool can read who is consolidated how far."""
    update_manifest(memory, [entry("AAPL")])
    table = pq.read_table(io.BytesIO(memory.get(layout.MANIFEST).data))
    assert table.schema.names[:4] == ["symbol", "last_consolidated_date", "row_count", "last_updated"]
    assert table.slice(0, 1).to_pylist()[0]["row_count"] == 2


def test_what_changes_nothing_writes_nothing(memory: Store) -> None:
    """Rule 8: no PUT, and it says so."""
    update_manifest(memory, [entry("AAPL"), entry("IBM")])
    puts = memory.meter.puts
    assert not update_manifest(memory, [entry("IBM")])
    assert not update_manifest(memory, [])
    assert memory.meter.puts == puts


def test_cuts_lie_a_page_apart() -> None:
    """Between two of them are fewer keys than a page has, and not many fewer: as the entries tell, in the keys' order."""
    entries = {symbol: entry(symbol) for symbol in (f"S{number}" for number in range(2000))}
    keys = sorted(
        key
        for symbol in entries
        for key in (layout.data_key(symbol), *map(partial(layout.daily_key, symbol), (DAY, NEXT)))
    )
    cuts = listing_cuts(entries)
    places = [-1, *(keys.index(cut) for cut in cuts), len(keys) - 1]
    assert cuts == sorted(cuts)
    assert {stop - start for start, stop in pairwise(places[:-1])} <= set(range(890, 911))
    assert max(stop - start for start, stop in pairwise(places)) < 1000
    assert listing_cuts({}) == listing_cuts({"A": entry("A")}) == []


@pytest.mark.parametrize("name", ["", "../x", "A B"])
def test_a_manifest_with_an_impossible_symbol_counts_as_lost(memory: Store, name: str) -> None:
    """It may hold anything, as it is a cache; no key can be made of such a name."""
    update_manifest(memory, [entry("AAPL"), entry(name)])
    assert read_manifest(memory) == {}


def test_other_symbols_keep_their_entries(memory: Store) -> None:
    """A run over some symbols leaves the others (D02)."""
    update_manifest(memory, [entry("AAPL"), entry("IBM")])
    update_manifest(memory, [entry("IBM", "e2", row_count=3)], gone=["NOSUCH"])
    assert {symbol: one.row_count for symbol, one in read_manifest(memory).items()} == {"AAPL": 2, "IBM": 3}
    update_manifest(memory, [], gone=["AAPL"])
    assert list(read_manifest(memory)) == ["IBM"]


def test_the_same_entries_give_the_same_bytes(memory: Store) -> None:
    """The order in which symbols come does not matter."""
    update_manifest(memory, [entry("B"), entry("A")])
    body = memory.get(layout.MANIFEST).data
    memory.delete_many([layout.MANIFEST])
    update_manifest(memory, [entry("A")])
    update_manifest(memory, [entry("B")])
    assert memory.get(layout.MANIFEST).data == body


@pytest.mark.parametrize("body", [b"", b"not parquet", b"PAR1PAR1"])
def test_a_manifest_that_cannot_be_read_counts_as_lost(
    memory: Store, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next update replaces it."""
    memory.put(layout.MANIFEST, body)
    assert read_manifest(memory) == {}
    assert "manifest_unreadable" in caplog.text
    update_manifest(memory, [entry("AAPL")])
    assert list(read_manifest(memory)) == ["AAPL"]


def test_only_a_certain_absence_counts_as_lost(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """D03: an error of the store is an error."""

    def fail(key: str) -> None:
        raise TransientError("503")

    monkeypatch.setattr(memory, "get", fail)
    with pytest.raises(TransientError):
        read_manifest(memory)


def test_a_writer_that_is_second_reads_again(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 6: both writers' entries are there afterwards."""
    update_manifest(memory, [entry("AAPL")])
    put = memory.put
    others = [entry("IBM"), entry("MSFT")]

    def second(key: str, data: bytes, *, when: When) -> str:
        if others:
            other = others.pop()
            monkeypatch.setattr(memory, "put", put)
            update_manifest(memory, [other])
            monkeypatch.setattr(memory, "put", second)
        return put(key, data, when=when)

    monkeypatch.setattr(memory, "put", second)
    assert update_manifest(memory, [entry("NEW")])
    assert set(read_manifest(memory)) == {"AAPL", "IBM", "MSFT", "NEW"}


def test_a_writer_that_is_always_second_gives_up(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 20 lost races there is one clear error."""

    def lost(key: str, data: bytes, *, when: When) -> str:
        raise CommitConflict(key)

    monkeypatch.setattr(memory, "put", lost)
    with pytest.raises(CommitConflict, match=f"{layout.MANIFEST}: {manifest._ATTEMPTS} other writers were first"):
        update_manifest(memory, [entry("AAPL")])


# --- what changed since -----------------------------------------------------------------------------------------


def chain(*changes: tuple[str, date | None]) -> Entry:
    """Return an entry with these versions, oldest first."""
    return entry("AAPL", changes[-1][0], changes=tuple(Change(etag, first) for etag, first in changes))


def test_the_first_changed_session_since_a_version() -> None:
    """The earliest of all later changes; nothing when none is later."""
    known = chain(("a", DAY), ("b", NEXT), ("c", date(2025, 11, 6)), ("d", NEXT))
    assert known.changed_since(short_mark("a")) == (True, NEXT)
    assert known.changed_since(short_mark("c")) == (True, NEXT)
    assert known.changed_since(short_mark("d")) == (True, None)


def test_a_version_that_is_not_in_the_chain_is_not_known() -> None:
    """Further behind than the chain reaches: take all."""
    assert chain(("b", NEXT)).changed_since(short_mark("a")) == (False, None)


def test_a_change_that_is_not_known_hides_all_before_it() -> None:
    """A version of which it is not known what it changed: who is behind it takes all, who has it does not."""
    known = chain(("a", DAY), ("b", None), ("c", NEXT))
    assert known.changed_since(short_mark("a")) == (False, None)
    assert known.changed_since(short_mark("b")) == (True, NEXT)


def test_a_content_that_comes_back_counts_from_its_last_time() -> None:
    """On S3 an ETag follows from the content: of two equal ones the later is meant."""
    known = chain(("a", DAY), ("b", DAY), ("a", DAY), ("c", NEXT))
    assert known.changed_since(short_mark("a")) == (True, NEXT)


def test_marks_tell_versions_apart() -> None:
    """A mark names one version of one file: another session or another ETag is another mark, of 64 bits."""
    marks = {file_mark(day, etag) for day in (DAY, NEXT) for etag in ("x", "y")}
    assert len(marks) == 4
    assert all(-(2**63) <= mark < 2**63 for mark in marks)
    assert (len(short_mark("x")), short_mark("x") == short_mark("y")) == (16, False)


@pytest.mark.parametrize("name", manifest.SCHEMA.names)
def test_a_manifest_with_nulls_counts_as_lost(memory: Store, name: str) -> None:
    """An entry without one of its values is no entry: to compare with it would end a job."""
    update_manifest(memory, [entry("AAPL")])
    table = pq.read_table(io.BytesIO(memory.get(layout.MANIFEST).data))
    at = table.column_names.index(name)
    nulls = pa.nulls(table.num_rows, manifest.SCHEMA.field(name).type)
    memory.put(layout.MANIFEST, encode_table(table.set_column(at, name, nulls)))
    assert read_manifest(memory) == {}
