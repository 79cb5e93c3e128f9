"""The keys of the lake: every one is built here and parsed back here, and no other module spells one out.

Keys are relative to the lake's root, use `/`, and hold ASCII alone. Prefixes end with `/`, as listings want them.
A parser returns None for a key that this module never builds: a foreign file in the lake is passed over, not an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Literal, TypeAlias, cast

from condvest.domain.symbols import decode_symbol, encode_symbol
from condvest.errors import ConfigError

BRONZE: Final = "bronze/raw_ohlcv/"
LANDING: Final = "bronze/landing/"
QUARANTINE: Final = "bronze/quarantine/"
CORPORATE_ACTIONS: Final = "bronze/corporate_actions/"
SILVER: Final = "silver/"
METADATA: Final = "processing_metadata/"

SPLITS: Final = f"{CORPORATE_ACTIONS}splits.parquet"
DIVIDENDS: Final = f"{CORPORATE_ACTIONS}dividends.parquet"
MANIFEST: Final = f"{METADATA}consolidation_manifest.parquet"
CLEANUP_MANIFEST: Final = f"{METADATA}cleanup_manifest.json"
CLOSURES: Final = f"{METADATA}closures.json"
RECENT_BARS: Final = f"{METADATA}recent_bars.parquet"
FETCHED: Final = f"{METADATA}fetched_bars/"

SessionKind: TypeAlias = Literal["grouped", "flat_files"]
"""Answers that hold the whole market of one session."""
ListingKind: TypeAlias = Literal["tickers", "details", "splits", "dividends"]
"""Answers about the whole market, or about many symbols, at one instant: metadata and corporate actions."""
LandingKind: TypeAlias = Literal[
    "grouped", "flat_files", "range", "tickers", "details", "splits", "dividends", "confirmed"
]
"""Everything under `bronze/landing/`; `confirmed` are receipts: a re-fetch brought the same values."""

_SUFFIX: Final[dict[str, str]] = {
    "grouped": "json.gz",
    "flat_files": "csv.gz",
    "range": "json.gz",
    "tickers": "json.gz",
    "details": "json.gz",
    "splits": "json.gz",
    "dividends": "json.gz",
    "confirmed": "json",
}
_INSTANT = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{6})Z")
_STAMP = r"(?P<instant>[0-9]{8}T[0-9]{12}Z)-(?P<digest>[0-9a-f]{16})"
_SESSION = r"date=(?P<session>[0-9]{4}-[0-9]{2}-[0-9]{2})"
_SPAN = r"(?P<first>[0-9]{4}-[0-9]{2}-[0-9]{2})_(?P<last>[0-9]{4}-[0-9]{2}-[0-9]{2})"
_SYMBOL = r"symbol=(?P<symbol>[^/]+)"

_BRONZE_KEY = re.compile(rf"{BRONZE}{_SYMBOL}/(?:data|{_SESSION})\.parquet")
_LANDING_KEY = re.compile(
    rf"{LANDING}(?P<kind>[a-z_]+)/(?:{_SESSION}/|{_SYMBOL}/)?{_STAMP}(?:-{_SPAN})?\.(?P<suffix>[a-z.]+)"
)
_QUARANTINE_KEY = re.compile(rf"{QUARANTINE}{_SESSION}/{_STAMP}\.parquet")
_QUARANTINED_FILE = re.compile(rf"{QUARANTINE}files/{_SYMBOL}/(?P<digest>[0-9a-f]{{16}})\.parquet")
_SILVER_KEY = re.compile(
    rf"{SILVER}silver_(?P<n>[1-9][0-9]*)d/year=(?P<year>[0-9]{{4}})/month=(?P<month>0[1-9]|1[0-2])"
    r"/data_(?P=n)d_(?P=year)(?P=month)\.parquet"
)
_FETCHED_KEY = re.compile(rf"{FETCHED}{_SESSION}\.parquet")
_DIGEST = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class BronzeKey:
    """A file of daily bars: of one session, or with session None all that were consolidated (`data.parquet`)."""

    symbol: str
    session: date | None


@dataclass(frozen=True, slots=True)
class LandingKey:
    """One answer of the provider: its kind, what it is about, when it came (UTC) and the digest of its values.

    `first` and `last` are the bounds that a range answer was asked for, both inclusive.
    """

    kind: LandingKind
    session: date | None
    symbol: str | None
    instant: datetime
    digest: str
    first: date | None = None
    last: date | None = None


@dataclass(frozen=True, slots=True)
class QuarantineKey:
    """Rows of one answer that broke a rule."""

    session: date
    instant: datetime
    digest: str


@dataclass(frozen=True, slots=True)
class QuarantinedFileKey:
    """A symbol's `data.parquet` that could not be read, kept as it was; the digest is of its bytes."""

    symbol: str
    digest: str


