"""The map of the specification's names leads to what is there, and says of nothing that it is there before it is."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from condvest.aws import batch
from condvest.aws.events import ConsolidateEvent, read_event
from condvest.cli.entry import application
from condvest.config import settings_table
from condvest.domain.calendar import INTERVALS
from condvest.state.tables import metadata
from condvest.storage import layout
from unit.specification import SPECIFICATION

ROOT = Path(__file__).parents[2]
MAP = ROOT / "docs" / "spec-map.md"
HEADER = "| name in the specification |"
_CODE = re.compile(r"`([^`]+)`")
_OBJECT = re.compile(r"(condvest[\w.]*):(\w+)(?:\((\w+)\))?")
_PREFIXES = (layout.BRONZE, layout.SILVER, layout.METADATA, *map(layout.silver_prefix, INTERVALS))
_KEYS = (layout.MANIFEST, layout.CLEANUP_MANIFEST, *map(layout.checkpoint_key, INTERVALS))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: the name as the specification has it, and two cells with targets in backticks."""

    name: str
    kind: str
    here: str
    rest: str

    @property
    def bare(self) -> str:
        """The name without backticks."""
        return self.name.strip("`")

    @property
    def targets(self) -> list[str]:
        """What the third cell points at."""
        return _CODE.findall(self.here)


def rows_of(heading: str) -> list[Row]:
    """Return the lines of all tables under one heading of the second level."""
    part = MAP.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ") and not line.startswith(HEADER)]
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]


BUILT, NOT_YET = rows_of("Built"), rows_of("Not yet built")


@cache
def help_of(command: str) -> str:
    """Return what `condvest COMMAND --help` prints; it fails when there is no such command."""
    done = CliRunner().invoke(application, [*command.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0, f"condvest {command}: {done.output}"
    assert f"Usage: condvest {command} " in done.output
    return done.output


def is_command(target: str) -> bool:
    """Look a command and its option up in the help."""
    command, _, option = target.removeprefix("condvest ").partition(" --")
    return not option or re.search(rf"--{re.escape(option)}\s", help_of(command)) is not None


@cache
def batch_help_of(job: str) -> str:
    """Return what `python -m condvest.aws.batch JOB --help` prints; it fails when there is no such job."""
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as exit_info:
        batch.main([job, "--help"])
    assert exit_info.value.code == 0, job
    return said.getvalue()


def is_program(target: str) -> bool:
    """Look a job of the Batch command and its option up in its help, and a handler that runs here by import."""
    program, _, rest = target.removeprefix("python -m ").partition(" ")
    job, _, option = rest.partition(" --")
    if program == batch.__name__:
        return not option or re.search(rf"--{re.escape(option)}\s", batch_help_of(job)) is not None
    return not rest and callable(getattr(importlib.import_module(program), "lambda_handler", None))


def is_object(target: str) -> bool:
    """Look a name, and a parameter of it where one is given, up by import."""
    module, name, parameter = _OBJECT.fullmatch(target).groups()  # type: ignore[union-attr]  # `place_of` matched it
    found = getattr(importlib.import_module(module), name, None)
    return found is not None and (parameter is None or parameter in inspect.signature(found).parameters)


def is_setting(target: str) -> bool:
    """Look a name up in the table of settings."""
    return target in {setting.name for setting in settings_table()}


def is_key(target: str) -> bool:
    """Ask the module of keys."""
    if target in _PREFIXES or target in _KEYS:
        return True
    bronze, silver = layout.parse_bronze_key(target), layout.parse_silver_key(target)
    if bronze is not None:
        built = layout.daily_key(bronze.symbol, bronze.session) if bronze.session else layout.data_key(bronze.symbol)
        return built == target
    return silver is not None and layout.silver_key(silver.interval_sessions, silver.year, silver.month) == target


def place_of(target: str) -> Callable[[str], bool]:
    """Return the check that belongs to what a target looks like."""
    if target.startswith("condvest "):
        return is_command
    if target.startswith("python -m "):
        return is_program
    if _OBJECT.fullmatch(target):
        return is_object
    if target.startswith("make "):
        return lambda text: (
            re.search(rf"^{text.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
        )
    if re.fullmatch(r"[A-Z0-9_]+", target):
        return is_setting
    if target in metadata.tables:
        return lambda text: text in metadata.tables
    if target.startswith(("bronze/", "silver/", "processing_metadata/")):
        return is_key
    return lambda text: (ROOT / text).exists()


def test_tables_are_read() -> None:
    """Both parts have rows, and each row says where."""
    assert len(BUILT) > 60
    assert NOT_YET
    assert [row.name for row in BUILT + NOT_YET if not row.targets] == []


@pytest.mark.parametrize("kind", SPECIFICATION)
def test_each_name_of_the_specification_has_a_row(kind: str) -> None:
    """Whoever reads the specification finds every one of its names."""
    assert set(SPECIFICATION[kind]) - {row.bare for row in BUILT + NOT_YET} == set()


def test_the_runbook_has_the_call_of_the_consolidator() -> None:
    """The specification's own call, with what the AWS CLI's second version wants, and an event that the function takes."""
    runbook = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    call = re.search(
        r"aws lambda invoke +--function-name consolidate-bronze-daily +--cli-binary-format raw-in-base64-out"
        r" +--payload '([^']+)' +output\.json\n",
        runbook,
    )
    assert call is not None
    assert read_event(ConsolidateEvent, json.loads(call[1])).mode == "incremental"


def test_no_name_stands_twice() -> None:
    """A name is built or it is not."""
    names = [row.bare for row in BUILT + NOT_YET]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize("row", BUILT, ids=lambda row: row.bare)
def test_each_target_exists(row: Row) -> None:
    """Whoever follows the map finds what it names."""
    assert [target for target in row.targets if not place_of(target)(target)] == []


@pytest.mark.parametrize(
    "row", [row for row in BUILT if row.kind in ("setting", "option", "key", "prefix")], ids=lambda row: row.bare
)
def test_names_that_users_meet_are_kept(row: Row) -> None:
    """Variables, options and paths are called what the specification calls them."""
    assert [target for target in row.targets if target.split()[-1] != row.bare] == []


@pytest.mark.parametrize("row", NOT_YET, ids=lambda row: row.bare)
def test_what_is_not_built_is_not_there(row: Row) -> None:
    """Who builds one of these moves it up; what serves until then is there."""
    assert [target for target in row.targets if (ROOT / target).exists()] == []
    assert [target for target in _CODE.findall(row.rest) if not place_of(target)(target)] == []


@pytest.mark.parametrize(
    "target",
    [
        "condvest vacuum --dry",
        "python -m condvest.aws.batch vacuum --dry",
        "python -m condvest.aws.batch resampler --symbols",
        "python -m condvest.aws.runtime",
        "condvest.jobs.vacuum:vacuums",
        "condvest.jobs.vacuum:vacuum(days)",
        "make nothing",
        "S3_BUCKETS",
        "silver/silver_3d/year=2025/month=11/data_5d_202511.parquet",
        "src/condvest/nothing.py",
    ],
)
def test_the_checks_can_fail(target: str) -> None:
    """A target that does not exist is found out, whatever its kind."""
    assert not place_of(target)(target)
