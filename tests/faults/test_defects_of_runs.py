"""Work that an earlier implementation lost in silence, each way kept out by a test that has its number (D17 to D26).

The last test says that every number, D01 to D26, has one; where a defect belongs to one job its test stands with that job.
"""

from __future__ import annotations

import ast
import pkgutil
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import condvest
from condvest.aws import consolidate_bronze, daily_meta_fetcher, daily_ohlcv_fetcher, record_session
from condvest.cli.entry import application
from condvest.errors import CondvestError, ConfigError, TransientError, WorkLeft
from condvest.state import State
from condvest.storage import layout
from faults.commands import GROUPED, Desk
from faults.named_tests import known_tests
from integration.jobs_kit import DAYS, QUICK, SYMBOLS, bar

ROOT = Path(__file__).parents[2]
DAY, NEXT, THIRD = DAYS[:3]
TWO = SYMBOLS[:2]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """An empty lake beside a provider that knows nine symbols from 2025-11-03 on."""
    with Desk(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def begun(desk: Desk) -> Desk:
    """A lake with its first session."""
    assert desk.evening(DAY).run("fetch", "bars", "--date", str(DAY)).code == 0
    return desk


def forbid(desk: Desk, table: str, action: str = "INSERT") -> Callable[[], None]:
    """Make the state database fail at each change of a table, as a full disk would; return what heals it."""
    path = desk.folder / "lake" / ".condvest" / "state.sqlite"

    def run(statement: str) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(statement)
            connection.commit()

    run(f"CREATE TRIGGER broken BEFORE {action} ON {table} BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END")
    return lambda: run("DROP TRIGGER broken")


# --- what failed is tried again -------------------------------------------------------------------------------------


def test_D17_a_long_absence_is_caught_up_without_a_hole(begun: Desk) -> None:
    """However many sessions were missed, none is left out: the oldest is caught up with as the newest is."""
    begun.evening(DAYS[40])
    begun.provider.fail(f"{GROUPED}/locale/us/market/stocks/{DAYS[7]}", status=503, times=QUICK.attempts)
    assert begun.run("fetch", "bars").code == 1
    states = begun.states()
    assert (len(states), states.pop(DAYS[7]), states.pop(DAYS[40])) == (41, "pending", "provisional")
    assert set(states.values()) == {"final"}
    outcome, asked = begun.asked("fetch", "bars")
    assert (outcome.code, asked) == (0, [f"{GROUPED}/locale/us/market/stocks/{DAYS[7]}"])
    assert begun.states()[DAYS[7]] == "final"


def test_D17_a_symbol_that_failed_is_not_hidden_by_the_market_s_watermark(begun: Desk) -> None:
    """One file that cannot be merged: the other symbols go on, that one is tried again, and nothing says that it is done."""
    begun.run("consolidate")
    sound = begun.objects()[layout.data_key("IBM")]
    (begun.folder / "lake" / layout.data_key("IBM")).write_bytes(b"broken")
    begun.evening(NEXT).run("fetch", "bars")
    assert begun.run("consolidate").code == 1
    (begun.folder / "lake" / layout.data_key("IBM")).write_bytes(sound)
    assert begun.run("consolidate").code == 0
    shown = begun.run("--json", "bars", "IBM", "--format", "json").json
    assert [row["date"] for row in shown["rows"]] == [str(DAY), str(NEXT)]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 429, 500, 502, 503, 504])
def test_D18_no_answer_but_a_good_one_is_a_day_without_data(begun: Desk, status: int) -> None:
    """Whatever else the provider answers, the session is not done, the exit code is not 0, and the next run asks again."""
    path = f"{GROUPED}/locale/us/market/stocks/{NEXT}"
    body = {"status": "ERROR", "error": "no"}
    begun.provider.fail(path, status=status, body=body, times=9)
    outcome = begun.evening(NEXT).run("fetch", "bars", "--date", str(NEXT))
    assert outcome.code == (2 if status == 401 else 1)
    assert begun.states()[NEXT] == ("missing" if status == 401 else "pending")
    begun.provider.heal()
    outcome, asked = begun.asked("fetch", "bars", "--date", str(NEXT))
    assert (outcome.code, asked, begun.states()[NEXT]) == (0, [path], "provisional")


@pytest.mark.parametrize("table", ["session_ledger", "data_ingestion_watermark"])
def test_D19_a_database_that_fails_ends_the_run_and_moves_nothing(begun: Desk, table: str) -> None:
    """Ledger and watermarks are one transaction: a failure in either leaves both, and exit code 1; the next run completes."""
    heal = forbid(begun, table)
    outcome = begun.evening(NEXT).run("fetch", "bars", "--date", str(NEXT))
    assert outcome.code == 1
    assert "disk I/O error" in outcome.err
    with begun.state as state:
        assert set(state.symbol_watermarks().values()) == {DAY}
        assert [row.state for row in state.sessions() if row.session_date == NEXT] in ([], ["missing"])
    heal()
    assert begun.run("fetch", "bars", "--date", str(NEXT)).code == 0
    assert begun.states()[NEXT] == "provisional"
    with begun.state as state:
        assert set(state.symbol_watermarks().values()) == {NEXT}


