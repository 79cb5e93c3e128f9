"""The first tables: session ledger, watermarks, symbols, runs.

Types are written out, not taken from the program: a migration stays as it was on the day it ran.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_INSTANT = sa.DateTime(timezone=True)
_SYMBOL = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the four tables."""
    _session_ledger()
    _data_ingestion_watermark()
    _symbol_metadata()
    _batch_jobs()


def _session_ledger() -> None:
    op.create_table(
        "session_ledger",
        sa.Column("session_date", sa.Date, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("source", sa.Text),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("answer_rows", sa.Integer, nullable=False),
        sa.Column("quarantined", sa.Integer, nullable=False),
        sa.Column("restated", sa.Integer, nullable=False),
        sa.Column("withdrawn", sa.Integer, nullable=False),
        sa.Column("answer_digest", sa.Text),
        sa.Column("fetched_at", _INSTANT),
        sa.Column("reason", sa.Text),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("session_date"),
        sa.CheckConstraint(
            "state IN ('missing', 'pending', 'provisional', 'final', 'not_entitled')", name="ck_session_ledger_state"
        ),
        sa.CheckConstraint("length(answer_digest) = 16", name="ck_session_ledger_answer_digest"),
    )


def _data_ingestion_watermark() -> None:
    op.create_table(
        "data_ingestion_watermark",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("symbol", _SYMBOL, nullable=False),
        sa.Column("last_session", sa.Date),
        sa.Column("valid_from", _INSTANT, nullable=False),
        sa.Column("valid_to", _INSTANT),
        sa.Column("is_current", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("is_current = (valid_to IS NULL)", name="ck_data_ingestion_watermark_current_is_open"),
        sa.CheckConstraint("valid_to >= valid_from", name="ck_data_ingestion_watermark_period"),
    )
    op.create_index(
        "uq_data_ingestion_watermark_current",
        "data_ingestion_watermark",
        ["symbol"],
        unique=True,
        postgresql_where=sa.text("is_current"),
        sqlite_where=sa.text("is_current = 1"),
    )
    op.create_index("ix_data_ingestion_watermark_symbol", "data_ingestion_watermark", ["symbol"])


def _symbol_metadata() -> None:
    op.create_table(
        "symbol_metadata",
        sa.Column("symbol", _SYMBOL, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("type", sa.Text),
        sa.Column("market", sa.Text),
        sa.Column("primary_exchange", sa.Text),
        sa.Column("currency", sa.Text),
        sa.Column("cik", sa.Text),
        sa.Column("composite_figi", sa.Text),
        sa.Column("share_class_figi", sa.Text),
        sa.Column("list_date", sa.Date),
        sa.Column("delisted_at", _INSTANT),
        sa.Column("sic_code", sa.Text),
        sa.Column("sic_description", sa.Text),
        sa.Column("market_cap", sa.Double),
        sa.Column("first_seen", _INSTANT, nullable=False),
        sa.Column("last_seen", _INSTANT, nullable=False),
        sa.Column("details_at", _INSTANT),
        sa.PrimaryKeyConstraint("symbol"),
    )


def _batch_jobs() -> None:
    op.create_table(
        "batch_jobs",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("finished_at", _INSTANT),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("gets", sa.BigInteger, nullable=False),
        sa.Column("puts", sa.BigInteger, nullable=False),
        sa.Column("deletes", sa.BigInteger, nullable=False),
        sa.Column("lists", sa.BigInteger, nullable=False),
        sa.Column("bytes_in", sa.BigInteger, nullable=False),
        sa.Column("bytes_out", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint(
            "outcome IN ('running', 'done', 'nothing_new', 'partial', 'failed')", name="ck_batch_jobs_outcome"
        ),
    )
