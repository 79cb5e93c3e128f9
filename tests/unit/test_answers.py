"""Reading the provider's answers: sound rows become bars, broken ones keep their reason, broken answers are refused."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condvest.demo.market import new_york_ms
from condvest.domain import answers
from condvest.domain.answers import ParsedBars, gunzip, parse_flat_file, parse_grouped, parse_range, parse_session
from condvest.domain.bars import ANSWER_SCHEMA
from condvest.domain.flat_file import read_lines
from condvest.errors import DataError
from property import oracle
from property.oracle import Values

DAY = date(2024, 3, 8)
NEXT = date(2024, 3, 11)  # the clocks changed between the two
SOUND: dict[str, Any] = {"T": "AAPL", "o": 10.0, "h": 12.0, "l": 9.0, "c": 11.0, "v": 100.5, "vw": 10.5, "n": 7}
HEADER = "ticker,volume,open,close,high,low,window_start,transactions"


def grouped(*rows: object, **frame: object) -> ParsedBars:
    """Read a grouped answer made of rows."""
    return parse_grouped(json.dumps({"adjusted": False, "results": list(rows), **frame}).encode(), DAY)


def ranged(*rows: dict[str, Any], symbol: str = "AAPL", **frame: object) -> ParsedBars:
    """Read a range answer made of rows."""
    return parse_range(json.dumps({"ticker": symbol, "results": list(rows), **frame}).encode(), symbol)


def flat(*lines: str, header: str = HEADER) -> ParsedBars:
    """Read a flat file made of lines."""
    return parse_flat_file("\n".join([header, *lines, ""]).encode(), DAY)


def flat_line(ticker: str = "AAPL", start: object = new_york_ms(DAY, 0) * 10**6, count: object = 7) -> str:
    """Return a sound line."""
    return f"{ticker},100.5,10.0,11.0,12.0,9.0,{start},{count}"


def plain(parsed: ParsedBars) -> dict[tuple[str, date], Values]:
    """Return the bars as plain values."""
    return {(row.pop("symbol"), row.pop("date")): Values(**row) for row in parsed.bars.to_pylist()}


def rules(parsed: ParsedBars) -> list[tuple[str, str]]:
    """Return symbol and broken rule of each reject."""
    return [(reject.symbol, reject.rule) for reject in parsed.rejects]


@st.composite
def messy_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw rows of which many break a rule, some stand twice, and some lack what is optional, or what is not."""
    rand = random.Random(draw(st.integers(0, 10**6)))
    wild = [None, 0, -1, -0.5, float("nan"), float("inf"), 3, 8.25, 10**17]
    rows: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 8))):
        row = SOUND | {"T": rand.choice(["AAPL", "BCPC", "BCpC", "A B", "../x", "", "x" * 33])}
        for key in rand.sample(["o", "h", "l", "c", "v", "vw"], rand.choice([0, 0, 1, 2])):
            row[key] = rand.choice(wild)
        for key in rand.sample(["o", "v", "vw", "n"], rand.choice([0, 0, 1])):
            del row[key]
        row["n"] = rand.choice([None, 0, 5, -1]) if rand.random() < 0.3 else row.get("n")
        rows += [row, *([dict(row)] if rand.random() < 0.1 else [])]
    return rows


@settings(deadline=None)
@given(messy_rows())
def test_a_grouped_answer_equals_plain_python(rows: list[dict[str, Any]]) -> None:
    """Whatever the rows: the sound ones become bars, sorted, of the session asked for; every other one is a reject."""
    parsed = grouped(*rows)
    assert plain(parsed) == oracle.sound_rows((row["T"], DAY, row) for row in rows)
    assert parsed.bars.schema == ANSWER_SCHEMA
    assert parsed.bars["symbol"].to_pylist() == sorted(parsed.bars["symbol"].to_pylist())
    assert parsed.total == len(rows)
    twice = parsed.total - parsed.bars.num_rows - len(parsed.rejects)
    assert 0 <= twice <= sum(rows.count(row) > 1 for row in rows), "a row was dropped silently"