# --- the Lambda handlers --------------------------------------------------------------------------------------------


@dataclass
class Context:
    """Lambda's context, with time enough."""

    aws_request_id: str = "run-1"

    def get_remaining_time_in_millis(self) -> int:
        """Return the time that is left, in milliseconds."""
        return 900_000


def spoil_provider(desk: Desk) -> None:
    """Have every request fail."""
    desk.provider.fail("/", status=503, times=99)


def spoil_bronze(desk: Desk) -> None:
    """Corrupt a consolidated file that a later `date=` file belongs into."""
    desk.run("consolidate")
    desk.evening(NEXT).run("fetch", "bars")
    (desk.folder / "lake" / layout.data_key("IBM")).write_bytes(b"broken")


def spoil_database(desk: Desk) -> None:
    """Name a database server that is not there."""
    desk.set(RDS_HOST="127.0.0.1", RDS_PORT="1", RDS_DATABASE="x", RDS_USER="x", RDS_PASSWORD="x")


@pytest.mark.parametrize(
    ("handler", "event", "spoil", "error"),
    [
        (daily_ohlcv_fetcher, {"date": str(DAY)}, spoil_provider, WorkLeft),
        (daily_meta_fetcher, {}, spoil_provider, TransientError),
        (consolidate_bronze, {}, spoil_bronze, WorkLeft),
        (record_session, {"mode": "status"}, spoil_database, TransientError),
        (daily_ohlcv_fetcher, {"date": "yesterday"}, lambda _: None, ConfigError),
    ],
    ids=lambda value: getattr(value, "NAME", getattr(value, "__name__", None)),
)
def test_D20_a_handler_that_cannot_do_its_work_raises(
    begun: Desk, handler: Any, event: dict[str, Any], spoil: Callable[[Desk], None], error: type[CondvestError]
) -> None:
    """The state machine sees a failure as one: no answer with a status code in it, but the error's own class."""
    spoil(begun)
    with pytest.raises(error):
        handler.lambda_handler(event, Context())


# --- when to run, and what a run leaves -------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [0.0, 5.0, 40.0])
def test_D21_a_closed_market_is_no_reason_to_skip(begun: Desk, hours: float) -> None:
    """At 16:05, at night and on a Saturday the market is closed, and what is missing is fetched all the same."""
    friday = DAYS[4]
    begun.evening(friday).at(begun.now + timedelta(hours=hours))
    outcome, asked = begun.asked("run")
    assert outcome.code == 0
    assert set(begun.states()) == set(DAYS[:5])
    assert set(begun.states().values()) <= {"final", "provisional"}
    assert "/v1/marketstatus/now" not in asked


def test_D22_a_watermark_never_moves_back_and_a_failure_leaves_its_current_row(begun: Desk) -> None:
    """An older session moves none; a crash between closing a row and adding the next leaves the closed one open."""
    begun.evening(THIRD).run("fetch", "bars", "--date", str(THIRD))
    assert begun.run("fetch", "bars", "--date", str(NEXT)).code == 0
    with begun.state as state:
        assert set(state.symbol_watermarks().values()) == {THIRD}
    heal = forbid(begun, "data_ingestion_watermark")
    assert begun.evening(DAYS[3]).run("fetch", "bars").code == 1
    heal()
    with begun.state as state:
        rows = [state.watermark_history(symbol) for symbol in SYMBOLS]
    assert [[row.last_session for row in history if row.is_current] for history in rows] == [[THIRD]] * len(SYMBOLS)


def test_D22_the_counts_of_a_run_are_what_it_did(begun: Desk) -> None:
    """Rows, requests, writes and bytes stand in the record of runs as they were, and 0 where nothing was done."""
    before = len(begun.provider.requests)
    del begun.provider.market.bars[NEXT]["IBM"]
    begun.evening(NEXT).run("fetch", "bars", "--date", str(NEXT))
    run = begun.last_run()
    assert (run.counts["rows"], run.counts["landed"], run.traffic.requests) == (8, 1, 1)
    puts = 1 + 8 + 1  # landing, a file for each of eight symbols, the session in one
    assert (run.traffic.puts, len(begun.provider.requests) - before) == (puts, 1)
    begun.run("fetch", "bars", "--date", str(NEXT))
    run = begun.last_run()
    assert (run.outcome, run.counts["rows"], run.traffic.puts, run.traffic.requests) == ("nothing_new", 0, 0, 1)


def test_D23_some_symbols_are_never_taken_for_all(begun: Desk) -> None:
    """`--symbols` and a single changed bar touch what they name and nothing else: incremental is what it says."""
    begun.run("consolidate", "--symbols", "AAPL,IBM")
    data = [key for key in begun.listed(layout.BRONZE) if key.endswith("/data.parquet")]
    assert data == [layout.data_key("AAPL"), layout.data_key("IBM")]
    begun.run("consolidate")
    begun.provider.market.set_bar("NA", DAY, bar(7.0))
    begun.next_morning(DAY).run("fetch", "bars")
    before = begun.objects()
    counts = begun.run("--json", "consolidate").json["counts"]
    changed = {key for key, body in begun.objects().items() if before.get(key) != body}
    assert counts["symbols_changed"] == 1
    assert {key for key in changed if key.startswith(layout.BRONZE)} == {layout.data_key("NA")}


