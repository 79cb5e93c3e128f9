"""The provider's bodies: each becomes bars that keep every rule, with every other row accounted for, or a refusal."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import fields
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest.domain.answers import ParsedBars, parse_flat_file, parse_grouped, parse_range
from condvest.domain.bars import ANSWER_SCHEMA, broken_rules
from condvest.domain.calendar import Calendar
from condvest.domain.metadata import closures_of, details_of, dividend_of, parse_rows, split_of, symbol_of
from condvest.domain.symbols import is_valid_symbol
from condvest.errors import DataError, TransientError
from condvest.sources import polygon
from condvest.sources.flat_files import _unpacked
from condvest.sources.http import decode_json
from fuzz.strategies import bodies, damaged, everywhere, fuzzed, spoiled

SESSION = date(2024, 3, 4)
_NOON = 1709571600000
ROWS = [
    {"T": symbol, "o": 10.5, "h": 12, "l": 9.25, "c": 11, "v": 1000.5, "vw": 10.75, "t": _NOON, "n": 12}
    for symbol in ("AAPL", "BCPC", "BCpC")
]
GROUPED: dict[str, Any] = {
    "status": "OK",
    "adjusted": False,
    "queryCount": 3,
    "resultsCount": 3,
    "results": ROWS,
    "request_id": "1",
}
RANGE: dict[str, Any] = {
    "ticker": "AAPL",
    "adjusted": False,
    "results": [{**ROWS[0], "t": _NOON + day * 86_400_000} for day in range(3)],
}
FLAT = (
    "ticker,volume,open,close,high,low,window_start,transactions\n"
    "AAPL,1000.5,10.5,11,12,9.25,1709528400000000000,12\n"
    "BCpC,7,1,1,1,1,1709528400000000000,\n"
)
TICKER = {
    "ticker": "AAPL",
    "name": "Apple",
    "active": True,
    "type": "CS",
    "market": "stocks",
    "delisted_utc": "2024-01-02T00:00:00Z",
}
DETAILS = {"ticker": "AAPL", "list_date": "1980-12-12", "market_cap": 3e12, "sic_code": "3571"}
SPLIT = {
    "ticker": "AAPL",
    "execution_date": "2020-08-31",
    "split_from": 1,
    "split_to": 4,
    "adjustment_type": "forward_split",
}
DIVIDEND = {
    "ticker": "AAPL",
    "ex_dividend_date": "2024-02-09",
    "cash_amount": 0.24,
    "currency": "USD",
    "distribution_type": "r",
}
UPCOMING = {"exchange": "NYSE", "status": "closed", "date": "2024-03-05", "name": "x"}


def assert_sound(parsed: ParsedBars) -> None:
    """Hold parsed bars against the rules of bars, and count every row of the answer."""
    bars = parsed.bars
    assert bars.schema == ANSWER_SCHEMA
    assert not any(mask.true_count for mask in broken_rules(bars).values())
    names = list(zip(bars["date"].to_pylist(), bars["symbol"].to_pylist(), strict=True))
    assert names == sorted(set(names))
    assert len(parsed.digest) == 16
    for reject in parsed.rejects:
        json.loads(reject.raw)
        assert reject.detail


def assert_accounted(parsed: ParsedBars, rows: list[Any], symbol: str | None = None) -> None:
    """Hold bars and rejects against the rows that came: none is lost, none has another symbol."""
    assert parsed.total == len(rows)
    given = [row.get("T", None) if symbol is None else symbol for row in rows if isinstance(row, dict)]
    kept = parsed.bars["symbol"].to_pylist()
    assert set(kept) <= {name for name in given if isinstance(name, str) and is_valid_symbol(name)}
    surplus = parsed.total - len(kept) - len(parsed.rejects)
    assert surplus >= 0
    refused = Counter(reject.symbol for reject in parsed.rejects)
    for name in {name for name in given if isinstance(name, str) and is_valid_symbol(name)}:
        assert name in kept or refused[name], name
    if surplus:  # equal rows count once
        assert (
            surplus <= len(rows) - len({json.dumps(row, sort_keys=True) for row in rows})
            or symbol
            or len(set(given)) < len(given)
        )


@fuzzed(400)
@given(bodies(GROUPED))
def test_grouped(body: bytes) -> None:
    """A grouped answer is read whole, or refused whole."""
    try:
        parsed = parse_grouped(body, SESSION)
    except DataError as error:
        assert "\n" not in str(error)
        return
    assert_sound(parsed)
    assert set(parsed.bars["date"].to_pylist()) <= {SESSION}
    assert_accounted(parsed, json.loads(body).get("results") or [])


@fuzzed(400)
@given(bodies(RANGE))
def test_range(body: bytes) -> None:
    """A range answer is read whole, or refused whole, and never takes another symbol's bars."""
    try:
        parsed = parse_range(body, "AAPL")
    except DataError:
        return
    assert_sound(parsed)
    assert_accounted(parsed, json.loads(body).get("results") or [], "AAPL")


