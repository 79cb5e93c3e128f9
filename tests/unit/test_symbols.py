"""Symbols are checked before they reach a path, and come back from one exactly."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest.domain.symbols import check_symbol, decode_symbol, encode_symbol, is_valid_symbol, parse_symbols
from condvest.errors import ConfigError

POSSIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=32).filter(is_valid_symbol)
SAFE = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-%")
RESERVED = {"CON", "PRN", "AUX", "NUL"} | {f"{device}{n}" for device in ("COM", "LPT") for n in range(10)}
IMPOSSIBLE = [
    "",
    " ",
    " AAPL",
    "AA PL",
    "AAPL\n",
    "A\tB",
    "A\x00",
    "A\x7f",
    "A/B",
    "A\\B",
    "A'B",
    'A"B',
    "A`B",
    "..",
    "A..B",
    ".A",
    "-A",
    "%41",
    "Ä",
    "A\u0660",
    "A" * 33,
]


@pytest.mark.parametrize("symbol", ["A", "AAPL", "BRK.B", "BCpC", "CON", "NA", "TRUE", "BAC-B", "X:Y", "1A", "A" * 32])
def test_real_and_odd_symbols_are_possible(symbol: str) -> None:
    """What a provider can name is taken as it is, in its own case."""
    assert is_valid_symbol(symbol)
    assert check_symbol(symbol) == symbol


@pytest.mark.parametrize("text", IMPOSSIBLE)
def test_impossible_symbols_are_refused_in_one_line(text: str) -> None:
    """A text that could leave its folder or hide in a log is refused, by name, in one line, and is never encoded."""
    assert not is_valid_symbol(text)
    for refuse in (check_symbol, encode_symbol):
        with pytest.raises(ConfigError, match="is not possible: it needs 1 to 32") as refused:
            refuse(text)
        assert "\n" not in str(refused.value)


def test_a_long_text_is_cut_in_the_message() -> None:
    """A whole file given as a symbol does not fill the screen."""
    with pytest.raises(ConfigError) as refused:
        check_symbol("A" * 100_000)
    assert len(str(refused.value)) < 300


def test_parse_symbols_keeps_order_and_drops_repeats() -> None:
    """The list of an option is what was meant: in its order, each once, case kept, spaces around a comma ignored."""
    assert parse_symbols("MSFT, AAPL,MSFT,BCpC,BCPC") == ["MSFT", "AAPL", "BCpC", "BCPC"]


@pytest.mark.parametrize("text", ["", ",", "AAPL,", "AAPL,,MSFT", "AAPL,B/C"])
def test_parse_symbols_refuses_a_bad_or_empty_one(text: str) -> None:
    """A list with a slip in it is refused whole, not trimmed to what happens to be sound."""
    with pytest.raises(ConfigError, match="is not possible"):
        parse_symbols(text)


@pytest.mark.parametrize(
    ("symbol", "encoded"),
    [
        ("AAPL", "AAPL"),
        ("BRK.B", "BRK.B"),
        ("BCpC", "BC%70C"),
        ("A.", "A%2E"),
        ("A%B", "A%25B"),
        ("CON", "%43ON"),
        ("CON.A", "%43ON.A"),
        ("CON.", "%43ON%2E"),
        ("COM0", "%43OM0"),
        ("LPT9", "%4CPT9"),
        ("CONE", "CONE"),
        ("Con", "C%6F%6E"),
        ("A.CON", "A.CON"),
        ("B:C=D*", "B%3AC%3DD%2A"),
    ],
)
def test_encoding_is_fixed(symbol: str, encoded: str) -> None:
    """The name of a symbol's folder never changes: lakes that exist depend on it."""
    assert encode_symbol(symbol) == encoded
    assert decode_symbol(encoded) == symbol


@given(POSSIBLE)
def test_encoding_comes_back_exactly_and_is_safe(symbol: str) -> None:
    """Every possible symbol has a name of safe characters, no device's name, and comes back from it exactly."""
    encoded = encode_symbol(symbol)
    assert decode_symbol(encoded) == symbol
    assert set(encoded) <= SAFE
    assert not encoded.endswith(".")
    assert encoded.split(".")[0] not in RESERVED


@given(POSSIBLE, POSSIBLE)
def test_two_symbols_never_share_a_folder(one: str, other: str) -> None:
    """Names differ even where the file system ignores case (`BCPC` and `BCpC`)."""
    assert (encode_symbol(one).casefold() == encode_symbol(other).casefold()) == (one == other)


@pytest.mark.parametrize(
    "encoded", ["", "CON", "BCpC", "%41APL", "BC%7", "BC%70c", "%2E%2E", "A%2FB", "A%00", "%FF", "A."]
)
def test_a_name_that_encoding_never_gives_is_refused(encoded: str) -> None:
    """A second name for a symbol, or one that hides a path, is no symbol."""
    with pytest.raises(ConfigError, match="is no encoded symbol"):
        decode_symbol(encoded)


@given(st.text(st.sampled_from("ABab.%0247EFef/"), max_size=12))
def test_decoding_takes_only_what_encoding_gives(text: str) -> None:
    """Whatever text a foreign folder has for a name, it is refused or is the one name of its symbol."""
    try:
        symbol = decode_symbol(text)
    except ConfigError:
        return
    assert encode_symbol(symbol) == text


def test_a_market_of_names_leaves_nothing_in_memory() -> None:
    """Memory does not follow the number of symbols that were once looked at."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(10_000):
            assert decode_symbol(encode_symbol(f"S{number}p")) == f"S{number}p"
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000
