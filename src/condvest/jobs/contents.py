"""Bronze read symbol by symbol, for jobs that must not stop at a corrupt file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from condvest.domain.bars import merge_history
from condvest.jobs.bronze import DailyFile, ReadFile, SymbolFiles, blocks, list_bronze, read_file
from condvest.storage import layout
from condvest.storage.store import Store


@dataclass(frozen=True, slots=True)
class SymbolContent:
    """What stands in one symbol's files.

    `data`: its `data.parquet`, None where there is none or it cannot be read; `data_etag` is that of the bytes read. `daily`:
    its readable `date=` files. `problems`: why others cannot be used. `is_known`: the `data.parquet` is sound or absent.
    """

    files: SymbolFiles
    data: pa.Table | None
    data_etag: str | None
    daily: tuple[tuple[DailyFile, pa.Table], ...]
    problems: tuple[str, ...]
    is_known: bool

    @property
    def symbol(self) -> str:
        """The symbol."""
        return self.files.symbol

    def bars(self) -> pa.Table:
        """Return the winning bar of each session (`DAILY_SCHEMA`), ascending: `data.parquet` overlaid with the `date=` files."""
        tables = [*([self.data] if self.data is not None else []), *(row for _, row in self.daily)]
        return merge_history(tables)


def read_bronze(store: Store, symbols: Collection[str] | None = None) -> Iterator[SymbolContent]:
    """Read every file of each symbol (None: of all), 256 symbols at a time; a file that went meanwhile is passed over."""
    for block in blocks(list_bronze(store, symbols)):
        keys = [_keys(files) for files in block]
        read = store.map((key for group in keys for key in group), read_file)
        for files, group in zip(block, keys, strict=True):
            yield _content(files, [next(read) for _ in group])


def _keys(files: SymbolFiles) -> list[str]:
    data = [layout.data_key(files.symbol)] if files.data_etag is not None else []
    return data + [file.key for file in files.daily]


def _content(files: SymbolFiles, read: Sequence[ReadFile]) -> SymbolContent:
    data = read[0] if files.data_etag is not None else None
    rest = read if data is None else read[1:]
    return SymbolContent(
        files,
        data.bars if data is not None else None,
        data.etag if data is not None else None,
        tuple((listed, file.bars) for listed, file in zip(files.daily, rest, strict=True) if file.bars is not None),
        tuple(file.error for file in read if file.error is not None),
        is_known=data is None or data.error is None,
    )
