"""`Lake.sql`: the views hold what `Lake.bars` gives, read only what a query needs, and let nothing else be reached."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from condvest import Lake
from condvest.analytics.sql import Scan, View, run
from condvest.analytics.views import lake_views
from condvest.domain.actions import DIVIDENDS_SCHEMA, SPLITS_SCHEMA
from condvest.domain.adjust import Adjustment
from condvest.domain.bars import DAILY_SCHEMA
from condvest.domain.calendar import INTERVALS
from condvest.domain.records import SymbolRow
from condvest.domain.resample import PERIOD_SCHEMA
from condvest.errors import ConfigError, DataError, TransientError
from condvest.state import State
from condvest.storage import layout
from condvest.storage.opening import open_store
from condvest.storage.store import Counts, Store, Stored
from integration.sample_lake import FIRST, LAST, SEEN, History, build, sample_histories, true_dividends

NUMBERS = pa.table({"n": pa.array([1], pa.int64())})
BY_SYMBOL = [("symbol", "ascending"), ("date", "ascending")]
ADJUSTED: tuple[Adjustment, ...] = ("splits", "all")
VIEWS = sorted(
    ["bronze", "symbols", "splits", "dividends"]
    + [f"silver_{sessions}d" for sessions in INTERVALS]
    + [f"bronze_adjusted_{how}" for how in ADJUSTED]
    + [f"silver_{sessions}d_adjusted_{how}" for sessions in INTERVALS for how in ADJUSTED]
)


@pytest.fixture(scope="module")
def histories() -> dict[str, History]:
    """Return the bars that went into the lake."""
    return sample_histories()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, histories: dict[str, History]) -> Path:
    """A lake in a folder that no test changes; its path has what a glob pattern or a partition would stumble over."""
    folder = tmp_path_factory.mktemp("built") / "it's [a] lake" / "date=2001-01-01"
    build(open_store(str(folder), fsync=False), histories)
    return folder


@pytest.fixture
def lake(built: Path) -> Lake:
    """The lake that no test changes, opened."""
    return Lake.open(str(built))


@pytest.fixture
def own(tmp_path: Path, histories: dict[str, History]) -> Store:
    """A small lake in a folder that a test may spoil."""
    store = open_store(str(tmp_path / "own"), fsync=False)
    build(store, {symbol: histories[symbol] for symbol in ("AAPL", "IBM")})
    return store


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, histories: dict[str, History]) -> Path:
    """A small lake in a folder with a file beside its objects, as a state database is; nothing may change it."""
    folder = tmp_path_factory.mktemp("guarded") / "lake"
    build(open_store(str(folder), fsync=False), {"AAPL": histories["AAPL"]}, silver=False)
    (folder / ".condvest").mkdir(exist_ok=True)
    (folder / ".condvest" / "secret.txt").write_text("secret")
    return folder


def sorted_rows(table: pa.Table) -> pa.Table:
    """Return a table in the order of symbol and date, in one piece."""
    return table.sort_by(BY_SYMBOL).combine_chunks()


def cost(lake: Lake, query: str) -> Counts:
    """Run a query on a lake that has its manifest and corporate actions, and return what it asked of the store."""
    lake.sql("SELECT count(*) FROM symbols")
    lake.bars("AAPL", adjusted="all", interval="3d")
    before = lake.store.meter.snapshot()
    lake.sql(query)
    return lake.store.meter.snapshot() - before


def test_views_hold_what_bars_gives(lake_url: str, histories: dict[str, History]) -> None:
    """On a folder and on S3, each view has every symbol's bars, as `bars` gives them, with the same columns and types."""
    some = {symbol: histories[symbol] for symbol in ("AAPL", "BCpC", "CON")}
    build(open_store(lake_url), some)
    lake = Lake.open(lake_url)
    daily = pa.concat_tables(lake.bars(symbol) for symbol in some)
    assert sorted_rows(lake.sql("FROM bronze")).equals(sorted_rows(daily))
    for sessions in (3, 34):
        periods = pa.concat_tables(lake.bars(symbol, interval=f"{sessions}d") for symbol in some)
        assert sorted_rows(lake.sql(f"FROM silver_{sessions}d")).equals(sorted_rows(periods))
    for how in ADJUSTED:
        daily = pa.concat_tables(lake.bars(symbol, adjusted=how) for symbol in some)
        assert sorted_rows(lake.sql(f"FROM bronze_adjusted_{how}")).equals(sorted_rows(daily))
        periods = pa.concat_tables(lake.bars(symbol, interval="13d", adjusted=how) for symbol in some)
        assert sorted_rows(lake.sql(f"FROM silver_13d_adjusted_{how}")).equals(sorted_rows(periods))
    assert lake.sql("SELECT close FROM bronze WHERE symbol = 'BCpC' AND date = '2005-01-03'").to_pylist() == [
        {"close": some["BCpC"][date(2005, 1, 3)].close}
    ]
    assert (lake.store.meter.puts, lake.store.meter.deletes) == (0, 0)


