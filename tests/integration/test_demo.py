"""The demonstration on real bars: it runs to its end, and what it shows is what the lake holds."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from condvest.analytics.reader import Lake
from condvest.app import App
from condvest.app.runs import JobResult
from condvest.demo import page, place, scenario
from condvest.demo.holdings import pattern_of
from condvest.demo.market import Market
from condvest.demo.sample import sample_market
from condvest.demo.scenario import run_demo
from condvest.demo.stage import Stage, given_settings
from condvest.demo.summary import shown_size, split_table
from condvest.domain.actions import Split
from condvest.domain.records import RunOutcome, Traffic
from condvest.errors import ConfigError, DataError, WorkLeft
from condvest.storage.opening import open_store

BARS = 12_154  # what the sample package holds
SESSIONS = 3_270
AGAIN = "nothing_new", 0, 0


class Ran:
    """One run of the demonstration: what it returned and what it said."""

    def __init__(self, folder: Path, *, keep: bool = True) -> None:
        lines: list[str] = []
        self.folder = folder
        self.result: dict[str, Any] = run_demo(folder, say=lines.append, keep=keep)
        self.said = "\n".join(lines)

    def step(self, name: str) -> dict[str, Any]:
        """Return the first step of that name."""
        found: dict[str, Any] = next(step for step in self.result["steps"] if step["name"] == name)
        return found

    def layer(self, beginning: str) -> dict[str, Any]:
        """Return the one kind of objects whose pattern begins so."""
        (found,) = (layer for layer in self.result["layers"] if layer["pattern"].startswith(beginning))
        return dict(found)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The demonstration as it comes, once for all tests."""
    return Ran(tmp_path_factory.mktemp("demo") / "lake")


@pytest.fixture
def short_market(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demonstration play four months around the split in place of thirteen years."""

    def market() -> Market:
        whole = sample_market()
        whole.bars = {day: bars for day, bars in whole.bars.items() if date(2004, 12, 1) <= day <= date(2005, 3, 31)}
        return whole

    monkeypatch.setattr(scenario, "sample_market", market)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A stage without a provider behind it."""
    return Stage(
        tmp_path, given_settings("http://127.0.0.1:9", "key"), datetime(2013, 3, 2, tzinfo=UTC), lambda _: None
    )


def test_the_lake_holds_every_bar_and_verify_finds_nothing_broken(ran: Ran) -> None:
    """All of the sample's bars end up consolidated, every session final, and no rule is broken."""
    verified = ran.result["verify"]
    assert [found for found in verified["findings"] if found["level"] == "broken"] == []
    assert verified["counts"]["daily_bars"] == BARS
    assert ran.layer("bronze/raw_ohlcv/symbol=*/data")["rows"] == BARS
    assert ran.step("fetch bars --from --to")["counts"] == {"final": SESSIONS - 15}
    evening, morning = (step for step in ran.result["steps"] if step["name"] == "run")
    assert (evening["runs"], evening["counts"]["provisional"]) == (15, 15)
    assert (morning["runs"], morning["counts"]["final"], morning["counts"]["restated"]) == (15, 15, 3)
    assert ran.result["seconds"] > 0


def test_what_lies_where_is_what_the_store_lists(ran: Ran) -> None:
    """Objects and bytes of the layers add up to a listing of the lake, less the page that came after."""
    listed = [info for info in open_store(str(ran.folder)).list("") if info.key != place.PAGE]
    layers = ran.result["layers"]
    assert sum(layer["objects"] for layer in layers) == len(listed)
    assert sum(layer["size_bytes"] for layer in layers) == sum(info.size_bytes for info in listed)
    assert ran.layer("bronze/landing/grouped/")["objects"] == SESSIONS + 2  # two sessions were restated
    assert all(layer["meaning"] and pattern_of(layer["example"]) == layer["pattern"] for layer in layers)


def test_second_runs_write_nothing(ran: Ran) -> None:
    """Each job that ran again with nothing new made no PUT and no DELETE."""
    again = [step for step in ran.result["steps"] if step["name"].endswith(", again")]
    assert {step["name"].split(",")[0].split(" --")[0] for step in again} == {
        "fetch bars",
        "fetch meta",
        "consolidate",
        "resample",
        "run",
        "vacuum",
    }
    assert [(step["outcome"], step["puts"], step["deletes"]) for step in again] == [AGAIN] * len(again)


def test_vacuum_removes_what_its_dry_run_named(ran: Ran) -> None:
    """Seven of the fifteen sessions are past retention: their files of five symbols go, the others stay."""
    assert ran.step("vacuum --dry-run")["counts"] == {"would_remove": 35}
    assert ran.step("vacuum")["counts"] == {"files_removed": 35}
    assert ran.step("vacuum")["deletes"] == 35
    assert ran.layer("bronze/raw_ohlcv/symbol=*/date")["rows"] == 40


def test_restatements_are_shown_with_both_values(ran: Ran) -> None:
    """The three bars that the provider mended over night are told as they were and as they are."""
    seen = [(row["symbol"], row["date"], row["old_close"] == row["new_close"]) for row in ran.result["restatements"]]
    assert seen == [("AAPL", "2013-02-12", True), ("MSFT", "2013-02-12", True), ("GOOG", "2013-02-21", False)]
    assert "21,425,622   21,751,900" in ran.said


def test_the_split_is_applied_to_the_bars_before_it(ran: Ran) -> None:
    """Adjusted, the bars before the one that holds the split have half the price and twice the volume; later ones stay."""
    before, earlier, holds, *after = ran.result["split_bars"]
    for bar in (before, earlier):
        assert bar["adjusted_close"] == pytest.approx(bar["close"] / 2)
        assert bar["adjusted_volume"] == pytest.approx(bar["volume"] * 2)
    assert holds["date"] <= "2005-02-28" <= holds["end_date"]
    assert all(bar["adjusted_close"] == bar["close"] for bar in (holds, *after))


def test_the_page_holds_all_it_needs(ran: Ran) -> None:
    """One file: plotly's script and the bars are inside, nothing is loaded, and the split is marked."""
    text = Path(ran.result["page"]).read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>", text)
    assert scripts
    assert not [tag for tag in scripts if "src" in tag]
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"<(link|img|iframe|object|embed)\b|https?://|@import|url\(", markup)
    assert "default-src 'none'" in markup
    assert "<title>AAPL, bars of 13 sessions, split-adjusted</title>" in markup
    assert "bokeh-sampledata" in markup
    assert "2:1 on 2000-06-21, 2:1 on 2005-02-28" in markup
    assert "2:1 split\\u003cbr\\u003e2005-02-28" in text
    assert "$title" not in text


