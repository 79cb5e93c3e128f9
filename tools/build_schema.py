"""Write database/schemas/schema_init_postgres.sql from the migrations: `python tools/build_schema.py [--check]`.

The file makes an empty PostgreSQL database what `condvest db upgrade` would make it. With `--check` nothing is
written, and the exit code is 1 when the file is not what the migrations say.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from condvest.state.schema import as_sql

TARGET = Path(__file__).parents[1] / "database" / "schemas" / "schema_init_postgres.sql"
HEADER = """\
-- The state database of condvest for PostgreSQL. Generated from the migrations in src/condvest/state/migrations
-- by tools/build_schema.py (`make schema`): do not edit. For an empty database; `condvest db upgrade` goes on from it.

"""


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or compare it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is stale")
    options = parser.parse_args(arguments)
    wanted = HEADER + as_sql()
    found = TARGET.read_text() if TARGET.exists() else ""
    if options.check:
        if found != wanted:
            print(f"{TARGET} is stale: it has to say what the migrations say; run `make schema`", file=sys.stderr)
        return int(found != wanted)
    if found != wanted:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_text(wanted)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