def test_show_tables(lake: Lake) -> None:
    """`SHOW TABLES` lists the views and reads nothing."""
    before = lake.store.meter.snapshot()
    assert lake.sql("SHOW TABLES")["name"].to_pylist() == VIEWS
    assert lake.sql("DESCRIBE bronze")["column_name"].to_pylist() == DAILY_SCHEMA.names
    assert lake.store.meter.snapshot() == before


@pytest.mark.parametrize(
    ("query", "gets"),
    [
        ("SELECT max(close) FROM bronze WHERE symbol = 'BCpC'", 1),
        ("SELECT max(close) FROM bronze WHERE symbol IN ('CON', 'AAPL') AND close > 1", 2),
        ("SELECT max(close) FROM bronze WHERE symbol = 'NONE'", 0),
        ("SELECT max(close) FROM bronze_adjusted_all WHERE symbol = 'AAPL' AND date > '2005-01-01'", 1),
        ("SELECT max(close) FROM silver_34d_adjusted_splits WHERE symbol = 'AAPL'", 1),
        ("SELECT max(close) FROM silver_3d WHERE date BETWEEN '2005-01-15' AND '2005-03-15'", 3),
        ("SELECT max(close) FROM silver_3d WHERE date >= '2005-07-01'", 0),
        ("SELECT max(close) FROM bronze", 6),
        ("FROM bronze LIMIT 1", 6),
        ("SELECT 1", 0),
    ],
)
def test_only_what_a_query_needs_is_read(lake: Lake, query: str, gets: int) -> None:
    """A condition on symbol spares other symbols' objects, one on date other months' silver."""
    assert cost(lake, query).gets <= gets
    assert gets == 6 or cost(lake, query).gets == gets


def test_queries_give_right_answers(lake: Lake, histories: dict[str, History]) -> None:
    """Filters, joins, windows and pivots over the views give what plain Python computes."""
    found = lake.sql("SELECT symbol, count(*) AS n, max(high) AS top FROM bronze GROUP BY ALL ORDER BY symbol")
    assert found.to_pylist() == [
        {"symbol": symbol, "n": len(bars), "top": max(bar.high for bar in bars.values())}
        for symbol, bars in sorted(histories.items())
    ]
    dear = lake.sql("SELECT symbol, date FROM bronze WHERE close > 90 AND symbol <> 'GOOG' ORDER BY ALL").to_pylist()
    assert [(row["symbol"], row["date"]) for row in dear] == [
        (symbol, day)
        for symbol, bars in sorted(histories.items())
        for day, bar in sorted(bars.items())
        if bar.close > 90 and symbol != "GOOG"
    ]
    jump = lake.sql(
        "WITH r AS (SELECT *, close / lag(close) OVER (PARTITION BY symbol ORDER BY date) AS move FROM bronze) "
        "SELECT date, move FROM r JOIN splits s ON s.symbol = r.symbol AND s.execution_date = r.date"
    ).to_pylist()
    apple = histories["AAPL"]
    assert jump == [
        {"date": date(2005, 2, 28), "move": apple[date(2005, 2, 28)].close / apple[date(2005, 2, 25)].close}
    ]
    wide = lake.sql(
        "PIVOT (SELECT date, symbol, close FROM bronze WHERE symbol IN ('IBM', 'MSFT')) ON symbol USING first(close)"
        " ORDER BY date LIMIT 1"
    )
    assert wide.to_pylist() == [{"date": FIRST, **{s: histories[s][FIRST].close for s in ("IBM", "MSFT")}}]
    partly = lake.sql("SELECT symbol FROM silver_34d WHERE NOT complete AND vwap IS NOT NULL").to_pylist()
    assert partly == [{"symbol": "BCpC"}]