@settings(deadline=None)
@given(messy_rows(), st.randoms(use_true_random=False))
def test_the_digest_is_of_the_values_alone(rows: list[dict[str, Any]], rand: random.Random) -> None:
    """Neither the order of rows nor the request's id changes a digest; another value, or an absent one, does."""
    shuffled = rand.sample(rows, len(rows))
    digest = grouped(*rows).digest
    assert grouped(*shuffled, request_id="another", status="DELAYED").digest == digest
    assert len(digest) == 16
    extra = {**SOUND, "T": "ZZZ"}
    others = [
        grouped(*rows, extra | change).digest for change in ({}, {"v": 0.0}, {"v": -1}, {"vw": None}, {"vw": 0.0})
    ]
    assert len({digest, *others}) == 6


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"T": "A/B"}, "symbol"),
        ({"T": None}, "symbol"),
        ({"T": 5}, "malformed"),
        ({"T": "\ud800"}, "malformed"),
        ({"o": 0}, "price"),
        ({"c": float("nan")}, "price"),
        ({"h": None}, "price"),
        ({"l": "9"}, "malformed"),
        ({"o": True}, "malformed"),
        ({"n": False}, "malformed"),
        ({"h": 8.0}, "high_below_low"),
        ({"v": -1}, "volume"),
        ({"v": float("inf")}, "volume"),
        ({"v": None}, "volume"),
        ({"v": 1.7e308}, "volume"),
        ({"h": 1e31}, "price"),
        ({"vw": 1e31}, "vwap"),
        ({"v": 10**400}, "malformed"),
        ({"v": [1]}, "malformed"),
        ({"vw": -1.0}, "vwap"),
        ({"vw": float("nan")}, "vwap"),
        ({"n": -1}, "transactions"),
        ({"n": 10**10 + 1}, "transactions"),
        ({"n": 2**62}, "transactions"),
        ({"n": 1.5}, "malformed"),
        ({"n": 2**63}, "malformed"),
    ],
)
def test_a_broken_row_names_its_rule_and_spoils_no_other(change: dict[str, Any], rule: str) -> None:
    """One row that cannot be goes aside with its rule, its reason and itself; the rest of the session lands."""
    row = SOUND | change
    parsed = grouped(SOUND | {"T": "IBM"}, row)
    assert [symbol for symbol, _ in plain(parsed)] == ["IBM"]
    (reject,) = parsed.rejects
    assert (reject.rule, reject.session) == (rule, DAY)
    assert reject.detail
    assert repr(json.loads(reject.raw)) == repr(dict(sorted(row.items())))
    assert parsed.total == 2


def test_a_row_that_is_no_object_is_a_reject() -> None:
    """A number or a list among the rows is kept as what it was."""
    parsed = grouped(SOUND, 5, [1])
    assert rules(parsed) == [("", "malformed"), ("", "malformed")]
    assert len(plain(parsed)) == 1


def test_whole_numbers_are_good_where_floats_are_wanted() -> None:
    """Prices without a point, a volume beyond 2^53 and a count such as 7.0 are numbers like others."""
    parsed = grouped(SOUND | {"o": 10, "v": 2**60 + 1, "n": 7.0})
    assert plain(parsed) == {("AAPL", DAY): Values(10.0, 12.0, 9.0, 11.0, float(2**60 + 1), 10.5, 7)}


def test_two_different_rows_of_one_symbol_are_both_set_aside() -> None:
    """Nobody can tell which is right; equal ones count once, and so does a symbol of other case."""
    parsed = grouped(SOUND, SOUND | {"c": 10.5}, SOUND | {"T": "aapl"}, SOUND | {"T": "IBM"}, SOUND | {"T": "IBM"})
    assert rules(parsed) == [("AAPL", "duplicate"), ("AAPL", "duplicate")]
    assert [symbol for symbol, _ in plain(parsed)] == ["IBM", "aapl"]


