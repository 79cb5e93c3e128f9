"""Bronze as it lies there: which files each symbol has, and what stands in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Final, TypeVar

import pyarrow as pa

from condvest.errors import DataError
from condvest.storage import layout
from condvest.storage.bars_file import decode_bars, decode_together
from condvest.storage.manifest import Entry, listing_cuts
from condvest.storage.second_look import settled
from condvest.storage.store import ObjectInfo, Store, Stored

T = TypeVar("T")

#: Symbols handled at a time: memory grows with it, not with the market.
BLOCK_SYMBOLS: Final = 256
#: Up to so many symbols their folders are listed, beyond it the whole layer is listed.
_LIST_EACH: Final = 50


@dataclass(frozen=True, slots=True)
class DailyFile:
    """One `date=` file, as a listing shows it."""

    session: date
    key: str
    etag: str


@dataclass(frozen=True, slots=True)
class SymbolFiles:
    """The files of one symbol: the ETag of its `data.parquet` (None: there is none) and its `date=` files, ascending."""

    symbol: str
    data_etag: str | None
    daily: tuple[DailyFile, ...]


@dataclass(frozen=True, slots=True)
class ReadFile:
    """One file read: its bars, or why it cannot be used, or neither where it is gone.

    `data`: the bytes of one that cannot be used, for a second look at it; None otherwise.
    """

    key: str
    etag: str | None
    bars: pa.Table | None
    error: str | None
    data: bytes | None = None


def blocks(items: Iterable[T], size: int = BLOCK_SYMBOLS) -> Iterator[list[T]]:
    """Yield the items in lists of at most `size`."""
    source = iter(items)
    while block := list(islice(source, size)):
        yield block


def list_bronze(
    store: Store, symbols: Collection[str] | None = None, *, manifest: Mapping[str, Entry] | None = None
) -> Iterator[SymbolFiles]:
    """Yield the files of each symbol that has any, in the order of the keys; `symbols` limits it. Foreign files are left out.

    What there is follows from the listing alone; by a manifest that the caller has read already it is listed faster.
    """
    if symbols is not None and len(symbols) <= _LIST_EACH:
        yield from _grouped(store.list_many(layout.symbol_prefix(symbol) for symbol in sorted(set(symbols))))
        return
    # A set: in a list, each of thousands would be looked for among all of them.
    wanted = None if symbols is None else frozenset(symbols)
    for files in _grouped(store.list(layout.BRONZE, cuts=listing_cuts(manifest or {}))):
        if wanted is None or files.symbol in wanted:
            yield files


def _grouped(listed: Iterable[ObjectInfo]) -> Iterator[SymbolFiles]:
    symbol, etag, daily = "", None, list[DailyFile]()
    for info in listed:
        found = layout.parse_bronze_key(info.key)
        if found is None:
            continue
        if found.symbol != symbol:
            if symbol:
                yield SymbolFiles(symbol, etag, tuple(daily))
            symbol, etag, daily = found.symbol, None, []
        if found.session is None:
            etag = info.etag
        else:
            daily.append(DailyFile(found.session, info.key, info.etag))
    if symbol:
        yield SymbolFiles(symbol, etag, tuple(daily))


def without_files(asked: Collection[str], found: Collection[str]) -> list[str]:
    """Return what is told of each symbol that was asked for by its name and of which nothing was found, ascending."""
    return [
        f"symbol {symbol!r}: has no bars in this lake, so that nothing was done for it; correct it (case counts), or fetch it"
        for symbol in sorted(set(asked).difference(found))
    ]


def read_file(key: str, stored: Stored | None) -> ReadFile:
    """Decode one bronze file and hold it against its key: schema, symbol, sessions ascending, one row in a `date=` file."""
    if stored is None:
        return ReadFile(key, None, None, None)
    try:
        bars = decode_bars(stored.data, key)
    except DataError as error:
        return ReadFile(key, stored.etag, None, str(error), stored.data)
    return ReadFile(key, stored.etag, bars, None)


def read_each(store: Store, keys: Iterable[str]) -> Iterator[ReadFile]:
    """Read bronze files in the order of the keys, as `read_file` does; one that cannot be read gets a second look."""
    for file in store.map(keys, read_file):
        yield file if file.error is None else read_file(file.key, look_again(store, file))


def look_again(store: Store, file: ReadFile) -> Stored | None:
    """Return a file that could not be read as it reads for certain; see `settled`."""
    read = Stored(file.data or b"", file.etag or "")
    return settled(store, file.key, read, lambda stored: decode_bars(stored.data, file.key)).stored


def read_files(objects: Sequence[tuple[str, Stored | None]]) -> list[ReadFile]:
    """Decode several bronze files, each as `read_file` does; where all are sound, in half the time."""
    tables = decode_together([(key, stored.data) for key, stored in objects if stored is not None])
    if tables is None:
        return [read_file(key, stored) for key, stored in objects]
    decoded = iter(tables)
    return [
        ReadFile(key, None, None, None) if stored is None else ReadFile(key, stored.etag, next(decoded), None)
        for key, stored in objects
    ]