def test_times_are_utc(lake: Lake) -> None:
    """`ingested_at` comes out in UTC, whatever the zone of the machine, and compares with an instant."""
    found = lake.sql("SELECT max(ingested_at) AS seen FROM bronze WHERE ingested_at > '2013-03-02 16:00:00+00'")
    assert found.schema.field("seen").type == DAILY_SCHEMA.field("ingested_at").type
    assert found["seen"][0].as_py() == SEEN


def test_symbols_and_corporate_actions(built: Path, histories: dict[str, History], tmp_path: Path) -> None:
    """`symbols` is as `Lake.symbols`, metadata included; the ledger of corporate actions has its own columns."""
    with State.open(f"sqlite:///{tmp_path}/state.sqlite", migrate=True) as state:
        state.upsert_symbols([SymbolRow(symbol="IBM", name="Business Machines", type="CS")], SEEN)
        lake = Lake.open(str(built), state=state)
        named = lake.sql("SELECT symbol, row_count FROM symbols WHERE type = 'CS'").to_pylist()
        assert lake.sql("FROM symbols").equals(lake.symbols())
    assert named == [{"symbol": "IBM", "row_count": len(histories["IBM"])}]
    assert Lake.open(str(built)).sql("FROM dividends").schema.equals(DIVIDENDS_SCHEMA)
    paid = Lake.open(str(built)).sql("SELECT sum(cash_amount) AS paid FROM dividends WHERE symbol = 'IBM'")
    assert paid["paid"][0].as_py() == pytest.approx(
        sum(one.cash_amount for one in true_dividends() if one.symbol == "IBM")
    )
    splits = Lake.open(str(built)).sql("SELECT * FROM splits WHERE symbol = 'AAPL' ORDER BY execution_date")
    assert splits.schema.equals(SPLITS_SCHEMA)
    assert splits["execution_date"].to_pylist() == [date(2000, 6, 21), date(2005, 2, 28)]


def test_an_empty_lake_has_empty_views(store: Store) -> None:
    """Without any data each view is there and empty, on every kind of store."""
    counts = Lake(store).sql("SELECT " + ", ".join(f"(SELECT count(*) FROM {view}) AS {view}" for view in VIEWS))
    assert counts.to_pylist() == [dict.fromkeys(VIEWS, 0)]


def test_an_empty_view_has_its_columns(tmp_path: Path) -> None:
    """Columns and types do not depend on what lies in the lake."""
    lake = Lake(open_store(str(tmp_path)))
    assert lake.sql("FROM bronze WHERE symbol = 'AAPL'").equals(DAILY_SCHEMA.empty_table())
    assert lake.sql("FROM bronze_adjusted_all").equals(DAILY_SCHEMA.empty_table())
    assert lake.sql("FROM silver_3d").equals(PERIOD_SCHEMA.empty_table())
    assert lake.sql("FROM silver_3d_adjusted_splits").equals(PERIOD_SCHEMA.empty_table())
    assert lake.sql("FROM splits").equals(SPLITS_SCHEMA.empty_table())
    assert lake.sql("FROM symbols").equals(lake.symbols())