def test_what_is_returned_is_json_and_what_is_said_names_the_page(ran: Ran) -> None:
    """The summary serves a program as it is; a person is told where to look."""
    assert json.loads(json.dumps(ran.result)) == ran.result
    assert str(ran.folder / place.PAGE) in ran.said
    assert "What lies where" in ran.said
    assert max(map(len, ran.said.splitlines())) <= 200


def test_a_narrow_terminal_cuts_no_number(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    """The widest table still shows each value whole, and which sessions it is of."""
    monkeypatch.setenv("COLUMNS", "80")
    bars = ran.result["split_bars"]
    split = Split("AAPL", scenario.SPLIT_DATE, 1, 2, "forward_split", datetime(2013, 2, 8, tzinfo=UTC))
    table = split_table("AAPL", 13, split, bars)
    words = table.split()
    assert max(map(len, table.splitlines())) <= 100
    for bar in bars:
        assert {bar["date"], bar["end_date"], f"{bar['high']:.2f}", f"{bar['adjusted_close']:.2f}"} <= set(words)
        assert f"{bar['adjusted_volume'] / 1e6:,.1f} M" in table


@pytest.mark.usefixtures("short_market")
def test_an_earlier_demo_is_replaced_and_settings_play_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second demo begins anew; neither the user's provider nor their database nor their universe is touched."""
    for name, value in {"RDS_HOST": "db.invalid", "POLYGON_BASE_URL": "nonsense", "CONDVEST_UNIVERSE": "IBM"}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "demo"
    place.claim(folder)
    (folder / "bronze").mkdir()
    (folder / "bronze" / "stale").write_text("of the earlier demo")
    (folder / "notes.txt").write_text("not of any demo")
    level = logging.getLogger("condvest").level

    ran = Ran(folder, keep=False)

    assert [name["symbol"] for name in ran.result["restatements"]] == ["AAPL", "MSFT", "GOOG"]
    assert sorted(path.name for path in folder.iterdir()) == [place.PAGE, "notes.txt"]
    assert logging.getLogger("condvest").level == level


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    """A folder that holds anything but a demo stays as it is."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds something that no demo made.*--folder"):
        run_demo(tmp_path, say=print)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ConfigError, match=r"thesis\.txt' is a file; name a folder"):
        run_demo(tmp_path / "thesis.txt", say=print)
    with pytest.raises(ConfigError, match=r"cannot be used.*--folder"):
        run_demo(tmp_path / "thesis.txt" / "below", say=print)


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo in no folder names what is missing, and is no traceback."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="the working folder is gone"):
        place.claim(Path("demo-lake"))


def test_the_page_that_a_demo_left_bars_no_other_demo(tmp_path: Path) -> None:
    """Without `keep` the page stays alone: the same command may be given again."""
    place.claim(tmp_path)
    (tmp_path / place.PAGE).write_text("of the earlier demo")
    place.leave_page(tmp_path)
    place.claim(tmp_path)
    assert not (tmp_path / place.PAGE).exists()


def test_without_plotly_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What draws the chart is asked for first, with the remedy."""
    monkeypatch.setattr(page, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"plotly is not installed.*condvest\[demo\]"):
        run_demo(tmp_path / "demo", say=print)
    assert not (tmp_path / "demo").exists()


def _result(*, left: list[str] | None = None, outcome: RunOutcome = "done", puts: int = 0) -> JobResult:
    return JobResult(job="verify", outcome=outcome, counts={}, left=left or [], traffic=Traffic(puts=puts), seconds=0.1)


def test_a_step_that_leaves_something_ends_the_demo(stage: Stage) -> None:
    """A broken rule that verify finds, or a session that is left, is an error that names the first one."""

    def broken(_app: App) -> JobResult:
        return _result(left=["ledger: 2013-03-01 is missing", "more"])

    with pytest.raises(WorkLeft, match="verify: 2 left or broken, first: ledger: 2013-03-01 is missing"):
        stage.do("verify", broken)


def test_a_second_run_that_writes_ends_the_demo(stage: Stage) -> None:
    """The demo does not claim what did not happen."""
    stage.again("resample", lambda _: _result(outcome="nothing_new"))
    with pytest.raises(DataError, match="consolidate ran again with nothing new and made 3 PUT"):
        stage.again("consolidate", lambda _: _result(puts=3))


def test_the_demo_lake_serves_the_reader(ran: Ran) -> None:
    """The kept lake is a lake like any other."""
    assert Lake.open(str(ran.folder)).bars("AAPL", interval="13d").num_rows == 252


@pytest.mark.parametrize(("size", "shown"), [(213, "213 B"), (2_048, "2.0 KiB"), (5 << 20, "5.0 MiB")])
def test_sizes_are_shown_for_people(size: int, shown: str) -> None:
    """Bytes below a KiB are exact, larger sizes have one digit."""
    assert shown_size(size) == shown
