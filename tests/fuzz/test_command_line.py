"""The command line and the settings: any words end with 0, 1 or 2, one line that says why, and no traceback."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from condvest.app.cost import SHIPPED
from condvest.cli import main
from condvest.cli.entry import application
from condvest.config import settings_table
from fuzz.spoiling import SPAN, built
from fuzz.strategies import TEXTS, bodies, fuzzed

_NOW = f"{SPAN[-1]}T23:00:00Z"
_SOUND = {
    "LAKE_URL": "lake",
    "POLYGON_API_KEY": "k3y",
    "POLYGON_BASE_URL": "http://127.0.0.1:1",
    "POLYGON_REQUESTS_PER_MINUTE": "0",
    "POLYGON_RETRY_SECONDS": "0",
    "POLYGON_FLAT_FILES_ENDPOINT": "http://127.0.0.1:1",
    "CONDVEST_FSYNC": "false",
    "CONDVEST_NOW": _NOW,
}
# They would make a test wait, or look for another machine.
_LEFT_ALONE = {
    "RDS_HOST",
    "AWS_ENDPOINT_URL",
    "POLYGON_BASE_URL",
    "MASSIVE_BASE_URL",
    "S3_BUCKET",
    "POLYGON_FLAT_FILES_ENDPOINT",
}
_PLAUSIBLE = st.sampled_from(
    [
        *map(str, SPAN[::4]),
        "2025-13-01",
        "0001-01-01",
        "9999-12-31",
        "20251119",
        "13d",
        "0d",
        "99999d",
        "3,5",
        "3,,5",
        "AAPL",
        "bcpc",
        "AAPL,",
        "-1",
        "1e9",
        "٣",
        "7",
        "999999999",
        "9" * 400,
        "splits",
        "rest",
        "json",
        "2025-11-20T21:30:00Z",
        "0001-01-01T00:00:00+23:00",
        "9999-12-31T23:59:59-23:00",
        "2025-11-20",
        "NaN",
        "inf",
        "nan",
        "-0",
        "--json",
        "--",
        "-",
        "=",
        "x" * 5000,
        "a/b.txt",
        "~nobody/x",
        "\udcff",
        "memory://x",
        "s3://",
        "s3://[",
        "http://x",
        "file://h/x",
        "ftp://x",
        "user:pw@x",
        "s3://u:p@b",
        "SELECT 1",
        "FROM bronze",
        "true",
    ]
)
WORDS = st.one_of(_PLAUSIBLE, _PLAUSIBLE, TEXTS, st.text(max_size=12)).filter(
    lambda text: not text.startswith(("/", "~/", ".."))
)


def _commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    command = command or get_command(application)
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


COMMANDS = dict(_commands())


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Return a command of the application with some of its options, values sound and unsound, sometimes words out of place."""
    words: list[str] = []
    path = draw(st.sampled_from(sorted(COMMANDS)))
    for depth in range(len(path) + 1):
        words += [*path[depth - 1 : depth]] if depth else []
        command = COMMANDS[path[:depth]]
        for parameter in command.params:
            takes_value = not getattr(parameter, "is_flag", False)
            if getattr(parameter, "param_type_name", "") == "argument":
                words += [draw(WORDS)] if depth == len(path) and draw(st.integers(0, 9)) else []
            elif draw(st.integers(0, 3 if depth == len(path) else 7)) == 0:
                option = draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts]))
                glued = takes_value and draw(st.booleans())
                words += [f"{option}={draw(WORDS)}"] if glued else [option, *([draw(WORDS)] if takes_value else [])]
    if draw(st.integers(0, 5)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(WORDS))
    return [word.replace("\0", "") for word in words]


@st.composite
def environments(draw: st.DrawFn) -> dict[str, str]:
    """Return settings of which some are anything; what an environment cannot hold is left out."""
    names = [setting.name for setting in settings_table() if setting.name not in _LEFT_ALONE]
    changed = draw(st.dictionaries(st.sampled_from([*names, "CONDVEST_X", "CONDVEST_FSYNK"]), WORDS, max_size=2))
    return {name: value.replace("\0", "") for name, value in changed.items() if _fits(value)}


