"""Which version the tables are at, and how they get to this one. Alembic is loaded only when that is needed."""

from __future__ import annotations

import threading
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from condvest.errors import ConfigError

if TYPE_CHECKING:
    from alembic.config import Config

# The newest revision in migrations/versions. Known here, so that opening a database does not load Alembic (0.3 s); a
# test compares the two.
HEAD = "0002"

_MIGRATIONS = Path(__file__).parent / "migrations"
# Alembic keeps the migration that runs in module globals: one at a time in a process.
_ONE_AT_A_TIME = threading.Lock()


def revision(connection: Connection) -> str | None:
    """Return the version that the tables are at; None: there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def check(found: str | None, where: str, *, migrate: bool) -> None:
    """Refuse tables that may not be brought to this version.

    Raises:
        ConfigError: a newer condvest made them, or `migrate` is False.
    """
    from alembic.script import ScriptDirectory

    known = {step.revision for step in ScriptDirectory.from_config(config()).walk_revisions()}
    if found is not None and found not in known:
        raise ConfigError(
            f"state database {where} is at version {found}, this condvest knows up to {HEAD}; update condvest"
        )
    if not migrate:
        raise ConfigError(
            f"state database {where} is at version {found or 'none'}, this condvest needs {HEAD};"
            " run `condvest db upgrade`"
        )


def upgrade(connection: Connection) -> None:
    """Run the steps that are left, inside the caller's transaction. Idempotent."""
    from alembic import command

    with _ONE_AT_A_TIME:
        settings = config()
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")


def config() -> Config:
    """Return Alembic's settings: the migrations lie in this package, there is no ini file."""
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return settings


def as_sql() -> str:
    """Return the SQL that makes an empty PostgreSQL database what `upgrade` would make it; the same text each time."""
    from alembic import command

    settings = config()
    text_made = settings.output_buffer = StringIO()
    with _ONE_AT_A_TIME:
        command.upgrade(settings, "head", sql=True)
    lines = text_made.getvalue().strip().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"
