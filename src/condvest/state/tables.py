"""The tables as queries see them. The migrations make them; a test says when the two differ."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    text,
)

from condvest.domain.ledger import SESSION_STATES
from condvest.domain.records import RUN_OUTCOMES
from condvest.errors import DataError


class Instant(TypeDecorator[datetime]):
    """An aware instant that comes back in UTC.

    SQLite knows no time zone: it holds the UTC wall time, as text that sorts by time.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time; hand SQLite the UTC wall time."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise DataError(
                f"time {value.isoformat()} has no zone; the state database takes aware times only; pass UTC"
            )
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time its zone (SQLite), or bring it from the connection's zone to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


# Symbols sort by code point everywhere, whatever the locale of the server.
SYMBOL = Text().with_variant(Text(collation="C"), "postgresql")
# SQLite numbers new rows by itself only in a column of type INTEGER.
NUMBER = BigInteger().with_variant(Integer, "sqlite")


def one_of(column: str, values: tuple[str, ...]) -> str:
    """Return the SQL rule that a column holds one of `values` (names of this program, never input)."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


metadata = MetaData()

session_ledger = Table(
    "session_ledger",
    metadata,
    Column("session_date", Date, primary_key=True),
    Column("state", Text, nullable=False),
    Column("source", Text),
    Column("rows", Integer, nullable=False),
    Column("answer_rows", Integer, nullable=False),
    Column("quarantined", Integer, nullable=False),
    Column("restated", Integer, nullable=False),
    Column("withdrawn", Integer, nullable=False),
    Column("answer_digest", Text),
    Column("fetched_at", Instant),
    Column("reason", Text),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint(one_of("state", SESSION_STATES), name="ck_session_ledger_state"),
    CheckConstraint("length(answer_digest) = 16", name="ck_session_ledger_answer_digest"),
)

data_ingestion_watermark = Table(
    "data_ingestion_watermark",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("symbol", SYMBOL, nullable=False),
    Column("last_session", Date),
    Column("valid_from", Instant, nullable=False),
    Column("valid_to", Instant),
    Column("is_current", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint("is_current = (valid_to IS NULL)", name="ck_data_ingestion_watermark_current_is_open"),
    CheckConstraint("valid_to >= valid_from", name="ck_data_ingestion_watermark_period"),
)
Index(
    "uq_data_ingestion_watermark_current",
    data_ingestion_watermark.c.symbol,
    unique=True,
    postgresql_where=text("is_current"),
    sqlite_where=text("is_current = 1"),
)
Index("ix_data_ingestion_watermark_symbol", data_ingestion_watermark.c.symbol)

symbol_metadata = Table(
    "symbol_metadata",
    metadata,
    Column("symbol", SYMBOL, primary_key=True),
    Column("name", Text),
    Column("active", Boolean, nullable=False),
    Column("type", Text),
    Column("market", Text),
    Column("primary_exchange", Text),
    Column("currency", Text),
    Column("cik", Text),
    Column("composite_figi", Text),
    Column("share_class_figi", Text),
    Column("list_date", Date),
    Column("delisted_at", Instant),
    Column("sic_code", Text),
    Column("sic_description", Text),
    Column("market_cap", Double),
    Column("first_seen", Instant, nullable=False),
    Column("last_seen", Instant, nullable=False),
    Column("details_at", Instant),
)

landing_recorded = Table(
    "landing_recorded",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("recorded_through", Instant, nullable=False),
)

batch_jobs = Table(
    "batch_jobs",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("job", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("outcome", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("counts", Text, nullable=False),
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("requests", "gets", "puts", "deletes", "lists", "bytes_in", "bytes_out")
    ),
    Column("error", Text),
    CheckConstraint(one_of("outcome", RUN_OUTCOMES), name="ck_batch_jobs_outcome"),
)
