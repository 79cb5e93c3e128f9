"""The migrations are the one truth: the tables of the program and the generated SQL file follow them."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from condvest.state import State, schema
from condvest.state.tables import metadata
from servers.postgres import PostgresServer

_TOOL = spec_from_file_location("build_schema", Path(__file__).parents[2] / "tools" / "build_schema.py")
assert _TOOL is not None
assert _TOOL.loader is not None
build_schema = module_from_spec(_TOOL)
_TOOL.loader.exec_module(build_schema)

# What PostgreSQL itself says of a database: columns, constraints, indexes.
CATALOG = """
SELECT 'column', table_name, column_name,
  concat_ws(' ', data_type, is_nullable, column_default, collation_name, ordinal_position)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
ORDER BY 1, 2, 3
"""


def catalog(url: str) -> list[tuple[str, ...]]:
    """Return what PostgreSQL knows of a database."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(CATALOG))]
    engine.dispose()
    return rows


def differences(url: str) -> list[object]:
    """Return what Alembic would change to make the database what the program's tables say."""
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": metadata})
        found: list[object] = compare_metadata(context, metadata)
    engine.dispose()
    return found


def test_the_generated_file_is_not_stale(capsys: pytest.CaptureFixture[str]) -> None:
    """database/schemas/schema_init_postgres.sql says what the migrations say; else run `make schema`."""
    assert build_schema.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_file_is_found_and_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--check` changes nothing and fails on an absent or altered file; without it the file is written, the same each time."""
    target = tmp_path / "schemas" / "schema.sql"
    monkeypatch.setattr(build_schema, "TARGET", target)
    assert build_schema.main(["--check"]) == 1
    assert not target.exists()
    assert build_schema.main([]) == 0
    made = target.read_text()
    target.write_text(made + "-- by hand\n")
    assert build_schema.main(["--check"]) == 1
    assert build_schema.main([]) == 0
    assert target.read_text() == made


def test_the_newest_migration_is_the_one_that_the_program_asks_for() -> None:
    """`HEAD` spares a look at the migrations each time a database is opened; it is the last of one line of them."""
    assert ScriptDirectory.from_config(schema.config()).get_heads() == [schema.HEAD]


@pytest.mark.postgres
def test_the_programs_tables_have_the_rules_of_the_migrations(postgres_server: PostgresServer) -> None:
    """Alembic does not compare rules and partial indexes, PostgreSQL's own catalog does."""
    with postgres_server.empty_database() as by_program, postgres_server.empty_database() as by_migration:
        engine = create_engine(by_program)
        metadata.create_all(engine)
        engine.dispose()
        State.open(by_migration, migrate=True).close()
        migrated = [row for row in catalog(by_migration) if "alembic_version" not in row]
        assert catalog(by_program) == migrated


def test_migrating_makes_the_tables_that_the_program_uses(state: State, state_url: str) -> None:
    """Alembic finds nothing to change after the migrations, on either database."""
    assert differences(state_url) == []


@pytest.mark.postgres
def test_the_generated_file_makes_what_migrating_makes(postgres_server: PostgresServer) -> None:
    """An empty database filled from the file equals a migrated one, and is at the version that the program asks for."""
    with postgres_server.empty_database() as by_file, postgres_server.empty_database() as by_migration:
        engine = create_engine(by_file)
        with engine.begin() as connection:
            connection.exec_driver_sql(build_schema.TARGET.read_text().replace("BEGIN;", "").replace("COMMIT;", ""))
        engine.dispose()
        State.open(by_migration, migrate=True).close()
        assert catalog(by_file) == catalog(by_migration)
        assert len(catalog(by_file)) > 60
        assert differences(by_file) == []
        with State.open(by_file, migrate=False) as state:
            assert state.start_run("any", {}, datetime(2025, 11, 19, tzinfo=UTC)) == 1