@st.composite
def _csv(draw: st.DrawFn) -> bytes:
    lines = [line.split(",") for line in FLAT.splitlines()]
    return "\n".join(",".join(map(str, line)) for line in draw(spoiled(lines)) if isinstance(line, list)).encode(
        errors="replace"
    )


@fuzzed(400)
@given(st.one_of(damaged(FLAT.encode()), _csv(), st.binary(max_size=60)))
def test_flat_file(body: bytes) -> None:
    """A flat file is read whole, or refused whole."""
    try:
        parsed = parse_flat_file(body, SESSION)
    except DataError:
        return
    assert_sound(parsed)
    assert set(parsed.bars["date"].to_pylist()) <= {SESSION}
    assert set(parsed.bars["symbol"].to_pylist()) <= {
        line.split(",")[0].strip('"') for line in body.decode().splitlines()
    }


@fuzzed(100)
@given(damaged(gzip.compress(FLAT.encode(), mtime=0)))
def test_packed_flat_file(packed: bytes) -> None:
    """A damaged gzip file is asked for again, never half of it taken."""
    try:
        body, parsed = _unpacked(packed, SESSION)
    except TransientError:
        return
    assert body == FLAT.encode()
    assert_sound(parsed)


@fuzzed(400)
@given(st.one_of(*(bodies({"status": "OK", "results": [row], "count": 1}) for row in (TICKER, SPLIT, DIVIDEND))))
def test_listing(body: bytes) -> None:
    """A row of a listing is read or told apart with the reason; what is read has sound values."""
    try:
        page = polygon._decode_page(body)
    except DataError:
        return
    now = datetime(2024, 3, 4, tzinfo=UTC)
    rows = page["results"]
    for parse in (symbol_of, partial(split_of, seen=now), partial(dividend_of, seen=now), partial(details_of, now=now)):
        good, bad = parse_rows(rows, parse)
        assert len(good) + len(bad) == len(rows)
        for one in cast(list[Any], good):
            symbol = getattr(one, "symbol", None)
            assert is_valid_symbol(str(symbol))
            assert symbol in [row.get("ticker") for row in rows]
            texts = [getattr(one, each.name) for each in fields(one)]
            assert not any("\0" in text for text in texts if isinstance(text, str))
            assert "\\ud8" not in ascii([text for text in texts if isinstance(text, str)])


@fuzzed(200)
@given(bodies({"results": DETAILS, "status": "OK"}))
def test_details(body: bytes) -> None:
    """Details are one object, read or told apart."""
    try:
        row = polygon._decode_details(body)
    except DataError:
        return
    good, bad = parse_rows([row], partial(details_of, now=datetime(2024, 3, 4, tzinfo=UTC)))
    assert len(good) + len(bad) == 1


@fuzzed(200)
@given(bodies([UPCOMING]))
def test_upcoming(body: bytes) -> None:
    """Announced closures are sessions of the calendar, or the answer is refused."""
    try:
        days = closures_of(polygon._decode_rows(body), Calendar.shipped().is_session)
    except (DataError, ValueError):
        return
    assert all(map(Calendar.shipped().is_session, days))


@pytest.mark.parametrize(
    ("test", "valid"),
    [
        (test_grouped, GROUPED),
        (test_range, RANGE),
        *((test_listing, {"status": "OK", "results": [row]}) for row in (TICKER, SPLIT, DIVIDEND)),
        (test_details, {"results": DETAILS, "status": "OK"}),
        (test_listing, {"results": [DETAILS]}),
        (test_upcoming, [UPCOMING]),
    ],
)
def test_each_hostile_value_in_each_place(test: Any, valid: Any) -> None:
    """What chance may pass over: every value that ever was trouble, wherever an answer has one."""
    for body in everywhere(valid):
        test.hypothesis.inner_test(body)


@pytest.mark.parametrize("decode", [decode_json, polygon._decode_page, polygon._decode_rows, polygon._decode_details])
@pytest.mark.parametrize("deep", [300, 900, 960, 980, 990, 5000])
def test_deep_nesting(decode: Any, deep: int) -> None:
    """Nesting at whatever depth is read or refused: no depth lies between what is read and what is then handled."""
    body = b'{"results": [{"ticker": "AAPL", "T": "AAPL", "t": 1, "o": ' + b"[" * deep + b"]" * deep + b"}]}"
    for read in (decode, partial(parse_grouped, session=SESSION), partial(parse_range, symbol="AAPL")):
        try:
            read(body)
        except DataError as error:
            assert len(str(error)) < 400
