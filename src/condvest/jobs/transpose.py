"""Sessions in, symbols out: turns the whole market by day into each symbol's history, on local disk, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import DAILY_SCHEMA
from condvest.jobs.scratch import scratch_errors

#: Rows held in memory before they are sorted by symbol and written out; about 80 bytes each.
_CHUNK_ROWS: Final = 1_000_000
_BUCKET_SYMBOLS: Final = 256
_KEPT: Final = [name for name in DAILY_SCHEMA.names if name != "symbol"]


class Transposition:
    """Takes bars session by session (ascending) and gives them back symbol by symbol. Its files go with it.

    Memory: a chunk of a million rows while it takes, 256 symbols' histories while it gives. TransientError when the temporary
    folder fails.
    """

    @scratch_errors()
    def __init__(self) -> None:
        """Begin empty, with a temporary folder."""
        # What cannot be removed afterwards is no reason to fail: all that it held is where it belongs.
        self._folder = tempfile.TemporaryDirectory(prefix="condvest-", ignore_cleanup_errors=True)
        self._codes: dict[str, int] = {}
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        #: By chunk: which of its record batches holds a bucket of symbols.
        self._chunks: list[tuple[Path, dict[int, int]]] = []

    def __enter__(self) -> Self:
        """Return the transposition."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Delete the files."""
        self._folder.cleanup()

    @property
    def symbols(self) -> list[str]:
        """The symbols taken so far."""
        self._flush()  # codes are given as rows are written out
        return list(self._codes)

    def add(self, bars: pa.Table) -> None:
        """Take the bars of one session (`DAILY_SCHEMA`); sessions come in ascending order."""
        self._pending.append(bars)
        self._pending_rows += bars.num_rows
        if self._pending_rows >= _CHUNK_ROWS:
            self._flush()

    def histories(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield each symbol and its bars, ascending by session."""
        self._flush()
        names = list(self._codes)
        with ExitStack() as opened:
            chunks = [(_open(path, opened), batches) for path, batches in self._chunks]
            for bucket in range(-(-len(names) // _BUCKET_SYMBOLS)):
                for code, rows in _by_code(
                    [_read(reader, batches[bucket]) for reader, batches in chunks if bucket in batches]
                ):
                    yield names[code], rows.add_column(0, "symbol", pa.repeat(names[code], rows.num_rows))

    def _flush(self) -> None:
        if not self._pending_rows:
            return
        bars = pa.concat_tables(self._pending)
        self._pending, self._pending_rows = [], 0
        for symbol in pc.unique(bars["symbol"]).to_pylist():
            self._codes.setdefault(symbol, len(self._codes))
        codes = pc.index_in(bars["symbol"], value_set=pa.array(list(self._codes), pa.string()))
        self._write(_sorted(bars.select(_KEPT).append_column("code", codes).combine_chunks()))

    @scratch_errors()
    def _write(self, rows: pa.Table) -> None:
        path = Path(self._folder.name) / f"{len(self._chunks)}.arrow"
        counts = pc.divide(rows["code"], _BUCKET_SYMBOLS).value_counts()
        batches, offset = {}, 0
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            found = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
            for number, (bucket, count) in enumerate(found):
                writer.write_batch(rows.slice(offset, count).to_batches()[0])
                batches[bucket] = number
                offset += count
        self._chunks.append((path, batches))


@scratch_errors()
def _open(path: Path, opened: ExitStack) -> pa.RecordBatchFileReader:
    return opened.enter_context(pa.ipc.open_file(opened.enter_context(pa.OSFile(str(path), "rb"))))


@scratch_errors()
def _read(reader: pa.RecordBatchFileReader, number: int) -> pa.RecordBatch:
    return reader.get_batch(number)


def _by_code(chunks: Sequence[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """Yield the rows of each symbol of a bucket, ascending by session as the chunks are."""
    rows = _sorted(pa.Table.from_batches(chunks).combine_chunks())
    counts = rows["code"].value_counts()
    kept, offset = rows.select(_KEPT), 0
    for code, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
        yield code, kept.slice(offset, count)
        offset += count


def _sorted(rows: pa.Table) -> pa.Table:
    """Return rows by their code. The sort is stable: those of a symbol stay in the order of their sessions."""
    return rows.take(pc.array_sort_indices(rows["code"].combine_chunks()))
