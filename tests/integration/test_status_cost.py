"""`condvest status --cost`: recorded runs and a lake whose price is known by hand, as a person and as a program sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from condvest.app import App
from condvest.app.cost import SHIPPED, is_on_aws
from condvest.cli import main
from condvest.config import load_settings, settings_table
from condvest.domain.records import Traffic

NOW = datetime(2025, 11, 28, 22, tzinfo=UTC)
FETCH = Traffic(requests=1, gets=2, puts=12_000, lists=2, bytes_in=2_000, bytes_out=30_000_000)
MERGE = Traffic(gets=24_000, puts=12_000, deletes=3, lists=30, bytes_in=90 << 20, bytes_out=60 << 20)
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with 3 MiB in two layers, and no run on record."""
    for name in [*os.environ]:
        if name in {setting.name for setting in settings_table()} or name.startswith(("CONDVEST_", "MASSIVE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKE_URL", "lake")
    monkeypatch.setenv("CONDVEST_NOW", NOW.isoformat())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with App(load_settings()) as app:
        app.store.put("bronze/raw_ohlcv/symbol=AAPL/data.parquet", bytes(1 << 20))
        app.store.put("silver/silver_3d/year=2025/month=11/data_3d_202511.parquet", bytes(2 << 20))
    return tmp_path / "lake"


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Call the command in this process; returns its exit code, stdout and stderr without log lines."""

    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(words)
        said = capfd.readouterr()
        return code, said.out, "\n".join(line for line in said.err.splitlines() if line[:2] not in ("I ", "W "))

    return run


def record(job: str, days_ago: float, traffic: Traffic, *, ends: bool = True, outcome: Any = "done") -> None:
    """Put a run on record."""
    with App(load_settings()) as app:
        at = NOW - timedelta(days=days_ago)
        run = app.state.start_run(job, {}, at)
        if ends:
            app.state.finish_run(run, outcome, counts={}, now=at, traffic=traffic)


def ten_days() -> None:
    """Ten days with a fetch and a merge each; one merge failed, one was killed."""
    for ago in range(10):
        record("fetch bars", ago + 0.2, FETCH)
        record("consolidate", ago + 0.1, MERGE, outcome="failed" if ago == 4 else "done", ends=ago != 5)


def test_a_month_from_ten_days(lake: Path, call: Call) -> None:
    """Requests, bytes and prices by job, the scale, storage by layer, and what all of it is in a month, as JSON."""
    ten_days()
    code, out, _ = call("--json", "status", "--cost")
    found = json.loads(out)
    assert code == 0
    assert (found["lake"], found["on_aws"], found["unfinished"]) == (lake.as_uri(), False, 1)
    assert (found["recorded_days"], found["factor"]) == (10, 3.04)
    fetch, merge = found["jobs"]["fetch bars"], found["jobs"]["consolidate"]
    assert (fetch["runs"], merge["runs"], found["runs"]["runs"]) == (10, 9, 19)
    assert fetch["traffic"] == {
        "requests": 10,
        "gets": 20,
        "puts": 120_000,
        "deletes": 0,
        "lists": 20,
        "bytes_in": 20_000,
        "bytes_out": 300_000_000,
    }
    assert fetch["price"]["puts"] == pytest.approx(0.6)
    assert fetch["total"] == pytest.approx(0.6 + 0.0001 + 0.000008)
    assert merge["total"] == pytest.approx(9 * (0.0096 + 0.06 + 0.00015))
    assert found["runs"]["total"] == pytest.approx(fetch["total"] + merge["total"])
    assert found["runs"]["month"] == pytest.approx(3.04 * found["runs"]["total"])
    assert found["layers"].keys() == {"bronze/raw_ohlcv/data.parquet", "silver/silver_3d"}
    assert found["storage"] == {"objects": 2, "size_bytes": 3 << 20, "month": pytest.approx(3 / 1024 * 0.023)}
    assert found["month"] == pytest.approx(found["runs"]["month"] + found["storage"]["month"])
    assert (found["prices"]["region"], found["prices"]["currency"]) == ("us-east-1", "USD")
    assert (found["prices"]["date"], found["prices"]["s3_delete_per_1000"]) == ("2025-11-30", 0)


TEN_DAYS = """\
Runs of the last 31 days, since 2025-10-28

 job           runs       GET       PUT   LIST   DELETE   provider        read     written      USD   USD a month
 ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
 consolidate      9   216,000   108,000    270       27          0   810.0 MiB   540.0 MiB   0.6278        1.9084
 fetch bars      10        20   120,000     20        0         10    19.5 KiB   286.1 MiB   0.6001        1.8243

 all             19   216,020   228,000    290       27         10   810.0 MiB   826.1 MiB   1.2279        3.7327

What lies in the lake

 layer                           objects      size   USD a month
 ───────────────────────────────────────────────────────────────
 bronze/raw_ohlcv/data.parquet         1   1.0 MiB       <0.0001
 silver/silver_3d                      1   2.0 MiB       <0.0001

 all                                   2   3.0 MiB       <0.0001
"""


def test_the_same_for_a_person(lake: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables with their sums, and a line each for the month, the scale, the killed run, the folder, and the prices."""
    monkeypatch.setenv("COLUMNS", "130")
    ten_days()
    code, out, err = call("status", "--cost")
    assert (code, err) == (0, "")
    tables, remarks = out[: len(TEN_DAYS)], out[len(TEN_DAYS) :].splitlines()
    assert tables == TEN_DAYS
    assert remarks[1] == "A month: 3.7328 USD, requests 3.7327 and storage <0.0001."
    assert remarks[2].startswith(
        "Runs are on record for 10 days of the last 31: for a month of 30.4 days their price is"
    )
    assert "taken 3.040 times" in remarks[2]
    assert remarks[3].startswith("1 run of these days has no end on record")
    assert remarks[4].startswith("This lake is not on AWS, which takes nothing for it")
    assert remarks[5].startswith("Prices of us-east-1, 2025-11-30, in USD: AWS's public price pages")
    assert "DELETE and bytes to and from machines of that region are free" in remarks[5]
    assert "all parts but record-session (docs/aws.md)" in remarks[6]
    assert "Lambda, Batch, database" in remarks[7]
    assert "docs/aws.md, `make price`" in remarks[7]
    assert len(remarks) == 8


def test_without_a_run_that_ended_there_is_no_month(lake: Path, call: Call) -> None:
    """It says so, and when the last run was; storage is priced all the same."""
    _, out, _ = call("status", "--cost")
    assert "too little is on record to say.\nNo run that has ended began in the last 31 days: there is nothing" in out
    record("run", 40, FETCH)
    record("run", 2, FETCH, ends=False)
    _, out, _ = call("status", "--cost")
    assert "the last one on record began 2025-11-26: there is nothing to price" in out
    assert "1 run of these days has no end on record" in out
    found = json.loads(call("--json", "status", "--cost")[1])
    assert (found["month"], found["factor"], found["first_run"], found["jobs"]) == (None, None, None, {})
    assert (found["recorded_days"], found["runs"]["total"], found["runs"]["month"]) == (0, 0, None)
    assert found["storage"]["month"] > 0


def test_less_than_a_week_is_not_scaled(lake: Path, call: Call) -> None:
    """What the runs cost so far is told, a month is not: on the first day there may be a backfill alone."""
    record("fetch bars", 0.1, FETCH)
    _, out, _ = call("status", "--cost")
    assert "Runs are on record for 1 day of the last 31; a month is told from 7 days on" in out
    assert "0.0600     not known" in out
    assert json.loads(call("--json", "status", "--cost")[1])["month"] is None
    record("fetch bars", 6, FETCH)
    assert json.loads(call("--json", "status", "--cost")[1])["recorded_days"] == 7


def test_a_longer_record_counts_its_last_31_days(lake: Path, call: Call) -> None:
    """Older runs are not in it, but say that the days without one were days without one; later ones than now neither."""
    for days_ago in (90, 31, 3, 2, -1):
        record("fetch bars", days_ago, FETCH)
    found = json.loads(call("--json", "status", "--cost")[1])
    assert (found["runs"]["runs"], found["recorded_days"]) == (2, 31)
    assert found["factor"] == pytest.approx(30.4 / 31)
    earlier = json.loads(call("--now", (NOW - timedelta(days=60)).isoformat(), "--json", "status", "--cost")[1])
    assert (earlier["runs"]["runs"], earlier["recorded_days"]) == (1, 31)


def test_another_price_table(lake: Path, call: Call, tmp_path: Path) -> None:
    """Its prices, region and currency are those of the answer; where bytes cost something, it does not say they are free."""
    ten_days()
    table = json.loads((resources.files("condvest.app") / SHIPPED).read_bytes())
    table |= {"region": "ca-west-1", "currency": "CAD", "s3_put_list_per_1000": 0.01, "s3_transfer_out_gb": 0.1}
    (tmp_path / "ours.json").write_text(json.dumps(table))
    found = json.loads(call("--json", "status", "--cost", "--prices", "ours.json")[1])
    assert found["prices"]["region"] == "ca-west-1"
    assert found["jobs"]["fetch bars"]["price"]["puts"] == pytest.approx(1.2)
    assert found["jobs"]["consolidate"]["price"]["transfer"] == pytest.approx(9 * 90 / 1024 * 0.1)
    _, out, _ = call("status", "--cost", "--prices", "ours.json")
    assert "CAD a month" in out
    assert "are free" not in out
    table["s3_get_per_1000"] = -1
    (tmp_path / "ours.json").write_text(json.dumps(table))
    code, out, err = call("status", "--cost", "--prices", "ours.json")
    assert (code, out) == (2, "")
    assert err.startswith(
        "error: price table 'ours.json': s3_get_per_1000 is -1; a price is a number from 0 to 1,000,000;"
    )


def test_it_writes_nothing_and_leaves_no_run(lake: Path, call: Call) -> None:
    """It is a look at the lake."""
    ten_days()
    before = {path: path.read_bytes() for path in lake.rglob("*") if path.is_file() and ".condvest" not in path.parts}
    first = call("--json", "status", "--cost")
    assert call("--json", "status", "--cost") == first
    assert before == {
        path: path.read_bytes() for path in lake.rglob("*") if path.is_file() and ".condvest" not in path.parts
    }


@pytest.mark.s3
def test_on_s3_a_command_meters_its_own_requests(
    lake: Path, s3_url: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests of a run are all that the process made, those before the job too; a server that is not AWS bills none."""
    monkeypatch.setenv("LAKE_URL", s3_url)
    with App(load_settings()) as app:
        app.store.put("bronze/raw_ohlcv/symbol=AAPL/data.parquet", b"")
        seen = app.store.meter.snapshot()
    assert (seen.puts, seen.lists) == (1, 0)
    assert call("consolidate", "--symbols", "IBM")[0] == 1  # the lake has no such symbol
    found = json.loads(call("--json", "status", "--cost")[1])
    asked = found["jobs"]["consolidate"]["traffic"]
    assert asked["lists"] >= 2  # whether there is a lake, and what is in bronze
    assert asked["gets"] >= 1
    assert (found["on_aws"], found["recorded_days"]) == (False, 1)


@pytest.mark.parametrize(
    ("url", "endpoint", "on_aws"),
    [
        ("s3://b/x", None, True),
        ("s3://b/x", "https://bucket.vpce-1.s3.ca-west-1.vpce.amazonaws.com", True),
        ("s3://b/x", "https://s3.example.org", False),
        ("s3://b/x", "https://notamazonaws.com", False),
        ("memory://x", None, False),
        ("lake", None, False),
    ],
)
def test_who_bills_the_lake(
    lake: Path, monkeypatch: pytest.MonkeyPatch, url: str, endpoint: str | None, on_aws: bool
) -> None:
    """AWS bills what lies with it, by whatever address it is reached."""
    monkeypatch.setenv("LAKE_URL", url)
    if endpoint is not None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with App(load_settings()) as app:
        assert is_on_aws(app) is on_aws