@pytest.mark.parametrize("view", ["bronze", "bronze_adjusted_all", "silver_8d", "silver_8d_adjusted_splits"])
def test_views_are_arrow_datasets(lake: Lake, built: Path, view: str) -> None:
    """Whoever knows Arrow's datasets can read a view; columns and filter count there as in a query."""
    views = lake_views(open_store(str(built)), names=lambda: ["BCpC", "CON"], symbols=lake.symbols, make=lake.made)
    where = (ds.field("symbol") == "CON") & (ds.field("close") > 80)
    found = views[view].reader(["date", "close"], where).read_all()
    assert views[view].scanner(columns=["date", "close"], filter=where).to_table().equals(found)
    asked = lake.sql(f"SELECT date, close FROM {view} WHERE symbol = 'CON' AND close > 80 ORDER BY date")
    assert found.num_rows > 0
    assert found.sort_by("date").combine_chunks().equals(asked)
    assert views["symbols"].reader().read_all().equals(lake.symbols())
    assert views["dividends"].reader(["symbol"]).read_all().num_rows == len(true_dividends())


def test_a_failed_scan_keeps_its_error() -> None:
    """A view remembers what ended its scan, because an engine passes on the text alone."""
    lake = Lake(open_store(f"memory://{uuid.uuid4().hex}"))
    views = lake_views(lake.store, names=lambda: ["GONE"], symbols=lake.symbols, make=lake.made)
    assert views["splits"].reader().read_all().num_rows == 0
    with pytest.raises(DataError, match="gone since it was listed"):
        views["bronze"].reader().read_all()
    assert isinstance(views["bronze"].failure, DataError)


REFUSED = [
    "COPY (SELECT 1) TO '{out}'",
    "COPY (PIVOT bronze ON symbol USING count(*)) TO '{out}'",
    "WITH gone AS (COPY (SELECT 1) TO '{out}') SELECT 1",
    "WITH gone AS (COPY (SELECT 1) TO '{data}') SELECT 1",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
    "FROM query('WITH gone AS (COPY (SELECT 1) TO ''{out}'') SELECT 1')",
    "EXPORT DATABASE '{out}'",
    "ATTACH '{out}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW bronze AS SELECT 1",
    "DROP VIEW bronze",
    "INSERT INTO symbols (symbol) VALUES ('X')",
    "DELETE FROM bronze",
    "UPDATE bronze SET close = 0",
    "WITH gone AS (DELETE FROM bronze RETURNING *) SELECT * FROM gone",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN",
    "USE memory",
    "FROM read_text('/etc/hostname')",
    "FROM read_text('{state}')",
    "FROM read_parquet('{data}')",
    "FROM '{data}'",
    "FROM read_csv('/etc/passwd')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM glob('/*')",
    "FROM 'http://127.0.0.1:1/x.parquet'",
    "FROM enable_logging(storage = 'file', storage_config = {{'path': '{out}'}})",
    "FROM duckdb_secrets()",
    "SELECT getenv('HOME')",
    "FROM lake",
    "FROM histories",
]


@pytest.mark.parametrize("query", REFUSED)
def test_a_query_can_only_read_the_views(guarded: Path, query: str) -> None:
    """Whatever writes, changes settings, or reaches for files, network or Python variables is refused in one line."""
    out, state, data = guarded.parent / "out", guarded / ".condvest" / "secret.txt", guarded / layout.data_key("AAPL")
    before = {str(path): path.read_bytes() for path in guarded.parent.rglob("*") if path.is_file()}
    lake = Lake.open(str(guarded))
    with pytest.raises(ConfigError, match=r"^query ") as caught:
        lake.sql(query.format(out=out, data=data, state=state))
    assert "\n" not in str(caught.value)
    assert {str(path): path.read_bytes() for path in guarded.parent.rglob("*") if path.is_file()} == before
    assert not out.exists()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "holds 0 statements"),
        ("-- nothing", "holds 0 statements"),
        (None, "query None is no text"),
        (b"FROM symbols", "query b'FROM symbols' is no text"),
        ("SELECT 1; SELECT 2", "holds 2 statements"),
        ("SELEC 1", "syntax error"),
        ("SELECT clos FROM bronze", '"clos" not found'),
        ("FROM bronz", 'Did you mean "bronze"'),
        ("FROM silver_4d", "silver_4d does not exist"),
        ("SELECT 'x'::INTEGER", "Could not convert"),
        ("SELECT date + symbol FROM bronze", "No function matches"),
        ("SELECT error('mine')", "mine"),
    ],
)
def test_wrong_queries(lake: Lake, query: Any, says: str) -> None:
    """A wrong query gets one line with what is wrong in it and what to do."""
    with pytest.raises(ConfigError) as caught:
        lake.sql(query)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "LINE 1" not in str(caught.value)


