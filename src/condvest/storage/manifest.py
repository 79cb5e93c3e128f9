"""The consolidation manifest: a cache of what each symbol's `data.parquet` holds. Lost or corrupt, it is built again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from itertools import accumulate
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import UTC_MICROSECONDS
from condvest.domain.symbols import is_valid_symbol
from condvest.errors import CommitConflict, DataError
from condvest.log import warn
from condvest.storage import layout
from condvest.storage.parquet import decode, encode_table
from condvest.storage.second_look import Look, look, settled
from condvest.storage.store import PAGE, Store, Stored

#: Changes kept a symbol: a resample that is further behind rebuilds the symbol.
KEPT_CHANGES: Final = 12
_ATTEMPTS: Final = 20
#: Keys between two places at which a listing begins: a page, less what a session or two add to it before they are merged.
_SPAN_KEYS: Final = PAGE * 9 // 10

_CHANGE = pa.struct([("etag", pa.string()), ("first_changed", pa.date32())])
SCHEMA: Final = pa.schema(
    [
        ("symbol", pa.string()),
        ("last_consolidated_date", pa.date32()),
        ("row_count", pa.int64()),
        ("last_updated", UTC_MICROSECONDS),
        ("data_etag", pa.string()),
        ("merged", pa.list_(pa.int64())),
        ("changes", pa.list_(_CHANGE)),
    ]
)


class Change(NamedTuple):
    """One version of a `data.parquet`: its ETag, and the first session that it changed (None: not known, take all)."""

    etag: str
    first_changed: date | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What one symbol's `data.parquet` holds. True of the object with `data_etag` alone.

    `last_updated`: the latest `ingested_at` in it (no clock time of the run). `merged`: `file_mark` of each `date=` file
    whose rows are in it. `changes`: its last versions, oldest first.
    """

    symbol: str
    last_consolidated_date: date
    row_count: int
    last_updated: datetime
    data_etag: str
    merged: frozenset[int]
    changes: tuple[Change, ...]

    def changed_since(self, etag_mark: str) -> tuple[bool, date | None]:
        """Say whether the chain of changes reaches back to a version, and the first session changed after it.

        (False, None): not known, or a version in between was not known: take all. (True, None): nothing changed.
        """
        days: list[date] = []
        for change in reversed(self.changes):
            if short_mark(change.etag) == etag_mark:
                return True, min(days, default=None)
            if change.first_changed is None:
                break
            days.append(change.first_changed)
        return False, None


def file_mark(session: date, etag: str) -> int:
    """Return 64 bits that name one version of one `date=` file of a symbol."""
    return int.from_bytes(hashlib.blake2b(f"{session}|{etag}".encode(), digest_size=8).digest(), "big", signed=True)


def short_mark(etag: str) -> str:
    """Return 16 hex digits for an ETag, for files that hold thousands of them."""
    return hashlib.blake2b(etag.encode(), digest_size=8).hexdigest()


def read_manifest(store: Store) -> dict[str, Entry]:
    """Return the entries by symbol; nothing for a manifest that is absent, or cannot be read at a second look either (logged)."""
    return _told(look(store, layout.MANIFEST, _decoded))


def entries_in(store: Store, stored: Stored | None) -> dict[str, Entry]:
    """Return what `read_manifest` does, of an object that was read together with others; None: it is absent."""
    return _told(settled(store, layout.MANIFEST, stored, _decoded))


def _told(found: Look[dict[str, Entry]]) -> dict[str, Entry]:
    if found.error is not None:
        warn("manifest_unreadable", key=layout.MANIFEST, error=found.error, remedy="it is a cache and is built again")
    return found.content or {}


def _decoded(stored: Stored) -> dict[str, Entry]:
    try:
        table = decode(stored.data, SCHEMA, layout.MANIFEST, needed=SCHEMA.names)
        entries = {entry.symbol: entry for entry in _entries(table)}
    except (TypeError, KeyError, OverflowError) as error:
        raise DataError(f"{layout.MANIFEST}: {error}") from error
    for symbol in entries:
        if not is_valid_symbol(symbol):
            raise DataError(f"{layout.MANIFEST}: {symbol!r} is no symbol; delete it, it is a cache")
    return entries


def listing_cuts(entries: Mapping[str, Entry]) -> list[str]:
    """Return keys at which a listing of bronze may begin as well: about `_SPAN_KEYS` lie between two of them.

    As far as the entries tell. For `Store.list`, whose result does not depend on them.
    """
    cuts: list[str] = []
    keys = 0
    known = {layout.data_key(symbol): entry for symbol, entry in entries.items()}
    for key in sorted(known):
        files = 1 + len(known[key].merged)
        if keys + files > _SPAN_KEYS:
            cuts.append(key)
            keys = 0
        keys += files
    return cuts


def update_manifest(store: Store, entries: Iterable[Entry], *, gone: Iterable[str] = ()) -> bool:
    """Put entries in place of those of the same symbols, drop those `gone`, and leave others as other writers have them.

    Returns whether anything was written. Raises CommitConflict after 20 lost races.
    """
    fresh, lost = {entry.symbol: entry for entry in entries}, set(gone)
    for _ in range(_ATTEMPTS):
        found = look(store, layout.MANIFEST, _decoded)
        known = _told(found)
        merged = {
            symbol: entry for symbol, entry in {**known, **fresh}.items() if symbol not in lost or symbol in fresh
        }
        if merged == known:
            return False
        try:
            store.put(layout.MANIFEST, _encode(merged), when=found.when)
        except CommitConflict:
            continue
        return True
    raise CommitConflict(
        f"{layout.MANIFEST}: {_ATTEMPTS} other writers were first; run again when fewer jobs run at once"
    )


def _entries(table: pa.Table) -> Iterable[Entry]:
    plain = [
        _shared(table[name].combine_chunks()) if name == "last_updated" else table[name].to_pylist()
        for name in SCHEMA.names[:-1]
    ]
    # Taken apart as columns: a dictionary for each of many thousand changes would take longer than all the rest.
    chains = table["changes"].combine_chunks()
    found = chains.flatten()
    if found.null_count or found.field("etag").null_count:
        raise TypeError("a change without an ETag")
    changes = list(map(Change, found.field("etag").to_pylist(), _shared(found.field("first_changed"))))
    lengths = pc.list_value_length(chains).to_pylist()
    stops = accumulate(lengths)
    for (symbol, last, rows, updated, etag, merged), length, stop in zip(
        zip(*plain, strict=True), lengths, stops, strict=True
    ):
        yield Entry(symbol, last, rows, updated, etag, frozenset(merged), tuple(changes[stop - length : stop]))


def _shared(times: pa.Array) -> list[Any]:
    """Return Python's values, each made once: thousands of symbols share a few times, and one takes microseconds to make."""
    coded = times.dictionary_encode()
    found = [*coded.dictionary.to_pylist(), None]
    return [found[-1 if code is None else code] for code in coded.indices.to_pylist()]


def _encode(entries: Mapping[str, Entry]) -> bytes:
    ordered = [entries[symbol] for symbol in sorted(entries)]
    columns = {
        "symbol": [entry.symbol for entry in ordered],
        "last_consolidated_date": [entry.last_consolidated_date for entry in ordered],
        "row_count": [entry.row_count for entry in ordered],
        "last_updated": [entry.last_updated for entry in ordered],
        "data_etag": [entry.data_etag for entry in ordered],
        "merged": [sorted(entry.merged) for entry in ordered],
        "changes": [[(change.etag, change.first_changed) for change in entry.changes] for entry in ordered],
    }
    return encode_table(pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}))