def test_an_answer_without_rows_is_read_as_empty() -> None:
    """A missing or empty `results` gives no bars and a total of 0: the caller decides what that means."""
    for body in (b'{"status":"OK"}', b'{"results":[]}', b'{"results":null}'):
        parsed = parse_grouped(body, DAY)
        assert (parsed.total, parsed.bars.num_rows, parsed.rejects) == (0, 0, ())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"results":[{"T":"A"', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected a JSON object, found list"),
        (b'{"results":5}', "`results` is a int"),
        (b'{"adjusted":true,"results":[]}', "prices are adjusted"),
    ],
)
def test_a_broken_answer_is_refused_in_one_line(body: bytes, said: str) -> None:
    """What is no answer at all is no empty answer either; the message names the session and the remedy."""
    with pytest.raises(DataError, match=f"{DAY}.*{said}") as error:
        parse_grouped(body, DAY)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=f"AAPL.*{said}") as error:
        parse_range(body, "AAPL")
    assert "\n" not in str(error.value)


def test_the_session_of_a_grouped_answer_is_the_one_asked_for() -> None:
    """`t` is the end of the window there and decides nothing, even where it is another day's or none."""
    for t in (new_york_ms(DAY, 16), new_york_ms(NEXT, 16), None, "x"):
        assert list(plain(grouped(SOUND | {"t": t}))) == [("AAPL", DAY)]


def test_a_range_answer_has_the_new_york_date_of_its_start() -> None:
    """`t` is the start of the window there, 00:00 in New York, in winter and in summer time."""
    rows = [SOUND | {"t": new_york_ms(day, 0)} for day in (NEXT, DAY)]
    assert list(plain(ranged(*rows))) == [("AAPL", DAY), ("AAPL", NEXT)]
    bars = ranged({**SOUND, "T": "other", "t": new_york_ms(DAY, 0)}, symbol="BCpC").bars
    assert bars["symbol"].to_pylist() == ["BCpC"]


def test_rules_of_a_range_are_applied_a_session_at_a_time() -> None:
    """The same symbol in two sessions is no duplicate; twice in one session it is, and the other session lands."""
    first, second = SOUND | {"t": new_york_ms(DAY, 0)}, SOUND | {"t": new_york_ms(NEXT, 0)}
    parsed = ranged(second, first, second | {"c": 10.5})
    assert list(plain(parsed)) == [("AAPL", DAY)]
    assert [(reject.rule, reject.session) for reject in parsed.rejects] == [("duplicate", NEXT), ("duplicate", NEXT)]


@pytest.mark.parametrize("t", [None, "1709874000000", True, float("nan"), 10**30, -(10**15), -62135596800000])
def test_a_range_row_without_a_time_refuses_the_answer(t: object) -> None:
    """A row whose session nobody can tell must not land on some day."""
    with pytest.raises(DataError, match="no time in milliseconds"):
        ranged(SOUND | {"t": t})


def test_a_range_of_another_symbol_is_refused() -> None:
    """Case matters: an answer for BCpC is none for BCPC."""
    with pytest.raises(DataError, match="'BCpC', not for 'BCPC'"):
        parse_range(b'{"ticker":"BCpC","results":[]}', "BCPC")


def test_a_flat_file_has_the_same_rows() -> None:
    """CSV gives the same bars as JSON, but for vwap, which it lacks; an empty count is absent."""
    parsed = parse_session("flat_files", f"{HEADER}\n{flat_line()}\n{flat_line('BRK.B', count='')}\n".encode(), DAY)
    bar = Values(10.0, 12.0, 9.0, 11.0, 100.5, None, 7)
    assert plain(parsed) == {("AAPL", DAY): bar, ("BRK.B", DAY): bar._replace(transactions=None)}
    assert parse_session("grouped", b"{}", DAY).total == 0