def test_trouble_in_the_lake_is_a_data_error(own: Store) -> None:
    """A corrupt or missing object ends a query that reads it with its key; other queries go on."""
    own.put(layout.data_key("IBM"), b"PAR1 no longer")
    lake = Lake.open(own.url)
    for view in ("bronze", "bronze_adjusted_splits", "silver_3d_adjusted_all"):
        with pytest.raises(DataError, match=r"symbol=IBM/data\.parquet: not a readable parquet file"):
            lake.sql(f"SELECT sum(close) FROM {view}")
    own.delete_many([layout.data_key("IBM")])
    with pytest.raises(DataError, match=r"symbol=IBM/data\.parquet: gone since it was listed"):
        lake.sql("SELECT sum(close) FROM bronze")
    assert lake.sql("SELECT count(*) AS n FROM bronze WHERE symbol = 'AAPL'")["n"][0].as_py() > 200
    own.put(layout.SPLITS, b"no parquet")
    with pytest.raises(DataError, match=r"splits\.parquet: not a readable"):
        lake.sql("FROM splits")


def test_an_outage_keeps_its_class(own: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store raises comes out of a query as it is, so that a caller can try again."""

    def down(key: str) -> Stored:
        raise TransientError(f"lake: no connection for {key}; try again")

    lake = Lake(own)
    monkeypatch.setattr(own, "get", down)
    with pytest.raises(TransientError, match="no connection"):
        lake.sql("FROM symbols")


def test_too_large_a_query_is_told(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that the machine cannot hold says so in one line."""
    from condvest.analytics import sql

    monkeypatch.setattr(sql, "_LOCKS", ("SET memory_limit = '1MB'", "SET max_temp_directory_size = '0KB'", *sql._LOCKS))
    with pytest.raises(DataError, match="ask for fewer symbols") as caught:
        lake.sql("SELECT list(range) FROM range(10_000_000) GROUP BY range % 1_000_003 ORDER BY 1")
    assert "\n" not in str(caught.value)


def test_nothing_stays_behind(built: Path) -> None:
    """A query leaves no file, in the folder it runs in or in the temporary one, and no noise at the end of the process."""
    code = (
        "import json, sys\n"
        "from condvest import Lake\n"
        "from condvest.errors import CondvestError\n"
        "lake = Lake.open(sys.argv[1])\n"
        "rows = lake.sql('SELECT count(*) AS n FROM bronze').to_pylist()\n"
        "for wrong in ('FROM nothing', \"SELECT error('x') FROM bronze\"):\n"
        "    try:\n"
        "        lake.sql(wrong)\n"
        "    except CondvestError:\n"
        "        pass\n"
        "print(json.dumps(rows))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, str(built)],
            cwd=folder,
            env={**os.environ, "TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)[0]["n"] > 1000
        assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize("query", ["SELECT error('x') FROM endless", "FROM endless LIMIT 1"])
def test_a_query_that_ended_reads_no_more(query: str) -> None:
    """Nothing is read of a view after its query failed or has all it wants: not while others run, not at the process's end."""
    one = pa.table({"n": pa.array(range(5000), pa.int64())})
    read = [0]

    def endless(_: Scan) -> Iterator[pa.Table]:
        while True:
            read[0] += 1
            yield one
            time.sleep(0.01)

    with suppress(ConfigError):
        run(query, {"endless": View(one.schema, endless)})
    at_the_end = read[0]
    time.sleep(0.3)
    assert 0 < read[0] == at_the_end


def test_several_threads(lake: Lake) -> None:
    """Queries may run at the same time; each has a database of its own."""

    def count(symbol: str) -> int:
        found: int = lake.sql(f"SELECT count(*) AS n FROM bronze WHERE symbol = '{symbol}'")["n"][0].as_py()
        return found

    symbols = ["AAPL", "IBM", "CON", "MSFT"]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, symbols)) == [lake.bars(symbol, last=LAST).num_rows for symbol in symbols]


def test_a_program_may_use_duckdb_itself_meanwhile(lake: Lake) -> None:
    """A query has nothing to do with the connection of the module, which refuses while something else is under way there."""
    started, going_on = threading.Event(), threading.Event()

    def slow() -> Iterator[pa.RecordBatch]:
        started.set()
        going_on.wait(10)
        yield pa.record_batch({"n": pa.array([1], pa.int64())})

    duckdb.register("slow", pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), slow()))
    with ThreadPoolExecutor(1) as pool:
        try:
            own = pool.submit(lambda: duckdb.execute("SELECT count(*) FROM slow").fetchall())
            assert started.wait(10)
            assert lake.sql("SELECT 1 AS n")["n"].to_pylist() == [1]
        finally:
            going_on.set()
        assert own.result() == [(1,)]
    duckdb.unregister("slow")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM range(100000000000)",
        "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE hash(a.range + b.range) = 1",
        "SELECT max(n) FROM endless",
    ],
)
def test_an_interrupt_ends_a_query(query: str) -> None:
    """Ctrl-C ends a query as it ends anything else in Python, whatever is under way: a scan, a join, a view being read."""

    def endless(_: Scan) -> Iterator[pa.Table]:
        while True:
            time.sleep(0.01)
            yield NUMBERS

    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(query, {"endless": View(NUMBERS.schema, endless)})


