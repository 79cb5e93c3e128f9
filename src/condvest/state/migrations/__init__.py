"""Alembic migrations: the one truth of what the tables are."""
