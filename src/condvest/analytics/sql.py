"""SQL over a lake: DuckDB in this process, over views that read an object only when a query needs it.

DuckDB itself may open no file. What it may read it may also write (`COPY` hides in a `WITH` as well), so every byte comes
through the `Store`, and a query cannot harm a lake. A folder, S3 and memory take the same way.
"""

from __future__ import annotations

import reprlib
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from condvest.errors import CondvestError, ConfigError, DataError
from condvest.process import ctrl_c_later
from condvest.storage.store import Store, Stored

#: An object, and what is true of each row in it.
Part = tuple[str, ds.Expression]
Load = Callable[[str, Stored | None, Sequence[str]], pa.Table]

_FORMAT: Final = ds.ParquetFileFormat()
_LOOK_SECONDS: Final = 0.05  # whether Ctrl-C was pressed
_MOST_TABLES: Final = 64  # filtered at once
_NOWHERE: Final = pafs.LocalFileSystem()  # fragments want one; theirs is never used
_STATEMENTS: Final = frozenset(
    # MULTI: what a PIVOT becomes.
    {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI}
)
_LOCKS: Final = (
    "SET TimeZone = 'UTC'",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_NOT_THE_QUERY: Final = (
    duckdb.IOException,
    duckdb.OutOfMemoryException,
    duckdb.InternalException,
    duckdb.FatalException,
)


@dataclass(frozen=True, slots=True)
class Scan:
    """What one scan of a view asks for: the columns that it takes to answer, and a filter on the rows (None: all)."""

    needed: Sequence[str]
    where: ds.Expression | None


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one scan, for DuckDB in place of a scanner of Arrow's: that reads ahead in threads that outlive a query.

    One of them may be reading still when the process ends, which aborts it, or keeps it from ending.
    """

    reader: pa.RecordBatchReader

    def to_reader(self) -> pa.RecordBatchReader:
        """Return them as a stream; called by DuckDB."""
        return self.reader

    def to_table(self) -> pa.Table:
        """Return them as a table."""
        return self.reader.read_all()


class View(ds.Dataset):  # type: ignore[misc]  # pyarrow has no types
    """A table as DuckDB sees it. Nothing is read before a query scans it.

    `failure` is the error that ended a scan; one that is `stopped` ends before it takes the next object.
    """

    def __init__(self, schema: pa.Schema, read: Callable[[Scan], Iterable[pa.Table]]) -> None:
        """Describe a table; `read` yields its rows, with the needed columns or more. It may leave out what the filter does."""
        self._schema = schema
        self._read = read
        self.failure: CondvestError | None = None
        self.stopped = False

    @property
    def schema(self) -> pa.Schema:
        """The columns, whatever lies in the lake."""
        return self._schema

    def scanner(
        self,
        columns: Sequence[str] | None = None,
        filter: ds.Expression | None = None,  # noqa: A002 - DuckDB's name for it
        **_: object,
    ) -> Rows:
        """Begin a scan; called by DuckDB."""
        return Rows(self.reader(columns, filter))

    def reader(self, columns: Sequence[str] | None = None, where: ds.Expression | None = None) -> pa.RecordBatchReader:
        """Return the rows that pass a filter (None: all), and of them some columns (None: all), as a stream."""
        names = list(self._schema.names if columns is None else columns)
        # A name that only looks as if the filter had it costs a column, and no more.
        text = "" if where is None else str(where)
        scan = Scan([name for name in self._schema.names if name in names or name in text], where)
        schema = pa.schema([self._schema.field(name) for name in names])
        return pa.RecordBatchReader.from_batches(schema, self._batches(scan, names))

    def _batches(self, scan: Scan, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            for tables in _growing(self._until_stopped(scan)):
                table = pa.concat_tables(one.select(scan.needed) for one in tables)
                rows = table if scan.where is None else table.filter(scan.where)
                yield from rows.select(names).to_batches()
        except CondvestError as error:  # DuckDB makes an error of its own of it
            self.failure = error
            raise

    def _until_stopped(self, scan: Scan) -> Iterator[pa.Table]:
        for table in self._read(scan):
            if self.stopped:
                raise DataError("query was interrupted; ask again")
            yield table


def _growing(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Yield tables one, two, four at a time and so on: to filter costs much by table, and a `LIMIT` wants few of them."""
    source, size = iter(tables), 1
    while group := list(islice(source, size)):
        yield group
        size = min(2 * size, _MOST_TABLES)


def table_view(schema: pa.Schema, make: Callable[[], pa.Table]) -> View:
    """Return a view of one table, made when it is first scanned."""
    return View(schema, lambda _: [make()])


def object_view(store: Store, schema: pa.Schema, parts: Callable[[], Iterable[Part]], load: Load) -> View:
    """Return a view of many objects, of which a scan reads those whose rows can pass its filter.

    `load(key, stored, names)` returns a table with the schema's columns `names`, or more; it runs in worker threads.
    """

    def read(scan: Scan) -> Iterator[pa.Table]:
        fragments = [_FORMAT.make_fragment(key, _NOWHERE, partition_expression=holds) for key, holds in parts()]
        dataset = ds.FileSystemDataset(fragments, schema, _FORMAT, _NOWHERE)
        keys = (fragment.path for fragment in dataset.get_fragments(scan.where))
        return store.map(keys, lambda key, stored: load(key, stored, scan.needed))

    return View(schema, read)


def run(query: str, views: Mapping[str, View]) -> pa.Table:
    """Run one query over views and return its rows. Writes nothing but what DuckDB spills to the system's temporary folder.

    Raises:
        ConfigError: not exactly one query, or one that DuckDB cannot run, or that reaches for anything but the views.
        CondvestError: what a view raised while it was read; DataError where DuckDB ran out of memory or disk.
        KeyboardInterrupt: as Python raises it, once DuckDB has stopped: most often at once.
    """
    spill = Path(tempfile.gettempdir(), f"condvest-sql-{uuid.uuid4().hex}")
    with (
        ctrl_c_later() as pressed,
        closing(duckdb.connect(":memory:", config={"temp_directory": str(spill)})) as connection,
    ):
        for name, view in views.items():
            connection.register(name, view)
        for lock in _LOCKS:
            connection.execute(lock)
        try:
            _check(connection, query)
            return _rows(connection, query, views.values(), pressed)
        except duckdb.Error as error:
            failed = [view.failure for view in views.values() if view.failure is not None]
            raise failed[0] if failed else _clear(error) from None


def _rows(
    connection: duckdb.DuckDBPyConnection, query: str, views: Iterable[View], pressed: Callable[[], bool]
) -> pa.Table:
    """Return the rows of a query. A thread of its own waits for DuckDB, which hears of no Ctrl-C while it joins.

    After Ctrl-C, or whatever else a signal raises here, the query is interrupted until it has ended: DuckDB forgets an interrupt
    that comes before it begins to compute.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="condvest-sql") as pool:
        rows = pool.submit(lambda: connection.sql(query).to_arrow_table())
        try:
            while not (pressed() or wait([rows], timeout=_LOOK_SECONDS).done):
                pass
        finally:
            while not rows.done():
                for view in views:
                    view.stopped = True
                connection.interrupt()
                wait([rows], timeout=_LOOK_SECONDS)
    return rows.result()


def _check(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    if not isinstance(query, str):
        raise ConfigError(f"query {reprlib.repr(query)} is no text; give one such as FROM symbols")
    try:
        query.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"query holds what is no text: {reprlib.repr(query)}; write it in UTF-8") from None
    # On the query's own connection: the module's belongs to the program that calls, which may be using it.
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise ConfigError(f"query holds {len(statements)} statements: give exactly one, such as FROM symbols")
    if statements[0].type not in _STATEMENTS:
        raise ConfigError(f"query is a {statements[0].type.name} statement: a lake is only read by SQL; write a SELECT")


def _clear(error: duckdb.Error) -> CondvestError:
    lines = [line.strip() for line in str(error).partition("\nLINE ")[0].splitlines()]
    said = " ".join(filter(None, lines))
    if isinstance(error, duckdb.PermissionException):
        return ConfigError(f"query is refused: {said}; it reads the lake's views alone, see SHOW TABLES")
    if isinstance(error, _NOT_THE_QUERY):
        return DataError(f"query failed: {said}; ask for fewer symbols, sessions or columns at once")
    return ConfigError(f"query cannot run: {said}; correct it, SHOW TABLES and DESCRIBE <view> say what there is")