def test_more_interrupts_end_a_query_no_worse() -> None:
    """Who presses Ctrl-C again while an object is still being read sees no other error: the query ends after that object."""
    begun, pressed = threading.Event(), threading.Event()

    def slow(_: Scan) -> Iterator[pa.Table]:
        while True:
            begun.set()
            pressed.wait(30)
            yield NUMBERS

    def impatient() -> None:
        begun.wait(30)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        pressed.set()

    hand = threading.Thread(target=impatient)
    hand.start()
    with pytest.raises(KeyboardInterrupt):
        run("SELECT max(n) FROM slow", {"slow": View(NUMBERS.schema, slow)})
    hand.join()


def test_an_interrupt_before_the_query_has_begun_ends_it_too() -> None:
    """DuckDB asks a view for its columns when it gets it; what Python raises there would come back as an error of DuckDB."""

    class Pressing(View):
        @property
        def schema(self) -> pa.Schema:
            signal.raise_signal(signal.SIGINT)
            return NUMBERS.schema

    def endless(_: Scan) -> Iterator[pa.Table]:
        while True:
            time.sleep(0.01)
            yield NUMBERS

    with pytest.raises(KeyboardInterrupt):
        run("SELECT max(n) FROM pressing", {"pressing": Pressing(NUMBERS.schema, endless)})


def test_what_another_signal_raises_ends_a_query_too() -> None:
    """A program that gives its work a time limit gets its own exception, and no query goes on behind it."""

    class TooLongError(Exception):
        pass

    def endless(_: Scan) -> Iterator[pa.Table]:
        while True:
            time.sleep(0.01)
            yield NUMBERS

    def too_long(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGUSR1, too_long)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(TooLongError):
            run("SELECT max(n) FROM endless", {"endless": View(NUMBERS.schema, endless)})
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_memory_lakes_work_as_well(histories: dict[str, History]) -> None:
    """A lake in memory is read like any other."""
    store = open_store(f"memory://{uuid.uuid4().hex}")
    build(store, {"CON": histories["CON"]}, silver=False)
    found = Lake(store).sql("SELECT count(*) AS n FROM bronze_adjusted_splits")
    assert found["n"].to_pylist() == [len(histories["CON"])]