@dataclass(frozen=True, slots=True)
class SilverKey:
    """Period bars of all symbols whose group starts in one month."""

    interval_sessions: int
    year: int
    month: int


def symbol_prefix(symbol: str) -> str:
    """Return the prefix of one symbol's files of daily bars."""
    return f"{BRONZE}symbol={encode_symbol(symbol)}/"


def data_key(symbol: str) -> str:
    """Return the key of one symbol's consolidated daily bars."""
    return f"{symbol_prefix(symbol)}data.parquet"


def daily_key(symbol: str, session: date) -> str:
    """Return the key of one symbol's bar of one session, as fetched."""
    return f"{symbol_prefix(symbol)}{_dated(session)}.parquet"


def parse_bronze_key(key: str) -> BronzeKey | None:
    """Return what a key under BRONZE holds, or None for a foreign file."""
    if not (found := _BRONZE_KEY.fullmatch(key)):
        return None
    try:
        return BronzeKey(decode_symbol(found["symbol"]), _session(found["session"]))
    except (ConfigError, ValueError):
        return None


def landing_prefix(kind: LandingKind, session: date | None = None) -> str:
    """Return the prefix of all answers of one kind, or of those about one session."""
    return f"{LANDING}{kind}/{_dated(session)}/" if session else f"{LANDING}{kind}/"


def landing_key(kind: SessionKind, session: date, instant: datetime, digest: str) -> str:
    """Return the key of an answer with the whole market of one session."""
    return f"{landing_prefix(kind, session)}{_stamp(instant, digest)}.{_SUFFIX[kind]}"


def range_landing_key(symbol: str, instant: datetime, digest: str, first: date, last: date) -> str:
    """Return the key of an answer with the sessions of one symbol from `first` to `last`, both inclusive."""
    name = f"{_stamp(instant, digest)}-{first.isoformat()}_{last.isoformat()}"
    return f"{LANDING}range/symbol={encode_symbol(symbol)}/{name}.{_SUFFIX['range']}"


def listing_landing_key(kind: ListingKind, instant: datetime, digest: str) -> str:
    """Return the key of a listing: symbols, their details, or corporate actions."""
    return f"{landing_prefix(kind)}{_stamp(instant, digest)}.{_SUFFIX[kind]}"


def confirmed_key(session: date, instant: datetime, digest: str) -> str:
    """Return the key of a receipt: a re-fetch of this session brought the same values, so it is final."""
    return f"{landing_prefix('confirmed', session)}{_stamp(instant, digest)}.{_SUFFIX['confirmed']}"


def parse_landing_key(key: str) -> LandingKey | None:
    """Return what a key under LANDING holds, or None for a foreign file.

    Keys of one kind and session (or symbol) sort by time.
    """
    found = _LANDING_KEY.fullmatch(key)
    if not found or found["suffix"] != _SUFFIX.get(found["kind"]):
        return None
    kind = cast(LandingKind, found["kind"])
    if bool(found["session"]) != (kind in ("grouped", "flat_files", "confirmed")) or bool(found["symbol"]) != (
        kind == "range"
    ):
        return None
    if bool(found["first"]) != (kind == "range"):
        return None
    try:
        symbol = decode_symbol(found["symbol"]) if found["symbol"] else None
        instant, bounds = parse_instant(found["instant"]), (_session(found["first"]), _session(found["last"]))
        return LandingKey(kind, _session(found["session"]), symbol, instant, found["digest"], *bounds)
    except (ConfigError, ValueError):
        return None


def unfinished_key(kind: ListingKind) -> str:
    """Return the key of the pages of a listing whose fetch ran out of time; the next call goes on from there."""
    return f"{METADATA}unfinished_{kind}.json.gz"


