"""SQL and the reading API: nothing but the views can be read, nothing can be written, whatever a statement is wrapped in."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest import Lake
from condvest.cli.output import print_table
from condvest.errors import CondvestError, ConfigError
from condvest.storage.opening import open_store
from fuzz.attacks import ATTACKS, WRAPPINGS
from fuzz.spoiling import SPAN, objects
from fuzz.strategies import HOSTILE, TEXTS, fuzzed

_SECRET = "S3CRET-hunter2"


@pytest.fixture(scope="module")
def top() -> Iterator[Path]:
    """A folder with a lake, a secret beside it and one inside it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        open_store(str(path / "lake"), fsync=False).put_many(objects().items())
        for place in (path, path / "lake" / ".condvest"):
            place.mkdir(exist_ok=True)
            (place / "secret.csv").write_text(f"a,b\n{_SECRET},1\n")
        yield path


def _everything(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}


def _ask(top: Path, query: str) -> None:
    """Run a query; the secret is in no answer and no error, and afterwards all files are as they were."""
    before, home = _everything(top), set(Path.home().iterdir())
    os.environ["CONDVEST_FUZZ_SECRET"] = _SECRET
    try:
        found: pa.Table = Lake.open(str(top / "lake")).sql(query)
        assert _SECRET not in str(found), query
        with contextlib.suppress(CondvestError), Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink):
            print_table(found, "json", {})
            print_table(found, "table", {})
    except CondvestError as error:
        assert "\n" not in str(error)
        assert _SECRET not in str(error)
    finally:
        del os.environ["CONDVEST_FUZZ_SECRET"]
    assert _everything(top) == before, query
    assert set(Path.home().iterdir()) == home, query


@st.composite
def statements(draw: st.DrawFn) -> tuple[str, bool]:
    """Return an attack in one or two wrappings, spelled in some way."""
    query = draw(st.sampled_from(ATTACKS))
    for _ in range(draw(st.integers(0, 2))):
        query = draw(st.sampled_from(WRAPPINGS)).replace("{0}", query)
    spelling = draw(st.sampled_from(["as is", "as is", "lower", "comments", "breaks"]))
    if spelling == "comments":
        query = query.replace(" ", "/**/")
    if spelling == "breaks":
        query = query.replace(" ", "\n\t")
    return query, spelling == "lower"


def _filled(top: Path, query: str, *, lower: bool = False) -> str:
    made = query.lower() if lower else query
    for name, value in (("{f}", f"{top}/secret.csv"), ("{d}", str(top)), ("{o}", f"{top}/out")):
        made = made.replace(name, value)
    return made


@pytest.mark.parametrize("query", ATTACKS)
def test_every_attack_alone(top: Path, query: str) -> None:
    """Each attack by itself is refused or finds nothing."""
    _ask(top, _filled(top, query))


@fuzzed(100)
@given(statements())
def test_wrapped_attacks(top: Path, statement: tuple[str, bool]) -> None:
    """Wrapped up, commented, smuggled behind a harmless statement: no secret is read, no file made or changed."""
    query, lower = statement
    _ask(top, _filled(top, query, lower=lower))


@pytest.mark.parametrize("arguments", ["'{f}'", "'{f}', '{o}'"])
def test_every_function_there_is(top: Path, arguments: str) -> None:
    """Each table function and pragma that this DuckDB has, asked for by name with the secret's path, gives nothing of it."""
    lake = Lake.open(str(top / "lake"))
    names = lake.sql("SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN ('table', 'pragma')")
    before = _everything(top)
    for name in sorted(names["function_name"].to_pylist()):
        query = _filled(top, f'FROM "{name}"({arguments})')
        try:
            assert _SECRET not in str(lake.sql(query)), query
        except CondvestError as error:
            assert _SECRET not in str(error)
    assert _everything(top) == before


@fuzzed(60)
@given(
    st.one_of(
        st.text(max_size=30),
        TEXTS,
        st.sampled_from(
            [
                "SELECT '\ud800'",
                "SELECT ?",
                "SELECT $a",
                "(" * 2000,
                "SELECT " + "(" * 900 + "1" + ")" * 900,
                "SELECT date 'infinity'",
                "SELECT 1 a, 2 a",
                "SELECT timestamp_ns '2020-01-01 00:00:00.000000001'",
                "SELECT '500000-01-01'::date",
                "FROM test_all_types()",
                "SELECT [timestamp_ns '1999-01-01 00:00:00.000000001']",
                "SELECT 12::bit, 'x'::blob, interval 1 month, 1::hugeint, MAP {1: 2}, '12:00:00.000000001'::time_ns",
                "SELECT now()",
                "SELECT 'é' AS \"\n\"",
                "PIVOT symbols ON symbol",
                "SELECT '0001-01-01'::timestamptz - interval 9000 year",
                "SELECT 'nan'::double, 'inf'::float, -0.0",
                "FROM symbols LIMIT 0",
                "SELECT error('x\ny')",
                "SELECT 1/0",
            ]
        ),
    )
)
def test_any_text(top: Path, query: str) -> None:
    """Whatever stands where a query should, and whatever types come of it, ends in a table or one line that says why not."""
    _ask(top, query)


_DATES = st.one_of(st.none(), st.dates(), st.datetimes(), HOSTILE, st.sampled_from([date.min, date.max]))


@fuzzed(150)
@given(
    st.one_of(st.sampled_from(["AAPL", "BCpC"]), TEXTS, st.text(max_size=8), HOSTILE),
    st.one_of(st.sampled_from(["1d", "2d", "13d", "99999d", "0d", "100000d", "٣d", "1d\n", ""]), HOSTILE),
    _DATES,
    _DATES,
    st.one_of(st.sampled_from(["none", "splits", "all"]), HOSTILE),
    st.one_of(
        st.none(),
        st.datetimes(),
        st.datetimes(timezones=st.just(UTC)),
        HOSTILE,
        st.sampled_from([datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)]),
    ),
    st.one_of(st.sampled_from(["calendar", "listing"]), HOSTILE),
)
def test_bars(
    top: Path, symbol: Any, interval: Any, first: Any, last: Any, adjusted: Any, as_of: Any, anchor: Any
) -> None:
    """Arguments of any type: bars of that symbol, or ConfigError; no other error, and nothing is written."""
    lake = Lake.open(str(top / "lake"))
    try:
        bars = lake.bars(
            symbol, interval=interval, first=first, last=last, adjusted=adjusted, as_of=as_of, anchor=anchor
        )
    except ConfigError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 700
    else:
        assert set(bars["symbol"].to_pylist()) <= {symbol}
        assert str(interval).endswith("d")
    assert (lake.store.meter.puts, lake.store.meter.deletes) == (0, 0)


@fuzzed(40)
@given(_DATES)
def test_restatements(top: Path, session: Any) -> None:
    """A session that is none is refused; one of which nothing landed has no restatements."""
    try:
        assert Lake.open(str(top / "lake")).restatements(session).num_rows == 0 or session in SPAN
    except ConfigError as error:
        assert "\n" not in str(error)


@fuzzed(60)
@given(st.one_of(HOSTILE, st.text(max_size=12).map(lambda text: f"./{text}"), TEXTS))
def test_open(url: Any) -> None:
    """An address that is none is refused in one line, and nothing is made there."""
    if isinstance(url, str) and url.startswith("/"):
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        try:
            Lake.open(url)
        except CondvestError as error:
            assert "\n" not in str(error)
        assert list(Path(folder).iterdir()) == []
