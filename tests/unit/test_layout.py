"""Keys: built in one place, parsed back exactly, and never outside the lake."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest.domain.symbols import is_valid_symbol
from condvest.errors import ConfigError
from condvest.storage import layout
from condvest.storage.keys import check_key, check_prefix
from condvest.storage.layout import BronzeKey, LandingKey, QuarantinedFileKey, QuarantineKey, SilverKey

DAY = date(2025, 11, 19)
INSTANT = datetime(2025, 11, 19, 21, 5, 0, 42, UTC)
DIGEST = "0123456789abcdef"
STAMP = f"20251119T210500000042Z-{DIGEST}"

SYMBOLS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=32).filter(is_valid_symbol)
INSTANTS = st.datetimes(timezones=st.just(UTC))
DIGESTS = st.text("0123456789abcdef", min_size=16, max_size=16)
PARSERS = [
    layout.parse_bronze_key,
    layout.parse_landing_key,
    layout.parse_quarantine_key,
    layout.parse_quarantined_file_key,
    layout.parse_silver_key,
    layout.parse_fetched_key,
]


def test_keys_are_those_of_the_format() -> None:
    """Every key is the one that the lake format documents; lakes that exist depend on it."""
    assert layout.data_key("AAPL") == "bronze/raw_ohlcv/symbol=AAPL/data.parquet"
    assert layout.daily_key("BCpC", DAY) == "bronze/raw_ohlcv/symbol=BC%70C/date=2025-11-19.parquet"
    assert (
        layout.landing_key("grouped", DAY, INSTANT, DIGEST) == f"bronze/landing/grouped/date=2025-11-19/{STAMP}.json.gz"
    )
    assert (
        layout.landing_key("flat_files", DAY, INSTANT, DIGEST)
        == f"bronze/landing/flat_files/date=2025-11-19/{STAMP}.csv.gz"
    )
    bounds = (date(2025, 11, 3), date(2025, 11, 19))
    key = f"bronze/landing/range/symbol=%43ON/{STAMP}-2025-11-03_2025-11-19.json.gz"
    assert layout.range_landing_key("CON", INSTANT, DIGEST, *bounds) == key
    assert layout.listing_landing_key("splits", INSTANT, DIGEST) == f"bronze/landing/splits/{STAMP}.json.gz"
    assert layout.listing_landing_key("dividends", INSTANT, DIGEST) == f"bronze/landing/dividends/{STAMP}.json.gz"
    assert layout.confirmed_key(DAY, INSTANT, DIGEST) == f"bronze/landing/confirmed/date=2025-11-19/{STAMP}.json"
    assert layout.quarantine_key(DAY, INSTANT, DIGEST) == f"bronze/quarantine/date=2025-11-19/{STAMP}.parquet"
    assert layout.quarantined_file_key("BCpC", DIGEST) == f"bronze/quarantine/files/symbol=BC%70C/{DIGEST}.parquet"
    assert layout.silver_key(3, 2025, 11) == "silver/silver_3d/year=2025/month=11/data_3d_202511.parquet"
    assert layout.checkpoint_key(3) == "processing_metadata/silver_3d_checkpoint.json"
    assert layout.MANIFEST == "processing_metadata/consolidation_manifest.parquet"
    assert layout.CLEANUP_MANIFEST == "processing_metadata/cleanup_manifest.json"
    assert layout.RECENT_BARS == "processing_metadata/recent_bars.parquet"
    assert layout.fetched_key(DAY) == "processing_metadata/fetched_bars/date=2025-11-19.parquet"
    assert layout.CLOSURES == "processing_metadata/closures.json"
    assert layout.SPLITS == "bronze/corporate_actions/splits.parquet"
    assert layout.DIVIDENDS == "bronze/corporate_actions/dividends.parquet"


def test_prefixes_list_what_the_keys_build() -> None:
    """A listing of a prefix finds the keys that belong there."""
    assert layout.data_key("AAPL").startswith(layout.symbol_prefix("AAPL"))
    assert layout.symbol_prefix("AAPL").startswith(layout.BRONZE)
    assert layout.landing_key("grouped", DAY, INSTANT, DIGEST).startswith(layout.landing_prefix("grouped", DAY))
    assert layout.landing_prefix("grouped", DAY).startswith(layout.landing_prefix("grouped"))
    assert layout.landing_prefix("range").startswith(layout.LANDING)
    assert layout.silver_key(13, 2025, 1).startswith(layout.silver_prefix(13))
    assert layout.silver_prefix(13).startswith(layout.SILVER)
    for prefix in (layout.BRONZE, layout.QUARANTINE, layout.METADATA, layout.silver_prefix(3), ""):
        assert check_prefix(prefix) == prefix


@given(SYMBOLS, st.dates())
def test_bronze_keys_come_back(symbol: str, session: date) -> None:
    """A file of daily bars says which symbol and session it holds."""
    for key, parsed in (
        (layout.data_key(symbol), BronzeKey(symbol, None)),
        (layout.daily_key(symbol, session), BronzeKey(symbol, session)),
    ):
        assert layout.parse_bronze_key(check_key(key)) == parsed


@given(SYMBOLS, st.dates(), INSTANTS, DIGESTS)
def test_landing_keys_come_back(symbol: str, session: date, instant: datetime, digest: str) -> None:
    """A landed answer says its kind, what it is about and when it came; nothing else need be kept to replay it."""
    for key, parsed in (
        (
            layout.landing_key("grouped", session, instant, digest),
            LandingKey("grouped", session, None, instant, digest),
        ),
        (
            layout.landing_key("flat_files", session, instant, digest),
            LandingKey("flat_files", session, None, instant, digest),
        ),
        (
            layout.range_landing_key(symbol, instant, digest, session, session),
            LandingKey("range", None, symbol, instant, digest, session, session),
        ),
        (layout.listing_landing_key("splits", instant, digest), LandingKey("splits", None, None, instant, digest)),
        (
            layout.listing_landing_key("dividends", instant, digest),
            LandingKey("dividends", None, None, instant, digest),
        ),
        (layout.confirmed_key(session, instant, digest), LandingKey("confirmed", session, None, instant, digest)),
    ):
        assert layout.parse_landing_key(check_key(key)) == parsed


@given(st.dates(), INSTANTS, DIGESTS)
def test_quarantine_keys_come_back(session: date, instant: datetime, digest: str) -> None:
    """A quarantine file says which answer its rows came in."""
    key = check_key(layout.quarantine_key(session, instant, digest))
    assert layout.parse_quarantine_key(key) == QuarantineKey(session, instant, digest)


@given(SYMBOLS, DIGESTS)
def test_keys_of_quarantined_files_come_back(symbol: str, digest: str) -> None:
    """An unreadable file that was set aside says whose it was."""
    key = check_key(layout.quarantined_file_key(symbol, digest))
    assert layout.parse_quarantined_file_key(key) == QuarantinedFileKey(symbol, digest)
    assert layout.parse_quarantine_key(key) is None


@given(st.integers(1, 500), st.integers(1, 9999), st.integers(1, 12))
def test_silver_keys_come_back(interval: int, year: int, month: int) -> None:
    """A month file says its interval and month."""
    key = check_key(layout.silver_key(interval, year, month))
    assert layout.parse_silver_key(key) == SilverKey(interval, year, month)


@given(INSTANTS, INSTANTS)
def test_instants_sort_as_text(one: datetime, other: datetime) -> None:
    """The order of keys is the order of time, so the last answer is the last key."""
    assert (layout.format_instant(one) < layout.format_instant(other)) == (one < other)


def test_an_instant_of_any_zone_is_written_in_utc() -> None:
    """The same instant gives the same key wherever it was taken."""
    eastern = INSTANT.astimezone(timezone(timedelta(hours=-5)))
    assert layout.format_instant(eastern) == layout.format_instant(INSTANT) == "20251119T210500000042Z"


@pytest.mark.parametrize(
    "text", ["", "20251119", "20251119T210500Z", "20251119T210560000000Z", "20251332T000000000000Z"]
)
def test_a_text_that_is_no_instant_is_refused(text: str) -> None:
    """No instant is guessed from part of a text."""
    with pytest.raises(ValueError, match=r"is not written like|must be in"):
        layout.parse_instant(text)


FOREIGN = [
    "",
    "README.md",
    "bronze/raw_ohlcv/data.parquet",
    "bronze/raw_ohlcv/symbol=AAPL/",
    "bronze/raw_ohlcv/symbol=AAPL/data.parquet.tmp",
    "bronze/raw_ohlcv/symbol=AAPL/data.parquet\n",
    "bronze/raw_ohlcv/symbol=/data.parquet",
    "bronze/raw_ohlcv/symbol=aapl/data.parquet",
    "bronze/raw_ohlcv/symbol=CON/data.parquet",
    "bronze/raw_ohlcv/symbol=A%2FB/data.parquet",
    "bronze/raw_ohlcv/symbol=../data.parquet",
    "bronze/raw_ohlcv/symbol=AAPL/x/data.parquet",
    "bronze/raw_ohlcv/symbol=AAPL/date=2025-02-30.parquet",
    "bronze/raw_ohlcv/symbol=AAPL/date=20250203.parquet",
    "bronze/raw_ohlcv/symbol=AAPL/date=2025-W01.parquet",
    "bronze/raw_ohlcv/symbol=AAPL/date=\u0662025-01-01.parquet",
    f"bronze/landing/grouped/{STAMP}.json.gz",
    f"bronze/landing/grouped/date=2025-11-19/{STAMP}.csv.gz",
    f"bronze/landing/grouped/date=2025-11-31/{STAMP}.json.gz",
    f"bronze/landing/grouped/symbol=AAPL/{STAMP}.json.gz",
    f"bronze/landing/range/symbol=aapl/{STAMP}.json.gz",
    f"bronze/landing/range/{STAMP}.json.gz",
    f"bronze/landing/splits/date=2025-11-19/{STAMP}.json.gz",
    f"bronze/landing/unknown/{STAMP}.json.gz",
    f"bronze/landing/splits/20251119T250500000042Z-{DIGEST}.json.gz",
    "bronze/landing/splits/20251119T210500000042Z-0123456789ABCDEF.json.gz",
    f"bronze/quarantine/date=2025-02-30/{STAMP}.parquet",
    "bronze/quarantine/date=2025-11-19/x.parquet",
    f"bronze/quarantine/files/symbol=aapl/{DIGEST}.parquet",
    "bronze/quarantine/files/symbol=AAPL/x.parquet",
    "silver/silver_3d/year=2025/month=11/data_5d_202511.parquet",
    "silver/silver_3d/year=2025/month=11/data_3d_202512.parquet",
    "silver/silver_3d/year=2025/month=13/data_3d_202513.parquet",
    "silver/silver_03d/year=2025/month=11/data_03d_202511.parquet",
    "silver/silver_0d/year=2025/month=11/data_0d_202511.parquet",
    "silver/silver_3d/year=0000/month=11/data_3d_000011.parquet",
]


@pytest.mark.parametrize("key", FOREIGN)
def test_a_foreign_file_is_passed_over(key: str) -> None:
    """A file that condvest did not name is no error and is taken for nothing."""
    assert [parse(key) for parse in PARSERS] == [None] * len(PARSERS)


@given(st.text(st.sampled_from("bronze/raw_ohlcv/symbol=AAPL/date=2025-02-30.parquet%\n\u0662"), max_size=60))
def test_no_key_makes_a_parser_fail(tail: str) -> None:
    """Whatever lies under a prefix, a listing can be read through."""
    for parse in PARSERS:
        for prefix in ("", layout.BRONZE, f"{layout.LANDING}range/symbol=", f"{layout.BRONZE}symbol="):
            parse(prefix + tail)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../b",
        "a/..",
        "a//b",
        "a/",
        ".",
        "a/./b",
        ".condvest/state",
        "a\\b",
        "..\\x",
        "C:/x",
        "c:x",
        "a\x00",
        "a\nb",
        "a\x7f",
        "a\x9f",
    ],
)
def test_no_key_leaves_the_lake(key: str) -> None:
    """A key that could reach outside the lake, or its dot-folders, is refused in one line."""
    with pytest.raises(ConfigError, match="is not possible") as refused:
        check_key(key)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("prefix", ["bronze", "../", "/", "a//"])
def test_a_prefix_ends_with_a_slash_and_stays_inside(prefix: str) -> None:
    """A listing never reads beside the lake, nor matches half a folder's name."""
    with pytest.raises(ConfigError, match=r"does not end with a slash|is not possible"):
        check_prefix(prefix)


def test_impossible_parts_are_refused() -> None:
    """No key is built that could not be parsed back."""
    with pytest.raises(ConfigError, match=r"symbol '\.\./x' is not possible"):
        layout.data_key("../x")
    with pytest.raises(ConfigError, match="digest 'ABC' is not possible"):
        layout.quarantine_key(DAY, INSTANT, "ABC")
    with pytest.raises(ConfigError, match="has no time zone"):
        layout.format_instant(INSTANT.replace(tzinfo=None))
    for interval, year, month in ((0, 2025, 1), (3, 2025, 13), (3, 2025, 0), (3, 0, 1)):
        with pytest.raises(ConfigError, match="is not possible"):
            layout.silver_key(interval, year, month)
    with pytest.raises(ConfigError, match="interval -3 is not possible"):
        layout.checkpoint_key(-3)
