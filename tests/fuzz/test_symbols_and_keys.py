"""Symbols and keys: exact both ways, never two for one, never outside the lake's folder, whatever the text."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest.domain.symbols import decode_symbol, encode_symbol, is_valid_symbol, parse_symbols
from condvest.errors import CondvestError, ConfigError
from condvest.storage import layout
from condvest.storage.keys import check_key
from condvest.storage.opening import open_store
from fuzz.strategies import TEXTS, fuzzed

_AT = datetime(2025, 11, 19, 21, 5, tzinfo=UTC)
_DIGEST = "0123456789abcdef"
_PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=34)
SYMBOLS = st.one_of(
    _PRINTABLE,
    st.text(max_size=34),
    TEXTS,
    st.sampled_from(
        [
            "CON",
            "con",
            "COM1.X",
            "A.",
            "A..B",
            "A%41",
            "a\u0301",
            "Ａ",
            "K",
            "A\n",
            "nul.txt",
            "\ud800",
            "AUX",
            "A:B",
            "~",
        ]
    ),
)
_PARSERS = (
    layout.parse_bronze_key,
    layout.parse_landing_key,
    layout.parse_quarantine_key,
    layout.parse_quarantined_file_key,
    layout.parse_silver_key,
    layout.parse_fetched_key,
)


@fuzzed(400)
@given(SYMBOLS, st.dates())
def test_round_trip(symbol: str, day: date) -> None:
    """A possible symbol comes back exactly from every key; an impossible one makes none."""
    if not is_valid_symbol(symbol):
        with pytest.raises(ConfigError):
            layout.data_key(symbol)
        return
    daily, data = layout.daily_key(symbol, day), layout.data_key(symbol)
    landed = layout.range_landing_key(symbol, _AT, _DIGEST, day, day)
    kept = layout.quarantined_file_key(symbol, _DIGEST)
    assert layout.parse_bronze_key(daily) == layout.BronzeKey(symbol, day)
    assert layout.parse_bronze_key(data) == layout.BronzeKey(symbol, None)
    assert layout.parse_landing_key(landed) == layout.LandingKey("range", None, symbol, _AT, _DIGEST, day, day)
    assert layout.parse_quarantined_file_key(kept) == layout.QuarantinedFileKey(symbol, _DIGEST)
    for key in (daily, data, landed, kept):
        assert key.isascii()
        assert check_key(key) == key
        assert ".." not in key
    assert decode_symbol(encode_symbol(symbol)) == symbol


@fuzzed(300)
@given(SYMBOLS, SYMBOLS)
def test_injective_without_case(one: str, other: str) -> None:
    """Two symbols never share a folder, not even where a file system takes no notice of case."""
    if is_valid_symbol(one) and is_valid_symbol(other) and one != other:
        assert encode_symbol(one).casefold() != encode_symbol(other).casefold()


@st.composite
def _keys(draw: st.DrawFn) -> str:
    known = [
        layout.data_key("BCpC"),
        layout.daily_key("CON", date(2025, 11, 19)),
        layout.landing_key("grouped", date(2025, 11, 19), _AT, _DIGEST),
        layout.range_landing_key("A", _AT, _DIGEST, date(2025, 1, 2), date(2025, 1, 3)),
        layout.quarantine_key(date(2025, 11, 19), _AT, _DIGEST),
        layout.silver_key(13, 2025, 11),
        layout.quarantined_file_key("A", _DIGEST),
    ]
    key = draw(st.sampled_from(known))
    at = draw(st.integers(0, len(key)))
    piece = draw(
        st.one_of(TEXTS, st.text(max_size=2), st.sampled_from(["%2F", "%2E%2E", "/", "//", "/../", "0", "%43"]))
    )
    return key[:at] + piece + key[at + draw(st.integers(0, 2)) :]


@fuzzed(500)
@given(st.one_of(_keys(), st.text(max_size=30)))
def test_foreign_keys(key: str) -> None:
    """A key is parsed only if it is exactly what is built from what it parses to: any other is passed over."""
    for parse in _PARSERS:
        found = parse(key)
        match found:
            case layout.BronzeKey(symbol, None):
                built = layout.data_key(symbol)
            case layout.BronzeKey(symbol, day) if day is not None:
                built = layout.daily_key(symbol, day)
            case layout.SilverKey(sessions, year, month):
                built = layout.silver_key(sessions, year, month)
            case layout.QuarantineKey(day, at, digest):
                built = layout.quarantine_key(day, at, digest)
            case layout.QuarantinedFileKey(symbol, digest):
                built = layout.quarantined_file_key(symbol, digest)
            case layout.LandingKey("range", None, symbol, at, digest, first, last) if symbol and first and last:
                built = layout.range_landing_key(symbol, at, digest, first, last)
            case layout.LandingKey("confirmed", day, None, at, digest) if day:
                built = layout.confirmed_key(day, at, digest)
            case layout.LandingKey("grouped" | "flat_files" as kind, day, None, at, digest) if day:
                built = layout.landing_key(kind, day, at, digest)
            case layout.LandingKey("tickers" | "details" | "splits" | "dividends" as kind, None, None, at, digest):
                built = layout.listing_landing_key(kind, at, digest)
            case _:
                assert found is None
                continue
        assert built == key


@fuzzed(150)
@given(
    st.one_of(
        _keys(),
        st.text(max_size=30),
        st.sampled_from(
            [
                "../secret",
                "a/../../secret",
                "/secret",
                "out/secret",
                "file/x",
                "a\\..\\b",
                ".condvest/x",
                "a" * 300,
                "C:x",
            ]
        ),
    )
)
def test_no_way_out_of_a_folder(key: str) -> None:
    """Whatever the key, nothing outside the lake's folder is read, written or deleted, through symbolic links neither."""
    with tempfile.TemporaryDirectory() as top:
        outside, lake = Path(top, "outside"), Path(top, "lake")
        outside.mkdir()
        lake.mkdir()
        Path(top, "secret").write_text("secret")
        (outside / "secret").write_text("secret")
        (lake / "out").symlink_to(outside)
        (lake / "file").write_text("x")
        store = open_store(str(lake), fsync=False)
        for act in (
            lambda: store.get(key).data != b"secret",
            lambda: store.put(key, b"new"),
            lambda: store.delete_many([key]),
            lambda: list(store.list(key)),
        ):
            try:
                assert act() is not False
            except CondvestError as error:
                assert "\n" not in str(error)
        assert (Path(top, "secret").read_text(), (outside / "secret").read_text()) == ("secret", "secret")
        assert [path.name for path in outside.iterdir()] == ["secret"]
        assert {path.name for path in Path(top).iterdir()} == {"lake", "outside", "secret"}


@fuzzed(200)
@given(st.one_of(st.text(max_size=20), TEXTS, st.lists(_PRINTABLE, max_size=3).map(",".join)))
def test_lists_of_symbols(text: str) -> None:
    """A list of symbols is taken as it is written, or refused in one line."""
    try:
        found = parse_symbols(text)
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    assert found == list(dict.fromkeys(part.strip() for part in text.split(",")))
    assert all(map(is_valid_symbol, found))
