"""The command line against the stand-in provider: what it prints, how it ends, and what it says to wrong input."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pty
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine
from sqlalchemy.event import listen, remove

from condvest.cli import main
from condvest.config import settings_table
from condvest.demo.market import Bar, Market
from condvest.demo.standin import StandIn
from condvest.domain.calendar import Calendar
from condvest.storage import layout
from servers.seaweed import BUCKET, S3Server

GROUPED = "/v2/aggs/grouped"
SYMBOLS = ("AAPL", "BCPC", "BCpC")
SESSIONS = Calendar.shipped().sessions(date(2024, 1, 2), date(2024, 3, 1))
SPLIT_DAY = date(2024, 2, 1)
FIRST, LAST = SESSIONS[0], SESSIONS[-1]
NOW = "2024-03-02T18:00:00Z"  # Saturday; the last session closed and is final
EARLIER = "2024-02-28T17:00:00Z"  # 12:00 in New York: the session of that day is still open
BULK_LAST = SESSIONS[-5]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout; fails when there is anything besides."""
        (line,) = self.out.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    @property
    def error(self) -> str:
        """The one line on stderr that is not a log line."""
        (line,) = [line for line in self.err.splitlines() if not line.startswith(("I ", "W "))]
        return line


Run = Callable[..., Outcome]


def made_market() -> Market:
    """Three symbols over two months, one split inside."""
    market = Market()
    for number, session in enumerate(SESSIONS):
        for symbol in SYMBOLS:
            close = 100.0 + number + len(symbol)
            if symbol == "AAPL" and session >= SPLIT_DAY:
                close /= 2
            market.set_bar(symbol, session, Bar(close - 1, close + 2, close - 3, close, 1000.5, close, 12))
    market.add_split("AAPL", SPLIT_DAY, 1, 2)
    market.add_dividend("BCPC", date(2024, 1, 16), 0.5)
    return market


def settings_of(provider: StandIn) -> dict[str, str]:
    """Return the settings with which every test begins."""
    return {
        "LAKE_URL": "lake",
        "POLYGON_BASE_URL": provider.url,
        "POLYGON_API_KEY": provider.api_key,
        "POLYGON_REQUESTS_PER_MINUTE": "0",
        "CONDVEST_NOW": NOW,
        "CONDVEST_FSYNC": "false",
    }


@pytest.fixture(scope="module")
def provider() -> Iterator[StandIn]:
    """The provider, with a clock long after the last session."""
    with StandIn(made_market(), now=lambda: datetime(2024, 3, 4, 1, tzinfo=UTC), api_key="s3cr3t-key") as running:
        yield running