def _fits(text: str) -> bool:
    try:
        return os.fsdecode(os.fsencode(text)) == text
    except UnicodeEncodeError:
        return False


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a lake in it, its settings, and a demonstration that would only take time."""
    for name in [
        name
        for name in os.environ
        if name.startswith(("AWS_", "POLYGON_", "MASSIVE_", "RDS_", "CONDVEST_", "S3_", "LAKE_"))
    ]:
        monkeypatch.delenv(name)
    for name, value in _SOUND.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("condvest.demo.scenario.run_demo", lambda *_, **__: {})
    _fill(Path("lake"))
    logger = logging.getLogger("condvest")
    kept = logger.handlers[:], logger.level, logger.propagate
    yield tmp_path / "work"
    logger.handlers[:], logger.level, logger.propagate = kept


def _fill(lake: Path) -> None:
    shutil.rmtree(lake, ignore_errors=True)
    files, state = built()
    for key, data in {**files, ".condvest/state.sqlite": state}.items():
        path = lake / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _objects(lake: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(lake)): path.read_bytes()
        for path in lake.rglob("*")
        if path.is_file() and ".condvest" not in path.parts
    }


def _run(words: list[str], environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    raw, err = io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(raw, "utf-8")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        code = main(words)
        out.flush()
    return code, raw.getvalue().decode(errors="replace"), err.getvalue()


def _assert_ends_well(words: list[str], code: int, out: str, err: str, before: dict[str, bytes], lake: Path) -> None:
    assert code in (0, 1, 2, 130)
    assert "Traceback" not in err
    assert "k3y" not in out + err
    after = _objects(lake)
    assert {key for key in before if "bronze/landing" in key or key.endswith("data.parquet")} <= after.keys()
    if code != 2:
        return
    assert after == before, "wrong input changed the lake"
    if "--json" in words and "--json" not in words[-1:]:
        return
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 or "Usage" in out or "error" in json.loads(out), err


@fuzzed(70)
@given(command_lines(), environments())
def test_any_words_and_settings(words: list[str], environment: dict[str, str]) -> None:
    """Each command, with each of its options and each setting: an exit code of the contract, and wrong input changes nothing."""
    lake = Path("lake")
    before = _objects(lake)
    code, out, err = _run(words, environment)
    _assert_ends_well(words, code, out, err, before, lake)
    if _objects(lake) != before:
        _fill(lake)


@fuzzed(30)
@given(
    st.one_of(
        st.binary(max_size=30),
        st.dictionaries(st.sampled_from([setting.name for setting in settings_table()]), WORDS, max_size=2).map(
            lambda found: "\n".join(f"{name}={value}" for name, value in found.items()).encode(errors="replace")
        ),
    )
)
def test_any_settings_file(place: Path, content: bytes) -> None:
    """`.env` may hold anything."""
    if any(name.encode() in content for name in _LEFT_ALONE):
        return
    (place / ".env").write_bytes(content)
    code, out, err = _run(["status"])
    _assert_ends_well(["status"], code, out, err, _objects(Path("lake")), Path("lake"))


@fuzzed(60)
@given(bodies(json.loads((resources.files("condvest.app") / SHIPPED).read_bytes())))
def test_any_price_table(place: Path, content: bytes) -> None:
    """`--prices` may name a file with anything in it: prices, or one line that says what is wrong; amounts are finite."""
    (place / "prices.json").write_bytes(content)
    before = _objects(Path("lake"))
    words = ["--json", "status", "--cost", "--prices", "prices.json"]
    code, out, err = _run(words)
    assert code in (0, 2), out
    assert "Traceback" not in err
    found = json.loads(out)
    assert math.isfinite(found["storage"]["month"]) if code == 0 else "price table 'prices.json'" in found["error"]
    assert _objects(Path("lake")) == before


@pytest.mark.parametrize(
    "words",
    [
        ["--lake", b"\xff\xfe", "status"],
        ["--json", b"\xff"],
        ["--json", "bars", b"\xff"],
        ["--lake", "x" * 5000, "status"],
        ["query", b"\xc3("],
        ["--json", "--lake", "x" * 300, "vacuum"],
        ["bars", "AAPL", "--interval", b"\x80"],
        ["--now", b"\xff", "status"],
        ["fetch", b"\xfe"],
    ],
)
def test_real_processes(words: list[str | bytes]) -> None:
    """Words that are not UTF-8, or longer than any path, in a real process."""
    before = _objects(Path("lake"))
    done = subprocess.run([sys.executable, "-m", "condvest", *words], capture_output=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr
    said = done.stdout if b"--json" in [os.fsencode(word) for word in words] else done.stderr
    assert len([line for line in said.splitlines() if b"not_durable" not in line]) == 1
    assert _objects(Path("lake")) == before
