"""Bronze read symbol by symbol, for jobs that must not stop at a corrupt file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from condvest.domain.bars import DAILY_SCHEMA, merge_history
from condvest.jobs.bronze import DailyFile, ReadFile, SymbolFiles, blocks, list_bronze, look_again, read_file
from condvest.storage import layout
from condvest.storage.manifest import Entry
from condvest.storage.parquet import encode_history, written_by
from condvest.storage.store import Store, Stored

#: What every `data.parquet` is called, and one that this writer makes.
_DATA: Final = layout.data_key("A").rpartition("/")[2]
_SAMPLE: Final = encode_history(DAILY_SCHEMA.empty_table())


@dataclass(frozen=True, slots=True)
class SymbolContent:
    """What stands in one symbol's files.

    `data`: its `data.parquet`, None where there is none or it cannot be read; `data_etag` is that of the bytes read. `daily`:
    its readable `date=` files. `problems`: why others cannot be used. `is_known`: the `data.parquet` is readable or absent.
    `is_as_written`: its bytes are those that this writer makes of its rows, or another one wrote it.
    """

    files: SymbolFiles
    data: pa.Table | None
    data_etag: str | None
    daily: tuple[tuple[DailyFile, pa.Table], ...]
    problems: tuple[str, ...]
    is_known: bool
    is_as_written: bool

    @property
    def symbol(self) -> str:
        """The symbol."""
        return self.files.symbol

    def bars(self) -> pa.Table:
        """Return the winning bar of each session (`DAILY_SCHEMA`), ascending: `data.parquet` overlaid with the `date=` files."""
        if self.data is not None and not self.daily:
            return self.data  # reading made sure that it is sound history
        return merge_history([*([self.data] if self.data is not None else []), *(row for _, row in self.daily)])


def read_bronze(
    store: Store, symbols: Collection[str] | None = None, *, manifest: Mapping[str, Entry] | None = None
) -> Iterator[SymbolContent]:
    """Read every file of each symbol (None: of all), 256 symbols at a time; a file that went meanwhile is passed over.

    By a manifest that was read already the files are listed faster, as `list_bronze` does.
    """
    yield from read_contents(store, list_bronze(store, symbols, manifest=manifest))


def read_contents(store: Store, listed: Iterable[SymbolFiles]) -> Iterator[SymbolContent]:
    """Read the files that are listed, 256 symbols at a time; a file that went meanwhile is passed over.

    One that cannot be read gets a second look: it is a problem if it reads the same again.
    """
    for block in blocks(listed):
        keys = [_keys(files) for files in block]
        read = _read_each(store, (key for group in keys for key in group))
        for files, group in zip(block, keys, strict=True):
            yield _content(files, [next(read) for _ in group])


def _keys(files: SymbolFiles) -> list[str]:
    data = [layout.data_key(files.symbol)] if files.data_etag is not None else []
    return data + [file.key for file in files.daily]


def _read_each(store: Store, keys: Iterable[str]) -> Iterator[tuple[ReadFile, bool]]:
    for found in store.map(keys, _read):
        file, _ = found
        yield found if file.error is None else _read(file.key, look_again(store, file))


def _read(key: str, stored: Stored | None) -> tuple[ReadFile, bool]:
    """Read a file, and say whether its bytes are as written: rows may be right where the statistics beside them are not."""
    file = read_file(key, stored)
    if stored is None or file.bars is None or not key.endswith(_DATA):
        return file, True
    return file, stored.data == encode_history(file.bars) or written_by(stored.data) != written_by(_SAMPLE)


def _content(files: SymbolFiles, read: Sequence[tuple[ReadFile, bool]]) -> SymbolContent:
    data = read[0][0] if files.data_etag is not None else None
    rest = [file for file, _ in (read if data is None else read[1:])]
    return SymbolContent(
        files,
        data.bars if data is not None else None,
        data.etag if data is not None else None,
        # The version that was read, should it be another one than was listed.
        tuple(
            (replace(listed, etag=file.etag or ""), file.bars)
            for listed, file in zip(files.daily, rest, strict=True)
            if file.bars is not None
        ),
        tuple(file.error for file, _ in read if file.error is not None),
        is_known=data is None or data.error is None,
        is_as_written=all(same for _, same in read),
    )