def quarantine_key(session: date, instant: datetime, digest: str) -> str:
    """Return the key of the rows of one answer that broke a rule."""
    return f"{QUARANTINE}{_dated(session)}/{_stamp(instant, digest)}.parquet"


def parse_quarantine_key(key: str) -> QuarantineKey | None:
    """Return what a key under QUARANTINE holds, or None for a foreign file."""
    if not (found := _QUARANTINE_KEY.fullmatch(key)):
        return None
    try:
        return QuarantineKey(date.fromisoformat(found["session"]), parse_instant(found["instant"]), found["digest"])
    except ValueError:
        return None


def quarantined_file_key(symbol: str, digest: str) -> str:
    """Return the key under which an unreadable `data.parquet` is kept before it is replaced."""
    return f"{QUARANTINE}files/symbol={encode_symbol(symbol)}/{_checked_digest(digest)}.parquet"


def parse_quarantined_file_key(key: str) -> QuarantinedFileKey | None:
    """Return which unreadable file a key under QUARANTINE keeps, or None for another."""
    if not (found := _QUARANTINED_FILE.fullmatch(key)):
        return None
    try:
        return QuarantinedFileKey(decode_symbol(found["symbol"]), found["digest"])
    except ConfigError:
        return None


def silver_prefix(interval_sessions: int) -> str:
    """Return the prefix of all period bars of one length."""
    return f"{SILVER}silver_{_interval(interval_sessions)}d/"


def silver_key(interval_sessions: int, year: int, month: int) -> str:
    """Return the key of the period bars whose group starts in one month; ConfigError for an impossible month."""
    if not (1 <= year <= 9999 and 1 <= month <= 12):
        raise ConfigError(
            f"month {year}-{month} is not possible: it needs a year from 1 to 9999 and a month from 1 to 12"
        )
    name = f"data_{interval_sessions}d_{year:04}{month:02}.parquet"
    return f"{silver_prefix(interval_sessions)}year={year:04}/month={month:02}/{name}"


def parse_silver_key(key: str) -> SilverKey | None:
    """Return what a key under SILVER holds, or None for a foreign file."""
    if not (found := _SILVER_KEY.fullmatch(key)) or found["year"] == "0000":
        return None
    return SilverKey(int(found["n"]), int(found["year"]), int(found["month"]))


def checkpoint_key(interval_sessions: int) -> str:
    """Return the key that says how far the period bars of one length are built."""
    return f"{METADATA}silver_{_interval(interval_sessions)}d_checkpoint.json"


def fetched_key(session: date) -> str:
    """Return the key of the bars that were written for one session as `date=` files."""
    return f"{FETCHED}{_dated(session)}.parquet"


def parse_fetched_key(key: str) -> date | None:
    """Return the session of a key under FETCHED, or None for a foreign file."""
    found = _FETCHED_KEY.fullmatch(key)
    try:
        return _session(found["session"]) if found else None
    except ValueError:
        return None


def format_instant(instant: datetime) -> str:
    """Return an aware instant as it stands in keys: UTC, microseconds, sorts by time; ConfigError without a zone."""
    if instant.tzinfo is None:
        raise ConfigError(f"instant {instant.isoformat()} has no time zone; give an aware one, in UTC")
    # Linux writes the year 999 as "999", which would neither sort nor parse.
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ").zfill(22)


def parse_instant(text: str) -> datetime:
    """Return the UTC instant that `format_instant` wrote; ValueError for another text."""
    if not (found := _INSTANT.fullmatch(text)):
        raise ValueError(f"instant {text!r} is not written like 20251119T210500000000Z; take it from format_instant")
    year, month, day, hour, minute, second, microsecond = map(int, found.groups())
    return datetime(year, month, day, hour, minute, second, microsecond, UTC)


def _dated(session: date) -> str:
    return f"date={session.isoformat()}"


def _session(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _checked_digest(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ConfigError(f"digest {digest!r} is not possible: it needs 16 digits of 0-9 a-f; cut the hash to 16")
    return digest


def _stamp(instant: datetime, digest: str) -> str:
    return f"{format_instant(instant)}-{_checked_digest(digest)}"


def _interval(sessions: int) -> int:
    if sessions < 1:
        raise ConfigError(f"interval {sessions} is not possible: it needs 1 session or more, for example 13")
    return sessions