@pytest.fixture(scope="module")
def filled(provider: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with all that jobs make: a backfill, a few daily sessions, metadata, silver."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in settings_of(provider).items():
            patch.setenv(name, value)
        for words in (
            ["fetch", "bars", "--from", str(FIRST), "--to", str(BULK_LAST)],
            ["fetch", "bars"],
            ["fetch", "meta"],
            ["consolidate"],
            ["resample"],
        ):
            assert main(words) == 0
    return folder / "lake"


@pytest.fixture(autouse=True)
def _quiet_logger() -> Iterator[None]:
    """Leave the logger as it was: an entry point sets it up for the whole process."""
    logger = logging.getLogger("condvest")
    kept = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = kept


@pytest.fixture
def here(provider: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working folder and the settings of every test."""
    for name in [*os.environ]:
        if name in {setting.name for setting in settings_table()} or name.startswith(("CONDVEST_", "MASSIVE_")):
            monkeypatch.delenv(name)
    for name, value in settings_of(provider).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    provider.heal()
    return tmp_path


@pytest.fixture
def run(here: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Call the command in this process."""

    def call(*words: str) -> Outcome:
        capfd.readouterr()
        code = main(words)
        said = capfd.readouterr()
        return Outcome(code, said.out, said.err)

    return call


@pytest.fixture
def done(here: Path, filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The filled lake itself, for what must not change it: a copy's ETags are others, so manifests do not fit it."""
    monkeypatch.setenv("LAKE_URL", str(filled))
    return filled


@pytest.fixture
def lake(here: Path, filled: Path) -> Path:
    """A copy of the filled lake, in the working folder."""
    return Path(shutil.copytree(filled, here / "lake"))


def content(folder: Path, *, objects_only: bool) -> dict[str, str]:
    """Return a digest of each file in a lake; its state, and all else that is no object, can be left out."""
    files = [path for path in folder.rglob("*") if path.is_file() and "locks" not in path.parts]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not (objects_only and ".condvest" in path.parts)
    }


# --- wrong input: one line, the right exit code, nothing changed ---------------------------------------------------

WRONG_WORDS: list[tuple[str, str]] = [
    ("fetch bars --date 2024-02-30", "--date is '2024-02-30'"),
    ("fetch bars --date 02/01/2024", "write year-month-day"),
    ("fetch bars --date 2024-01-15", "nearest sessions are 2024-01-12 and 2024-01-16"),
    ("fetch bars --date 2024-03-04", "has not closed"),
    ("fetch bars --date 2024-02-01 --from 2024-02-01", "--date does not go with"),
    ("fetch bars --to 2024-02-01", "needs --from"),
    ("fetch bars --from 2024-02-02 --to 2024-02-01", "is after"),
    ("fetch bars --from 2024-01-13 --to 2024-01-15", "no session lies from"),
    ("fetch bars --from 2024-02-01 --to 2024-12-31", "in the future"),
    ("fetch bars --from 1900-01-01", "outside the calendar"),
    ("fetch bars --date 2023-12-01", "--from 2023-12-01 --to 2023-12-29"),
    ("fetch bars --symbols ../x", "symbol '../x'"),
    ("fetch bars --symbols AAPL,", "symbol ''"),
    ("fetch bars --symbols AAPL --source flat-files", "does not go with --symbols"),
    ("fetch bars --symbols AAPL --accept-short", "does not go with --symbols"),
    ("fetch bars --source flat-files", "POLYGON_FLAT_FILES_ACCESS_KEY_ID is not set"),
    ("fetch bars --source ftp", "'ftp' is not one of"),
    ("fetch meta --details -1", "'-1' is no whole number"),
    ("fetch meta --details 1e3", "'1e3' is no whole number"),
    ("fetch", "Missing command"),
    ("consolidate --retention-days 6", "7 at least"),
    ("consolidate --retention-days thirty", "'thirty' is no whole number"),
    ("consolidate --retention-days 99999999999", "no whole number from 0 to"),
    ("consolidate --symbols a/b", "symbol 'a/b'"),
    ("vacuum --retention-days 0", "--force"),
    ("vacuum --symbols ' '", "symbol"),
    ("resample --intervals 4", "holds '4'"),
    ("resample --intervals 3,x", "holds 'x'"),
    ("run --retention-days 1", "7 at least"),
    ("replay --from 2024-02-01", "Missing option '--to'"),
    ("replay --to 2024-02-01", "Missing option '--from'"),
    ("replay --from 2024-02-02 --to 2024-02-01", "is after"),
    ("replay --from 2024-02-30 --to 2024-03-01", "--from is '2024-02-30'"),
    ("replay --from 2024-01-13 --to 2024-01-15", "no session lies from"),
    ("replay --from 2024-02-01 --to 2024-03-04", "in the future"),
    ("replay --from 2024-02-01 --to 2024-02-02 --symbols a/b", "symbol 'a/b'"),
    ("--lake no/such/lake replay --from 2024-02-01 --to 2024-02-02", "no lake at"),
    ("--lake no/such/lake verify --repair", "no lake at"),
    ("bars", "Missing argument"),
    ("bars ZZZ", "ZZZ"),
    ("bars aapl", "AAPL"),
    ("bars A/B", "A/B"),
    ("bars AAPL --interval 3w", "3w"),
    ("bars AAPL --interval 0d", "0d"),
    ("bars AAPL --from 2024-13-01", "--from is '2024-13-01'"),
    ("bars AAPL --from 2024-02-02 --to 2024-02-01", "2024-02-02"),
    ("bars AAPL --adjusted dividends", "'dividends' is not one of"),
    ("bars AAPL --as-of noon", "--as-of is 'noon'"),
    ("bars AAPL --format xml", "'xml' is not one of"),
    ("query selec", "selec"),
    ("query 'select * from nowhere'", "nowhere"),
    ("closures --add 2024-13-01", "--add is '2024-13-01'"),
    ("closures --add 1900-01-01", "outside the calendar"),
    (
        "closures --add 2026-06-06",
        "2026-06-06 is no session of XNYS; the nearest sessions are 2026-06-05 and 2026-06-08",
    ),
    ("--now yesterday status", "--now is 'yesterday'"),
    ("--now 2024-03-02T18:00:00 status", "no time zone"),
    ("--lake no/such/lake status", "no lake at"),
    ("--lake no/such/lake consolidate", "no lake at"),
    ("--lake no/such/lake bars AAPL", "no lake at"),
    ("--lake no/such/lake fetch bars", "--from 2020-01-02"),
    ("--lake no/such/lake run", "--from 2020-01-02"),
    ("--lake ftp://host/lake status", "unknown scheme 'ftp'"),
    ("--lake s3:///x status", "nothing between"),
    ("--lake s3://user:hunter2@bucket status", "AWS_ACCESS_KEY_ID"),
    ("status --prices prices.json", "--prices goes with --cost"),
    ("status --cost --prices no/such.json", "'no/such.json' cannot be read (No such file"),
    ("status --cost --prices .", "'.' cannot be read (Is a directory"),
    ("--lake no/such/lake status --cost", "no lake at"),
    ("--nonsense status", "No such option"),
    ("nonsense", "No such command"),
]


@pytest.mark.parametrize(("words", "said"), WRONG_WORDS, ids=[words for words, _ in WRONG_WORDS])
def test_wrong_words_are_told_in_one_line_and_change_nothing(
    run: Run, here: Path, done: Path, words: str, said: str
) -> None:
    """Exit code 2, one line with the value and the remedy, no traceback, nothing written anywhere."""
    before = content(done, objects_only=False)
    outcome = run(*shlex.split(words))
    assert outcome.code == 2
    assert outcome.out == ""
    assert said in outcome.error
    assert "Traceback" not in outcome.err
    assert "hunter2" not in outcome.err
    assert content(done, objects_only=False) == before
    assert list(here.iterdir()) == []


WRONG_SETTINGS: list[tuple[dict[str, str], str, str]] = [
    ({"POLYGON_API_KEY": ""}, "fetch bars", "POLYGON_API_KEY is not set"),
    ({"POLYGON_API_KEY": "two words"}, "fetch bars", "POLYGON_API_KEY holds a space"),
    ({"POLYGON_BASE_URL": "http://example.com"}, "fetch bars", "must be https"),
    ({"POLYGON_BASE_URL": "nowhere"}, "fetch meta", "POLYGON_BASE_URL"),
    ({"POLYGON_REQUESTS_PER_MINUTE": "many"}, "status", "POLYGON_REQUESTS_PER_MINUTE is 'many'"),
    ({"S3_PREFIX": "raw"}, "status", "S3_PREFIX is 'raw'"),
    ({"CONDVEST_NOW": "now"}, "status", "CONDVEST_NOW is 'now'"),
    ({"CONDVEST_UNIVERSE": "AAPL,x y"}, "consolidate --symbols AAPL", "symbol 'x y'"),
    ({"CONDVEST_UNIVERSE": "BCPC"}, "consolidate --symbols AAPL", "not in CONDVEST_UNIVERSE"),
    ({"CONDVEST_UNIVERS": "BCPC"}, "status", "did you mean CONDVEST_UNIVERSE"),
    ({"RESAMPLING_INTERVALS": "3,4"}, "resample", "RESAMPLING_INTERVALS holds '4'"),
    ({"RDS_HOST": "127.0.0.1"}, "status", "RDS_DATABASE is not set"),
    ({"RDS_PORT": "high"}, "status", "RDS_PORT is 'high'"),
]


@pytest.mark.parametrize(("settings", "words", "said"), WRONG_SETTINGS)
def test_wrong_settings_are_named_and_change_nothing(
    run: Run, done: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], words: str, said: str
) -> None:
    """Exit code 2, one line that names the variable; nothing written."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    before = content(done, objects_only=False)
    outcome = run(*words.split())
    assert outcome.code == 2
    assert said in outcome.error
    assert content(done, objects_only=False) == before


def _spoil(key: str) -> Callable[[Path], None]:
    def spoil(lake: Path) -> None:
        (lake / key).write_bytes(b"PAR1 this is no parquet file")

    return spoil


BROKEN_FILES: list[tuple[Callable[[Path], None], str, int, str]] = [
    (_spoil(layout.CLOSURES), "status", 1, layout.CLOSURES),
    (_spoil(layout.CLOSURES), "bars AAPL --interval 3d", 1, layout.CLOSURES),
    (_spoil(layout.CLOSURES), "verify --repair", 1, layout.CLOSURES),
    (_spoil(layout.data_key("AAPL")), "bars AAPL", 1, "symbol=AAPL/data.parquet"),
    (_spoil(layout.data_key("AAPL")), "resample --force-full", 1, "symbol=AAPL/data.parquet"),
    (_spoil(layout.SPLITS), "bars AAPL --adjusted splits", 1, layout.SPLITS),
    (_spoil(layout.SPLITS), "resample --force-full", 1, layout.SPLITS),
    (_spoil(".condvest/state.sqlite"), "status", 1, "rebuilt from the lake"),
]


@pytest.mark.parametrize(("spoil", "words", "code", "said"), BROKEN_FILES)
def test_a_broken_file_is_named_and_nothing_is_written(
    run: Run, lake: Path, spoil: Callable[[Path], None], words: str, code: int, said: str
) -> None:
    """What cannot be read is told in one line with its key; no object changes."""
    spoil(lake)
    before = content(lake, objects_only=True)
    outcome = run(*words.split())
    assert outcome.code == code
    assert said in outcome.error
    assert "Traceback" not in outcome.err
    assert content(lake, objects_only=True) == before


@pytest.mark.parametrize("words", ["consolidate", "status", "resample", "vacuum"])
def test_a_broken_manifest_is_no_harm(run: Run, lake: Path, words: str) -> None:
    """It is a cache: told in a log line, and built again by the job whose it is."""
    _spoil(layout.MANIFEST)(lake)
    outcome = run(*words.split())
    assert outcome.code == 0
    assert (lake / layout.MANIFEST).exists()
    run("consolidate")
    assert run("consolidate").out.startswith("consolidate: nothing new: 0 PUT, 0 DELETE")


def test_a_refused_key_is_named_and_never_shown(
    run: Run, here: Path, provider: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """401 ends the run with the setting to fix; neither key is in any output."""
    monkeypatch.setenv("POLYGON_API_KEY", "wr0ng-key")
    outcome = run("fetch", "bars", "--from", str(LAST))
    assert outcome.code == 2
    assert "POLYGON_API_KEY was refused" in outcome.error
    assert "wr0ng-key" not in outcome.out + outcome.err
    assert provider.api_key not in outcome.out + outcome.err


@pytest.mark.parametrize(("words", "said"), [*WRONG_WORDS[:6], *WRONG_WORDS[-10:]], ids=lambda value: str(value))
def test_with_json_an_error_is_one_object_on_stdout(run: Run, done: Path, words: str, said: str) -> None:
    """Errors and wrong usage too: `error` is the line, `kind` its class."""
    outcome = run("--json", *shlex.split(words))
    assert outcome.code == 2
    found = outcome.json
    assert said in found["error"]
    assert found["kind"] in ("ConfigError", "UsageError")


def test_options_behind_the_command_are_told_where_they_belong(run: Run, done: Path) -> None:
    """`condvest status --json` is a likely slip: the message says how to write it."""
    outcome = run("status", "--json")
    assert outcome.code == 2
    assert "go before the command: condvest --json status" in outcome.json["error"]
    assert "go before the command" in run("bars", "AAPL", "--now", NOW).error


# --- what commands do ----------------------------------------------------------------------------------------------

JOB_KEYS = {"job", "outcome", "counts", "left", "remaining", "traffic", "provider_bytes", "seconds"}
JOBS = ["fetch bars", "fetch meta", "consolidate", "resample", "vacuum", "run", "verify", "verify --repair"]
SAID = {"verify": "every rule holds", "verify --repair": "nothing to repair, every rule holds"}


@pytest.mark.parametrize("job", JOBS)
def test_a_second_run_writes_nothing_and_says_so(run: Run, done: Path, job: str) -> None:
    """Each job on a lake where all is done: exit code 0, 0 PUT, 0 DELETE, as text and as JSON; no object changes."""
    before = content(done, objects_only=True)
    outcome = run(*job.split())
    assert outcome.code == 0
    assert outcome.out.startswith(f"{job}: {SAID.get(job, 'nothing new')}: 0 PUT, 0 DELETE")
    outcome = run("--json", *job.split())
    found = outcome.json
    assert set(found) == JOB_KEYS
    assert (found["job"], found["outcome"], found["left"]) == (job, "nothing_new", [])
    assert (found["traffic"]["puts"], found["traffic"]["deletes"]) == (0, 0)
    assert content(done, objects_only=True) == before


def test_a_day_from_an_empty_lake(run: Run, here: Path) -> None:
    """The first fetch needs a date; then `run` does the rest, and bars can be read."""
    outcome = run("--json", "fetch", "bars", "--from", "2024-02-26", "--to", "2024-02-28")
    found = outcome.json
    assert found["outcome"] == "done"
    assert found["counts"]["final"] == ["2024-02-26", "2024-02-27", "2024-02-28"]
    assert found["traffic"]["requests"] == 3
    outcome = run("--json", "run")
    assert (outcome.code, outcome.json["outcome"]) == (0, "done")
    assert list(outcome.json["counts"]["steps"]) == ["fetch bars", "fetch meta", "consolidate", "resample"]
    rows = run("--json", "bars", "AAPL").json["rows"]
    assert [row["date"] for row in rows] == [str(day) for day in SESSIONS[-5:]]


def test_D24_what_is_left_ends_with_1_and_names_it(run: Run, here: Path, provider: StandIn) -> None:
    """A session that the provider does not hand out yet: exit code 1, its date and reason; the next run takes it."""
    refused = {"status": "NOT_AUTHORIZED", "message": "Attempted to request today's data before end of day"}
    provider.fail(f"{GROUPED}/locale/us/market/stocks/{LAST}", status=403, body=refused)
    outcome = run("fetch", "bars", "--from", str(SESSIONS[-2]))
    assert outcome.code == 1
    assert outcome.error.startswith(f"left: {LAST}:")
    status = run("--json", "status").json
    assert status["sessions"]["pending"] == 1
    assert status["gaps"] == [str(LAST)]
    assert status["watermark"] == str(SESSIONS[-2])
    assert status["runs"][0]["outcome"] == "partial"
    assert "gaps                 2024-03-01" in run("status").out
    outcome = run("run")
    assert outcome.code == 0
    assert run("--json", "status").json["gaps"] == []


def test_an_outage_of_metadata_does_not_stop_the_day(run: Run, here: Path, provider: StandIn) -> None:
    """`run` goes on after a step that failed, ends with 1, and says which step it was."""
    assert run("fetch", "bars", "--from", str(LAST)).code == 0
    provider.fail("/v3/reference/tickers", status=400)
    outcome = run("run")
    assert outcome.code == 1
    assert outcome.error.startswith("left: fetch meta: ")
    assert (here / "lake" / layout.data_key("AAPL")).exists()
    assert (here / "lake" / layout.checkpoint_key(3)).exists()


@pytest.mark.s3
def test_a_lake_that_does_not_wait_for_the_disk_says_so_once_a_command(
    run: Run, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONDVEST_FSYNC=false is for lakes that may be thrown away: each command warns, and stdout stays as it is."""
    for words in (["consolidate"], ["--json", "status"]):
        outcome = run(*words)
        (line,) = [line for line in outcome.err.splitlines() if "not_durable" in line]
        assert line.startswith("W not_durable setting=CONDVEST_FSYNC=false lake=file:///")
        assert "a power failure may lose writes" in line
        assert "not_durable" not in outcome.out
    monkeypatch.setenv("CONDVEST_FSYNC", "true")
    assert "not_durable" not in run("status").err


def test_the_same_commands_on_s3(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, s3_server: S3Server) -> None:
    """Bucket, prefix, server and keys from `.env` alone; a day's work, status and bars as on a folder; wrong keys are told."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "LAKE_URL"):
        monkeypatch.setenv(name, "")  # brought back at the end, whatever the command hands to its client library
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(here / "state"))
    lake = {"S3_BUCKET": BUCKET, "S3_PREFIX": f"{here.name}/bronze/raw_ohlcv"} | s3_server.environment()
    (here / ".env").write_text("".join(f"{name}={value}\n" for name, value in lake.items()))
    assert "no lake at s3://" in run("status").error
    assert run("fetch", "bars", "--from", str(SESSIONS[-3])).code == 0
    assert run("run").code == 0
    status = run("--json", "status").json
    assert status["lake"] == f"s3://{BUCKET}/{here.name}"
    assert (status["sessions"]["final"], status["pending_files"]) == (3, 0)
    assert run("run").out.startswith("run: nothing new: 0 PUT, 0 DELETE")
    assert len(run("--json", "bars", "AAPL").json["rows"]) == 3
    assert run("verify").code == 0
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ng")
    outcome = run("status")
    assert outcome.code == 2
    assert "access refused" in outcome.error
    assert "wr0ng" not in outcome.err


def test_symbols_leave_the_ledger_as_it_is(run: Run, lake: Path) -> None:
    """`--symbols` takes the whole range of the lake by default, or the sessions that are named."""
    before = run("--json", "status").json["sessions"]
    found = run("--json", "fetch", "bars", "--symbols", "AAPL,BCpC").json
    assert (found["outcome"], found["traffic"]["requests"]) == ("done", 2)
    assert run("fetch", "bars", "--symbols", "AAPL", "--date", str(LAST)).code == 0
    assert run("--json", "status").json["sessions"] == before


def test_symbols_on_an_empty_lake_need_dates(run: Run, here: Path) -> None:
    """There is no range to take by default."""
    outcome = run("fetch", "bars", "--symbols", "AAPL")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--from 2020-01-02" in outcome.error
    assert list(here.iterdir()) == []


def test_a_session_that_is_open_waits_for_its_close(run: Run, here: Path) -> None:
    """Without an end a range goes to the last session that has closed by --now."""
    assert run("--now", EARLIER, "fetch", "bars", "--from", "2024-02-26").code == 0
    status = run("--now", EARLIER, "--json", "status").json
    assert (status["watermark"], status["last_closed"], status["due"]) == ("2024-02-27", "2024-02-27", 0)
    assert run("--json", "status").json["due"] == 3


def test_a_lost_state_is_rebuilt_before_anything_is_decided(run: Run, lake: Path) -> None:
    """Without its database the ledger comes back from the lake: nothing is fetched again."""
    known = run("--json", "status").json
    shutil.rmtree(lake / ".condvest")
    found = run("--json", "fetch", "bars").json
    assert (found["outcome"], found["traffic"]["requests"]) == ("nothing_new", 0)
    status = run("--json", "status").json
    assert (status["sessions"], status["watermark"]) == (known["sessions"], known["watermark"])


def test_a_dry_vacuum_prints_what_a_real_one_removes(run: Run, lake: Path) -> None:
    """The same keys, and the dry run removes none."""
    later = ("--now", "2024-06-01T00:00:00Z")
    before = content(lake, objects_only=True)
    outcome = run(*later, "vacuum", "--dry-run")
    told = {line.removeprefix("would remove ") for line in outcome.out.splitlines() if line.startswith("would")}
    assert content(lake, objects_only=True) == before
    removed = run(*later, "--json", "vacuum").json
    assert set(removed["counts"]["removed"]) == told == before.keys() - content(lake, objects_only=True).keys()
    assert len(told) == 4 * len(SYMBOLS)


def test_verify_names_what_is_broken(run: Run, lake: Path) -> None:
    """Exit code 1 and one line for each broken rule, on stderr or in `left`."""
    (lake / layout.data_key("AAPL")).unlink()
    outcome = run("verify")
    assert outcome.code == 1
    assert "left: " in outcome.err
    rules = {line.split(": ")[1] for line in outcome.err.splitlines() if line.startswith("left: ")}
    assert outcome.out.startswith(f"verify: {len(rules)} rules broken")
    found = run("--json", "verify")
    assert found.code == 1
    assert found.json["outcome"] == "partial"
    assert found.json["left"]


@pytest.mark.parametrize("words", ["verify", "vacuum --dry-run"])
def test_who_may_only_read_a_lake_may_look_at_it(run: Run, lake: Path, words: str) -> None:
    """What writes nothing is done where nothing may be written: that it is not recorded is told."""

    def closed(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA query_only = on")

    before = content(lake, objects_only=False)
    listen(Engine, "connect", closed)
    try:
        outcome, refused = run(*words.split()), run("vacuum")
    finally:
        remove(Engine, "connect", closed)
    assert (outcome.code, "run_not_recorded" in outcome.err) == (0, True)
    assert (refused.code, "cannot be opened for writing" in refused.err) == (2, True)
    assert content(lake, objects_only=False) == before


def test_a_state_that_lacks_a_table_is_told_by_who_only_reads_too(run: Run, lake: Path) -> None:
    """Only that nothing may be written is passed over."""
    with sqlite3.connect(lake / ".condvest" / "state.sqlite") as state:
        state.execute("DROP TABLE batch_jobs")
    state.close()
    outcome = run("verify")
    assert (outcome.code, "no such table: batch_jobs" in outcome.err) == (2, True)


def test_verify_names_a_file_whose_name_is_no_text(run: Run, lake: Path) -> None:
    """A name need not be UTF-8: it is told with an escape, and so is the run that found it."""
    Path(os.fsdecode(bytes(lake / "bronze" / "raw_ohlcv") + b"/bad\xff.parquet")).touch()
    outcome = run("--json", "verify")
    assert (outcome.code, r"raw_ohlcv/bad\udcff.parquet" in outcome.out) == (0, True)
    assert run("--json", "status").json["runs"][0]["outcome"] == "nothing_new"


def without_seconds(text: str) -> list[str]:
    """Return the lines of a result without how long it took and without the counts of what was read."""
    return [re.sub(r" \(\d+\.\d s\)$", "", line) for line in text.splitlines() if not line.startswith("  ")]


@pytest.fixture
def linked(here: Path, filled: Path) -> Path:
    """The filled lake in the working folder, with the ETags that it has: hard links keep them. Unlink before you write."""
    lake = Path(shutil.copytree(filled, here / "lake", copy_function=os.link))
    shutil.rmtree(lake / ".condvest")
    shutil.copytree(filled / ".condvest", lake / ".condvest")
    return lake


def spoil_caches(lake: Path) -> None:
    """Lose a manifest, cut a checkpoint in two, and put something else in place of a month of silver."""
    for key in (layout.MANIFEST, layout.checkpoint_key(5), layout.silver_key(3, 2024, 1)):
        (lake / key).unlink()
    (lake / layout.checkpoint_key(5)).write_bytes(b'{"version": 1,')
    (lake / layout.silver_key(3, 2024, 1)).write_bytes(b"PAR1")


def test_verify_repair_tells_what_it_found_and_repaired(run: Run, linked: Path) -> None:
    """Exit code 0 when nothing is broken any more; a second one has nothing to do; the run is recorded by its name."""
    before = content(linked, objects_only=True)
    spoil_caches(linked)
    outcome = run("verify", "--repair")
    assert outcome.code == 0
    month = layout.silver_key(3, 2024, 1)
    assert without_seconds(outcome.out) == [
        "verify --repair: 2 repaired, every rule holds: 4 PUT, 0 DELETE",
        f"found: silver_file: {month}: not a readable parquet file (Parquet file size is 4 bytes, smaller than the minimum"
        " file footer (8 bytes))",
        f"found: checkpoint: {layout.checkpoint_key(5)}: cannot be read",
        f"repaired: {layout.MANIFEST}: built from bronze",
        "repaired: silver 3d, 5d: 1 month files written, checkpoints that name them",
    ]
    changed = {key for key, digest in content(linked, objects_only=True).items() if before.get(key) != digest}
    assert changed <= {layout.MANIFEST, layout.checkpoint_key(3), layout.checkpoint_key(5)}
    assert run("verify", "--repair").out.startswith(
        "verify --repair: nothing to repair, every rule holds: 0 PUT, 0 DELETE"
    )
    assert [job["job"] for job in run("--json", "status").json["runs"][:2]] == ["verify --repair"] * 2


def test_verify_repair_with_json_has_found_repaired_and_left(run: Run, linked: Path) -> None:
    """With damaged bronze the exit code is 1, silver is left alone and all that is left has its remedy."""
    spoil_caches(linked)
    (linked / layout.data_key("AAPL")).unlink()
    (linked / layout.data_key("AAPL")).write_bytes(b"PAR1")
    outcome = run("--json", "verify", "--repair")
    assert outcome.code == 1
    found = outcome.json
    assert set(found) == JOB_KEYS
    assert (found["job"], found["outcome"]) == ("verify --repair", "partial")
    assert {one["rule"] for one in found["counts"]["found"]} >= {"bronze_file", "cache", "checkpoint", "silver_file"}
    assert found["counts"]["repaired"] == [f"{layout.MANIFEST}: built from bronze"]
    assert (found["traffic"]["puts"], found["traffic"]["deletes"]) == (1, 0)
    assert sorted(line.split(":")[0] for line in found["left"]) == [
        "bronze_file",
        "checkpoint",
        "silver 3d, 5d",
        "silver_file",
    ]
    assert all("; " in line for line in found["left"])
    outcome = run("verify", "--repair")
    assert outcome.code == 1
    assert outcome.out.startswith("verify --repair: nothing repaired, 4 left: 0 PUT, 0 DELETE")
    assert outcome.err.count("left: ") == 4
    assert run("consolidate", "--force-full", "--symbols", "AAPL", "--skip-cleanup").code == 0
    assert run("verify", "--repair").code == 0


def test_verify_repair_of_a_lost_state(run: Run, linked: Path) -> None:
    """The database is rebuilt from the lake and the report says so; one that is no database is named, not replaced."""
    shutil.rmtree(linked / ".condvest")
    outcome = run("verify", "--repair")
    assert (outcome.code, without_seconds(outcome.out)) == (
        0,
        [
            "verify --repair: 1 repaired, every rule holds: 0 PUT, 0 DELETE",
            f"repaired: session ledger: was empty; {len(SESSIONS)} sessions and the watermarks from the lake",
        ],
    )
    (linked / ".condvest" / "state.sqlite").write_bytes(b"this is no database, and long enough to tell" * 99)
    outcome = run("verify", "--repair")
    assert (outcome.code, outcome.out) == (1, "")
    assert "move the file away and run again: it is rebuilt from the lake" in outcome.error


def test_replay_needs_no_key_and_asks_nobody(
    run: Run, linked: Path, provider: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost bronze comes back from landing, as text and as JSON; a second run writes nothing."""
    monkeypatch.delenv("POLYGON_API_KEY")
    asked = len(provider.requests)
    shutil.rmtree(linked / layout.BRONZE)
    (linked / layout.MANIFEST).unlink()
    words = ("replay", "--from", str(FIRST), "--to", str(LAST))
    outcome = run(*words)
    assert outcome.code == 0
    puts = len(SYMBOLS) + 2  # each data.parquet, recent bars, manifest
    assert outcome.out.splitlines()[0].startswith(f"replay: done: {puts} PUT, 0 DELETE (")
    assert outcome.out.splitlines()[1:] == [f"  sessions {len(SESSIONS)}, rows {len(SESSIONS) * len(SYMBOLS)}"]
    assert run(*words).out.startswith("replay: nothing new: 0 PUT, 0 DELETE")
    found = run("--json", *words).json
    assert set(found) == JOB_KEYS
    assert (found["job"], found["outcome"], found["left"]) == ("replay", "nothing_new", [])
    assert found["counts"] == {"sessions": len(SESSIONS), "rows": 0, "changed": 0, "provisional": [], "final": []}
    assert (found["traffic"]["puts"], found["traffic"]["requests"]) == (0, 0)
    assert run("verify", "--repair").code == 0
    assert len(provider.requests) == asked


def test_replay_names_what_it_leaves(run: Run, linked: Path) -> None:
    """A session of which nothing landed, an answer that cannot be read, a history that is lost: exit code 1, with remedies."""
    first, second = SESSIONS[1:3]
    shutil.rmtree(linked / layout.landing_prefix("grouped", first))
    (answer,) = (linked / layout.landing_prefix("grouped", second)).iterdir()
    answer.unlink()
    answer.write_bytes(b"spoiled")
    (linked / layout.data_key("AAPL")).unlink()
    words = ("replay", "--from", str(FIRST), "--to", str(SESSIONS[3]))
    outcome = run(*words)
    assert (outcome.code, outcome.out.splitlines()[0].split(" (")[0]) == (1, "replay: partial: 0 PUT, 0 DELETE")
    left = run("--json", *words).json["left"]
    assert [line.partition(":")[0] for line in left] == [
        str(first),
        str(second),
        layout.data_key("AAPL"),
        str(FIRST),
        str(SESSIONS[3]),
    ]
    assert left[0].endswith(
        f"nothing landed; restore bronze/landing/ from a copy, or run `condvest fetch bars --date {first}`"
    )
    assert "restore it from a copy" in left[1]
    assert left[2].endswith("run `condvest consolidate --force-full --symbols AAPL`, which rebuilds it from landing")
    assert "done by the ledger, but not all of its bars are in bronze" in left[3]
    outcome = run("replay", "--from", str(FIRST), "--to", str(FIRST), "--symbols", "BCPC")
    assert (outcome.code, outcome.out.splitlines()[0].split(" (")[0]) == (0, "replay: nothing new: 0 PUT, 0 DELETE")


def test_status_tells_all_at_once(run: Run, done: Path) -> None:
    """Sessions by state, watermark, sizes by layer, pending files and the last runs, as text and as JSON."""
    found = run("--json", "status").json
    assert found["sessions"]["final"] == len(SESSIONS)
    assert (found["watermark"], found["first_session"]) == (str(LAST), str(FIRST))
    assert (found["symbols"], found["pending_files"], found["due"]) == (len(SYMBOLS), 0, 0)
    assert found["layers"]["bronze/raw_ohlcv/date="]["objects"] == 4 * len(SYMBOLS)
    assert found["layers"]["bronze/raw_ohlcv/data.parquet"]["objects"] == len(SYMBOLS)
    assert found["layers"]["silver/silver_3d"]["size_bytes"] > 0
    assert len(found["runs"]) == 5
    assert found["runs"][0]["traffic"].keys() >= {"requests", "puts", "deletes"}
    text = run("status").out
    for line in (f"watermark            {LAST}", f"sessions             {len(SESSIONS)} final", "silver/silver_34d"):
        assert line in text


def test_status_counts_pending_files_by_the_manifest(run: Run, lake: Path) -> None:
    """What the manifest does not know to be merged is pending; consolidation settles it."""
    (lake / layout.MANIFEST).unlink()
    assert run("--json", "status").json["pending_files"] == 4 * len(SYMBOLS)
    assert run("consolidate").code == 0
    assert run("--json", "status").json["pending_files"] == 0


def test_bars_in_four_formats(done: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The same rows as table, CSV, JSON and parquet; `--json` means JSON."""
    words = ("bars", "AAPL", "--interval", "3d", "--from", "2024-02-01", "--adjusted", "splits")
    rows = json.loads(call_bytes(capfdbinary, *words, "--format", "json"))["rows"]
    assert len(rows) > 5
    assert json.loads(call_bytes(capfdbinary, "--json", *words))["rows"] == rows
    csv_lines = call_bytes(capfdbinary, *words, "--format", "csv").decode().splitlines()
    assert len(csv_lines) == len(rows) + 1
    table = call_bytes(capfdbinary, *words).decode().splitlines()
    assert len(table) == len(rows) + 1
    assert table[0].split()[:3] == ["symbol", "date", "end_date"]
    parquet = pq.read_table(io.BytesIO(call_bytes(capfdbinary, *words, "--format", "parquet")))
    assert [str(row["date"]) for row in parquet.to_pylist()] == [row["date"] for row in rows]


def call_bytes(capture: pytest.CaptureFixture[bytes], *words: str) -> bytes:
    """Call the command in this process and return what it wrote to stdout."""
    capture.readouterr()
    assert main(words) == 0
    return capture.readouterr().out


def test_bars_as_of_an_instant_before_the_split_was_known(run: Run, done: Path) -> None:
    """`--as-of` gives the adjustment as it was known then; `--anchor` counts from the listing."""
    words = ("--json", "bars", "AAPL", "--adjusted", "splits", "--to", str(FIRST))
    (now,) = run(*words).json["rows"]
    (then,) = run(*words, "--as-of", "2024-01-20T00:00:00Z").json["rows"]
    assert now["close"] * 2 == then["close"]
    rows = run("--json", "bars", "AAPL", "--interval", "8d", "--anchor", "listing").json["rows"]
    assert rows[0]["date"] == str(FIRST)


def test_json_and_another_format_exclude_each_other(run: Run, done: Path) -> None:
    """Who asks for both is told."""
    outcome = run("--json", "bars", "AAPL", "--format", "csv")
    assert outcome.code == 2
    assert "--format csv does not go with --json" in outcome.json["error"]


def test_query_answers_in_any_format(run: Run, done: Path) -> None:
    """SQL over the lake; numbers that JSON does not know become null."""
    found = run("--json", "query", "select symbol, count(*) as n from bronze group by all order by symbol").json
    assert found["columns"] == ["symbol", "n"]
    assert found["rows"] == [{"symbol": symbol, "n": len(SESSIONS)} for symbol in SYMBOLS]
    odd = "select 'nan'::double as a, interval 1 day as b, 0.5::decimal(4,2) as c, [1, 2] as d"
    assert run("--json", "query", odd).json["rows"][0]["a"] is None
    assert run("query", odd).code == 0
    outcome = run("query", "select {'x': 1} as a", "--format", "csv")
    assert (outcome.code, outcome.out) == (2, "")
    assert "use --format json or parquet" in outcome.error
    assert run("query", "select 1 as a where false").out == "a\n"


def test_closures_are_listed_and_added(run: Run, lake: Path) -> None:
    """A closure that is added is no session from then on."""
    assert run("closures").out.startswith("none recorded")
    assert run("closures", "--add", "2026-06-02", "--add", "2026-06-03").out == "2026-06-02\n2026-06-03\n"
    assert run("--json", "closures").json == {"closures": ["2026-06-02", "2026-06-03"]}
    outcome = run("--now", "2026-06-10T00:00:00Z", "fetch", "bars", "--date", "2026-06-02")
    assert "nearest sessions are 2026-06-01 and 2026-06-04" in outcome.error


def test_a_day_of_which_bars_landed_is_not_taken_for_a_closure(run: Run, done: Path) -> None:
    """A slip in the date would leave its bars without a place in any period."""
    landed = sorted((done / "bronze/landing/grouped").iterdir())[0].name.removeprefix("date=")
    outcome = run("closures", "--add", landed)
    assert outcome.code == 2
    assert f"{landed}: what landed of that day is not empty" in outcome.error
    assert run("closures").out.startswith("none recorded")


def test_a_folder_with_other_files_is_no_lake(run: Run, lake: Path) -> None:
    """A path beside the right one is told as such, and nothing is made in it."""
    other = lake.parent / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    for command in ("status", "verify", "resample"):
        outcome = run("--lake", str(other), command)
        assert (outcome.code, "no lake at" in outcome.error) == (2, True)
    assert [path.name for path in other.iterdir()] == ["notes.txt"]


def test_db_upgrade_may_be_run_again(run: Run, done: Path) -> None:
    """SQLite is at this version by itself; the command says where the state is."""
    assert "state.sqlite is at this version" in run("db", "upgrade").out
    assert run("--json", "db", "upgrade").json["outcome"] == "done"


def test_demo_is_handed_its_folder(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command passes options on and prints what the demo says, on stderr with --json."""
    from types import ModuleType

    def run_demo(folder: Path, *, keep: bool, say: Callable[[str], None]) -> dict[str, Any]:
        say("working")
        return {"folder": str(folder), "keep": keep}

    stub = ModuleType("condvest.demo.scenario")
    stub.run_demo = run_demo  # type: ignore[attr-defined]  # the seam that the command calls
    monkeypatch.setitem(sys.modules, "condvest.demo.scenario", stub)
    assert run("demo").out == "working\n"
    outcome = run("--json", "demo", "--folder", "x", "--no-keep")
    assert outcome.json == {"folder": "x", "keep": False}
    assert outcome.err.endswith("working\n")


# --- how the process behaves ---------------------------------------------------------------------------------------


def test_version_and_help(run: Run) -> None:
    """The version in both forms; without a command the help is printed and the exit code is 2."""
    assert run("--version").out.startswith("condvest ")
    assert run("--json", "--version").json["version"] == run("--version").out.split()[1]
    outcome = run()
    assert (outcome.code, "Commands" in outcome.out) == (2, True)
    assert "no command was given" in run("--json").json["error"]


def test_every_command_and_option_has_a_help_text() -> None:
    """Each command says what it does and each option what it means."""
    from typer.main import get_command

    from condvest.cli.entry import application

    def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name, sub in getattr(command, "commands", {}).items():
            yield from walk(sub, f"{path} {name}")

    found = dict(walk(get_command(application), "condvest"))
    assert {"condvest fetch bars", "condvest db upgrade", "condvest demo", "condvest query"} <= found.keys()
    for path, command in found.items():
        assert command.help, path
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{path} {parameter.name}"


def test_help_loads_nothing_heavy() -> None:
    """`--help` is quick because it loads no library of data, database or network."""
    heavy = ("pyarrow", "duckdb", "sqlalchemy", "pydantic", "numpy", "httpx", "obstore", "alembic")
    code = f"import sys; from condvest.cli import main; main(sys.argv[1:]); print([n for n in {heavy} if n in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[]"
    # typer itself reads the words of a command with pydantic.
    finished = subprocess.run(
        [sys.executable, "-c", code, "fetch", "bars", "--help"], capture_output=True, text=True, check=True
    )
    assert finished.stdout.splitlines()[-1] == "['pydantic']"


def test_an_interrupt_ends_with_130_and_can_be_rerun(run: Run, here: Path, provider: StandIn) -> None:
    """Ctrl-C: one line, no traceback; the same command finishes the work afterwards."""
    provider.fail(GROUPED, kind="delay", seconds=60)
    asked = len(provider.requests)
    words = [sys.executable, "-m", "condvest", "fetch", "bars", "--from", str(LAST)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while len(provider.requests) == asked and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert run("fetch", "bars", "--from", str(LAST)).code == 0
    runs = run("--json", "status").json["runs"]
    assert [(job["outcome"], job["error"]) for job in runs] == [("done", None), ("failed", "KeyboardInterrupt")]


def test_an_interrupt_with_json_is_an_object(run: Run, done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that who reads stdout always finds one."""

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("condvest.app.status.read_status", interrupted)
    outcome = run("--json", "status")
    assert (outcome.code, outcome.json["kind"]) == (130, "Interrupted")


@pytest.mark.parametrize("kind", ["RuntimeError", "OSError"])
def test_D23_a_bug_keeps_its_traceback(done: Path, kind: str) -> None:
    """What is no error of condvest goes on, as a traceback; with JSON stdout still has its one object."""
    code = f"""
import sys
from condvest.app import status
from condvest.cli import main
def broken(*arguments, **options):
    raise {kind}("a bug")
status.read_status = broken
sys.exit(main())
"""
    for option, told in (([], None), (["--json"], kind)):
        words = [sys.executable, "-c", code, *option, "status"]
        finished = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (finished.returncode, f"{kind}: a bug" in finished.stderr) == (1, True)
        assert (json.loads(finished.stdout)["kind"] if finished.stdout else None) == told


def test_a_reader_that_leaves_early_is_no_error_to_see(done: Path) -> None:
    """`condvest bars AAPL | head -1` prints its line and no traceback."""
    words = f"{sys.executable} -m condvest bars AAPL --format csv | head -1"
    finished = subprocess.run(["/bin/sh", "-c", words], capture_output=True, text=True, check=False)
    assert finished.stdout.startswith('"symbol"')
    assert "Traceback" not in finished.stderr
    assert "BrokenPipe" not in finished.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", ["bars AAPL", "bars AAPL --format csv", "bars AAPL --format parquet", "status"])
def test_output_that_finds_no_room_is_one_line(done: Path, words: str) -> None:
    """A full disk is no bug of condvest: `condvest bars AAPL > bars.csv` says so in a line and ends with 1."""
    line = f"{sys.executable} -m condvest {words} > /dev/full"
    finished = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert "No space left on device" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert "Exception ignored" not in finished.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_stream_that_is_closed_is_written_to_in_vain(done: Path, closed: str) -> None:
    """As services and cron jobs are started at times: the command does its work all the same."""
    line = f"{sys.executable} -m condvest --json status {closed}"
    finished = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_a_sum_of_whole_numbers_is_a_number(run: Run, done: Path) -> None:
    """DuckDB's type of such a sum, HUGEINT, comes as a decimal, which JSON would else have as a text."""
    assert run("--json", "query", "SELECT sum(1) AS n FROM range(3)").json["rows"] == [{"n": 3}]


def test_a_type_that_parquet_has_not_is_told_in_a_line(run: Run, done: Path) -> None:
    """The difference of two instants is such a type."""
    outcome = run("query", "SELECT max(ingested_at) - min(ingested_at) AS span FROM bronze", "--format", "parquet")
    assert outcome.code == 2
    assert "--format parquet cannot hold this result" in outcome.err


def test_json_has_instants_whole(run: Run, done: Path) -> None:
    """Microseconds too: `--as-of` with the instant of an action must count that action."""
    query = "SELECT TIMESTAMPTZ '2025-11-20 10:00:00.123456Z' AS at, TIMESTAMPTZ '2025-11-20 10:00:00Z' AS even"
    assert run("--json", "query", query).json["rows"] == [
        {"at": "2025-11-20T10:00:00.123456Z", "even": "2025-11-20T10:00:00Z"}
    ]


def test_a_terminal_gets_bars_and_no_binary(run: Run, lake: Path) -> None:
    """Where a person watches: progress bars, warnings alone, and never parquet onto the screen."""
    (lake / layout.MANIFEST).unlink()
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_terminal("consolidate"))
    assert "consolidate ━" in screen
    assert "consolidate_planned" not in screen
    assert "--format parquet is binary" in on_terminal("bars", "AAPL", "--format", "parquet")


def on_terminal(*words: str) -> str:
    """Run the command on a terminal of its own and return all that it showed."""
    master, slave = pty.openpty()
    settings = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, "-m", "condvest", *words], stdout=slave, stderr=slave, stdin=slave, env=settings
    ) as process:
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 65_536):
                shown += part
        except OSError:  # Linux ends a closed terminal so
            pass
        process.wait(timeout=60)
    os.close(master)
    return shown.decode()


def test_values_that_python_has_no_type_for_are_shown_as_text(run: Run, done: Path) -> None:
    """Nanoseconds and the year 10000 are results of a query like any other."""
    query = "SELECT timestamp_ns '2020-01-01 00:00:00.000000001' AS at, DATE '10000-01-01' AS day"
    found = run("--json", "query", query)
    assert found.code == 0
    assert found.json["rows"][0]["at"].endswith("00.000000001")
    assert run("query", query).code == 0


def test_columns_of_one_name_are_refused_in_json(run: Run, done: Path) -> None:
    """An object would keep the last of them and lose the others without a word."""
    found = run("--json", "query", "SELECT 1 AS a, 2 AS a")
    assert (found.code, found.json["kind"]) == (2, "ConfigError")
    assert "two columns are named 'a'" in found.json["error"]


@pytest.mark.parametrize("words", [["query", "SELECT '\udcff'"], ["--lake", "x" * 300, "status"], ["--\udcff"]])
def test_words_that_no_file_or_text_can_be(run: Run, here: Path, words: list[str]) -> None:
    """Bytes that are not UTF-8 come as halves of surrogate pairs; they and endless paths are wrong usage, not a bug."""
    assert run(*words).code == 2
    assert "error" in run("--json", *words).json
