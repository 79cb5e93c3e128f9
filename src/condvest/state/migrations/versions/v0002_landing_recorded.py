"""How far the landed answers without a session are recorded: one row a kind (`tickers`, `details`, `range`)."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "landing_recorded",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("recorded_through", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind"),
    )