def test_D23_no_error_is_swallowed_by_a_broad_handler() -> None:
    """Whoever catches all errors raises them again: a bug can end a run, never change what it does."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                caught = "Exception" if node.type is None else ast.unparse(node.type)
                if re.search(r"\b(Exception|BaseException)\b", caught):
                    assert any(isinstance(inside, ast.Raise) for inside in ast.walk(node)), f"{path}:{node.lineno}"


def test_D24_what_is_left_is_no_success(begun: Desk) -> None:
    """Each job that leaves something ends with exit code 1, says `partial`, and is recorded so."""
    begun.evening(NEXT).run("run")
    (begun.folder / "lake" / layout.data_key("IBM")).write_bytes(b"broken")
    begun.evening(THIRD)
    begun.provider.fail(f"{GROUPED}/locale/us/market/stocks/{THIRD}", kind="empty", times=QUICK.empty_attempts)
    assert (begun.run("fetch", "bars").code, begun.last_run().outcome) == (1, "partial")
    begun.run("fetch", "bars")
    begun.provider.market.add_ticker("IBM", ticker=17)
    for words in (["fetch", "meta"], ["consolidate"], ["run"]):
        outcome = begun.run("--json", *words)
        assert (outcome.code, outcome.json["outcome"], outcome.json["left"] != []) == (1, "partial", True), words
        assert begun.last_run().outcome == "partial"
    begun.at(begun.now + timedelta(days=60))
    outcome = begun.run("--json", "vacuum")
    assert (outcome.code, outcome.json["outcome"]) == (1, "partial")
    assert begun.run("verify").code == 1
    assert begun.run("resample", "--force-full").code == 1


def test_D25_two_runs_at_once_end_as_one(begun: Desk) -> None:
    """Two processes start the whole day at the same moment: both end, nothing is lost, and every rule of the lake holds."""
    begun.evening(NEXT)
    words = [sys.executable, "-m", "condvest", "run"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert begun.states() == {DAY: "final", NEXT: "provisional"}
    outcome = begun.run("run")
    assert outcome.out.startswith("run: nothing new: 0 PUT, 0 DELETE")
    assert begun.run("verify").code == 0
    with begun.state as state:
        assert state.symbol_watermarks() == dict.fromkeys(sorted(SYMBOLS), NEXT)


# --- what is there works ----------------------------------------------------------------------------------------------


def test_D26_every_module_can_be_imported() -> None:
    """Each by itself, in a process in which nothing was imported before, but for scripts of the migrations' tool."""
    names = [found.name for found in pkgutil.walk_packages(condvest.__path__, "condvest.")]
    names = [name for name in names if not name.endswith(("migrations.env", "__main__"))]
    assert len(names) > 100
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *names], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def words_of_documents() -> list[list[str]]:
    """Return the words of each `condvest ...` that a document shows, up to what a shell would take for something else."""
    found = []
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]:
        text = path.read_text(encoding="utf-8").replace("\\|", "|")
        lines = re.findall(r"(?:^|`|\$ )condvest ([a-z-][^`\n#]*)", text, re.MULTILINE)
        found += [re.sub(r"[\[\]|]", " ", line).split() for line in lines]
    return found


def test_D26_every_option_that_a_document_shows_is_parsed() -> None:
    """Commands and options of README and docs are those of the program."""
    shown = [words for words in words_of_documents() if not words[0].isupper()]
    assert len(shown) > 40
    for words in shown:
        command: Any = get_command(application)
        options = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
                options |= {option for parameter in command.params for option in parameter.opts}
        asked = {word for word in words if word.startswith("--")}
        assert asked - options == set(), f"condvest {' '.join(words)}"


def test_D26_every_table_takes_and_gives_back_what_jobs_record(begun: Desk) -> None:
    """No column has another name than its insert's: each table of a fresh database is filled by a day's work and read."""
    begun.evening(NEXT).run("run", "--details", "2")
    with closing(sqlite3.connect(begun.folder / "lake" / ".condvest" / "state.sqlite")) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
    assert {name for name, count in counts.items() if not count and not name.startswith("sqlite_")} == set()
    with begun.state as state:
        read = (state.symbols(), state.sessions(), state.symbol_watermarks(), state.recent_runs(9))
    assert all(read)
    assert isinstance(state, State)


def test_every_defect_has_a_test_with_its_number() -> None:
    """D01 to D26, each named by at least one test."""
    numbers = {found[1] for name in known_tests() if (found := re.search(r"::test_D(\d\d)_", name))}
    assert numbers == {f"{number:02d}" for number in range(1, 27)}
