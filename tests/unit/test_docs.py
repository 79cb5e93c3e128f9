"""The documents say what is so: links lead somewhere, and the keys of the format are those that the code builds."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import get_args

import pytest

from condvest.storage import layout

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
_PLACE = re.compile(r"`((?:src|tests|tools|docs|database|requirements|benchmarks)/[\w./-]*)`")
_MODULE = re.compile(r"`((?:analytics|app|aws|cli|demo|domain|jobs|sources|state|storage)/[\w./]+)`")
_FIXED = (
    layout.SPLITS,
    layout.DIVIDENDS,
    layout.MANIFEST,
    layout.RECENT_BARS,
    layout.CLEANUP_MANIFEST,
    layout.CLOSURES,
    layout.checkpoint_key(13),
    layout.unfinished_key("tickers"),
)
_PARSERS = (
    layout.parse_bronze_key,
    layout.parse_landing_key,
    layout.parse_quarantine_key,
    layout.parse_quarantined_file_key,
    layout.parse_silver_key,
    layout.parse_fetched_key,
)


def text_of(path: Path) -> str:
    """Return a document."""
    return path.read_text(encoding="utf-8")


def anchors_of(path: Path) -> set[str]:
    """Return the anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """No link in a document points at a file or heading that is not there."""
    for link in re.findall(r"\]\(([^):]+)\)", text_of(path)):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(path: Path) -> None:
    """A file of the repository or a module that a document names is there."""
    if path.name == "spec-map.md":
        return  # names what is not there yet; it has a test of its own
    text = text_of(path)
    assert [name for name in _PLACE.findall(text) if not (ROOT / name).exists()] == []
    assert [name for name in _MODULE.findall(text) if not (ROOT / "src/condvest" / name).exists()] == []


def test_keys_of_the_format_are_those_of_the_code() -> None:
    """Every key in the format's table is one that the lake has, and no kind of file is left out."""
    part = text_of(ROOT / "docs/lake-format.md").split("\n## Keys\n")[1].split("\n## ")[0]
    keys = re.findall(r"^\| `([^`]+)`", part, re.MULTILINE)
    assert [key for key in keys if key not in _FIXED and not any(parse(key) for parse in _PARSERS)] == []
    assert set(_FIXED) <= set(keys)
    assert {type(parse(key)) for parse in _PARSERS for key in keys if parse(key)} == {
        layout.BronzeKey,
        layout.LandingKey,
        layout.QuarantineKey,
        layout.QuarantinedFileKey,
        layout.SilverKey,
        date,
    }
    landed = {found.kind for key in keys if (found := layout.parse_landing_key(key))}
    assert landed == set(get_args(layout.LandingKind))


def test_every_module_stands_in_the_architecture() -> None:
    """Who looks for a module of the lower layers finds it in the list."""
    listed = set(_MODULE.findall(text_of(ROOT / "docs/architecture.md")))
    modules = {
        path.relative_to(ROOT / "src/condvest").as_posix()
        for layer in ("domain", "storage", "sources", "state", "jobs", "analytics", "app", "aws")
        for path in (ROOT / "src/condvest" / layer).glob("*.py")
        if path.name not in ("__init__.py", "progress.py")
    }
    assert sorted(modules - listed) == []