@pytest.mark.parametrize("ticker", ["NA", "NAN", "ON", "TRUE", "null", "1E5"])
def test_tickers_that_look_like_something_else_stay_tickers(ticker: str) -> None:
    """No reader of CSV guesses at types here."""
    assert list(plain(flat(flat_line(ticker)))) == [(ticker, DAY)]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("AAPL,100.5,10.0", "price"),
        (f"AAPL,nan,10.0,11.0,12.0,9.0,{new_york_ms(DAY, 0) * 10**6},7", "malformed"),
        (f"AAPL,1_000,10.0,11.0,12.0,9.0,{new_york_ms(DAY, 0) * 10**6},7", "malformed"),
        (f"AAPL,1,,11.0,12.0,9.0,{new_york_ms(DAY, 0) * 10**6},7", "malformed"),
        (f"AAPL,1,1e400,11.0,12.0,9.0,{new_york_ms(DAY, 0) * 10**6},7", "price"),
        (flat_line(count="7.5"), "malformed"),
    ],
)
def test_a_broken_line_of_a_flat_file_is_a_reject(line: str, rule: str) -> None:
    """A short line, a word for a number, a number no float holds: set aside with what stood there."""
    parsed = flat(line, flat_line("IBM"))
    assert rules(parsed) == [("AAPL", rule)]
    assert list(plain(parsed)) == [("IBM", DAY)]


@pytest.mark.parametrize("start", [new_york_ms(NEXT, 0) * 10**6, new_york_ms(DAY, 0), 10**40])
def test_a_flat_file_of_another_day_is_refused(start: int) -> None:
    """Nanoseconds of another session, milliseconds, or a number that is no time: the whole file is not believed."""
    with pytest.raises(DataError, match=f"{DAY}.*window_start"):
        flat(flat_line("IBM"), flat_line(start=start))


@pytest.mark.parametrize("header", ["", "ticker,volume", HEADER.replace("open,close", "close,open")])
def test_a_flat_file_with_other_columns_is_refused(header: str) -> None:
    """Columns are held against their names, never taken by their place alone."""
    with pytest.raises(DataError, match="columns are"):
        flat(flat_line(), header=header)


def test_a_flat_file_that_is_no_text_is_refused() -> None:
    """Bytes that are no UTF-8, and a line without an end, are one clear line."""
    with pytest.raises(DataError, match="not CSV in UTF-8"):
        parse_flat_file(b"\xff\xfe" + HEADER.encode(), DAY)


def test_window_start_is_in_nanoseconds() -> None:
    """The start of a session in New York lies on the day before in UTC's west and is still its own."""
    start = int(datetime(2024, 3, 8, 5, tzinfo=UTC).timestamp()) * 10**9
    assert list(plain(flat(flat_line(start=start)))) == [("AAPL", DAY)]


_NUMBERS = st.sampled_from(["1", "12.5", "0", "-1", "+3", "007", "1e3", "1E-2", ".5", "5.", "9007199254740993", "1e30"])
_ODD_NUMBERS = st.sampled_from(
    ["", "nan", "inf", "1e400", "1e31", "0x1F", "1_0", "-", " 1", "1 ", '"2"', "9" * 20, "\u0661"]
)
_TICKERS = st.sampled_from(["A", "AA", "B.X", "", "null", "NA", " A", "\u00e9", "ON", "1", '"Q"'])


@st.composite
def flat_bodies(draw: st.DrawFn) -> bytes:
    """Return flat files of which most are sound but for one place."""
    start = str(new_york_ms(DAY, 0) * 10**6)
    lines = [
        [ticker, "100.5", "10.0", "11.0", "12.0", "9.0", start, "7"] for ticker in draw(st.lists(_TICKERS, max_size=5))
    ]
    for _ in range(draw(st.integers(0, 2)) if lines else 0):
        line = draw(st.sampled_from(lines))
        place = draw(st.integers(0, 7))
        line[place] = draw(_TICKERS if place == 0 else _NUMBERS | _ODD_NUMBERS)
    end = draw(st.sampled_from(["\n", "", "\n\n", "\r\n", ",\n"]))
    return ("\n".join([HEADER, *map(",".join, lines)]) + end).encode()


@given(flat_bodies())
@settings(max_examples=400)
def test_a_flat_file_read_by_columns_is_what_its_lines_say(body: bytes) -> None:
    """The quick way for the usual file and the careful way line by line never differ, in bars, rejects or refusal."""

    def read(how: Callable[[bytes, date], ParsedBars]) -> object:
        try:
            parsed = how(body, DAY)
        except DataError as error:
            return str(error)
        return parsed.bars.to_pylist(), parsed.bars.schema, parsed.rejects, parsed.total, parsed.digest

    assert read(parse_flat_file) == read(read_lines)


@pytest.mark.parametrize("deep", [60, 500, 900])
def test_nesting_that_could_not_be_kept_is_refused(deep: int) -> None:
    """A row that must go to quarantine is never too deep to be written there, however deep the parser could still read."""
    body = b'{"results": [{"T": "A", "o": ' + b"[" * deep + b"]" * deep + b"}]}"
    with pytest.raises(DataError):
        parse_grouped(body, date(2024, 3, 4))


def test_an_open_quote_takes_no_rows_with_it() -> None:
    """A quote that is never closed would make one row of all the later ones: the file is refused."""
    head = "ticker,volume,open,close,high,low,window_start,transactions\n"
    row = "A,1,1,1,1,1,1709528400000000000,1\n"
    with pytest.raises(DataError, match="not CSV"):
        parse_flat_file((head + '"' + row * 3).encode(), date(2024, 3, 4))


def test_a_flat_row_of_no_day_is_set_apart() -> None:
    """A row whose `window_start` is no number may be of any day: it is not taken for one of this session."""
    head = "ticker,volume,open,close,high,low,window_start,transactions\n"
    parsed = parse_flat_file((head + "A,1,1,1,1,1,x,1\nB,1,1,1,1,1,1709528400000000000,1\n").encode(), date(2024, 3, 4))
    assert parsed.bars["symbol"].to_pylist() == ["B"]
    assert [reject.symbol for reject in parsed.rejects] == ["A"]


def test_a_count_that_no_float_holds_is_set_apart() -> None:
    """Period bars are summed in floats: counts whose sum is beyond 2^53 would end every resample, so such a row is no bar."""
    row = '{"T": "%s", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1, "n": %d}'
    body = '{"results": [' + row % ("A", 10**10) + "," + row % ("B", 10**10 + 1) + "," + row % ("C", 2**63 - 1) + "]}"
    parsed = parse_grouped(body.encode(), date(2024, 3, 4))
    assert parsed.bars["symbol"].to_pylist() == ["A"]
    assert [(reject.symbol, reject.rule) for reject in parsed.rejects] == [("B", "transactions"), ("C", "transactions")]


def test_a_gzip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a file is, it never unpacks to more than an answer may have; its parts count together."""
    monkeypatch.setattr(answers, "MOST_BODY_BYTES", 1 << 20)
    whole, part = gzip.compress(bytes(1 << 20)), gzip.compress(bytes(600_000))
    assert len(gunzip(whole)) == 1 << 20
    for bomb in (gzip.compress(bytes((1 << 20) + 1)), part + part, whole + gzip.compress(b"1")):
        with pytest.raises(DataError, match="no answer"):
            gunzip(bomb)


@given(st.lists(st.binary(max_size=200), max_size=4), st.integers(0, 3))
@settings(database=None, derandomize=True)
def test_gunzip_is_what_gzip_does(parts: list[bytes], zeros: int) -> None:
    """Files of several members, empty ones and padding too; but nothing at all is no file."""
    packed = b"".join(gzip.compress(part, mtime=0) for part in parts) + bytes(zeros if parts else 0)
    if not packed:
        with pytest.raises(EOFError):
            gunzip(packed)
        return
    assert gunzip(packed) == gzip.decompress(packed) == b"".join(parts)
    with pytest.raises((EOFError, zlib.error)):
        gunzip(packed.rstrip(b"\0")[:-9])
