"""Every kind of file in a lake, as it was when its shape was agreed on: keys, columns, types, values.

A small life of a lake is dumped as JSON and compared with `tests/golden/files/`. The dump holds what a file says, not its
bytes, so that another version of the parquet writer changes nothing here. A difference is a change of the lake's format: people's
files are in the old one. Where it is meant, say so in docs/lake-format.md and the changelog, and write the files anew:

    CONDVEST_GOLDEN=write .venv/bin/python -m pytest tests/golden
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from condvest.storage import layout
from integration.jobs_kit import DAYS, Kit, bar, market_of

FILES = Path(__file__).parent / "files"
DAY, NEXT = DAYS[:2]
#: What each golden file holds: the keys that begin so.
KINDS = {
    "landing_grouped": layout.landing_prefix("grouped"),
    "landing_confirmed": layout.landing_prefix("confirmed"),
    "landing_range": layout.landing_prefix("range"),
    "landing_tickers": layout.landing_prefix("tickers"),
    "landing_details": layout.landing_prefix("details"),
    "landing_splits": layout.landing_prefix("splits"),
    "landing_dividends": layout.landing_prefix("dividends"),
    "daily_bars": layout.BRONZE,
    "quarantine": layout.QUARANTINE,
    "splits": layout.SPLITS,
    "dividends": layout.DIVIDENDS,
    "silver_3d": layout.silver_prefix(3),
    "silver_3d_checkpoint": layout.checkpoint_key(3),
    "consolidation_manifest": layout.MANIFEST,
    "recent_bars": layout.RECENT_BARS,
    "fetched_bars": layout.FETCHED,
    "closures": layout.CLOSURES,
    "cleanup_manifest": layout.CLEANUP_MANIFEST,
}
#: An ETag and what is made of one name a version of an object in one store: another lake has others.
_MASKED = {"data_etag", "etag", "source", "merged", "months"}
_WRITER = re.compile(r"pyarrow\d+")


def live(kit: Kit) -> None:
    """Let a lake see each kind of file: two sessions, a restatement, a bad row, a range, a split, a closure, a vacuum."""
    kit.market.set_bar("BCpC", DAY, bar(110.0, vwap=None, transactions=None, volume=0.5))
    kit.market.raw_rows[DAY] = [{"T": "BAD", "o": 2, "h": 1, "l": 3, "c": 2, "v": 10, "t": 1762203600000, "n": 1}]
    kit.market.add_split("AAPL", NEXT, 1, 2)
    kit.market.add_dividend("BCpC", date(2025, 8, 11), 0.26)
    kit.market.add_closure(DAYS[6], "National Day of Mourning")
    kit.market.set_bar("AAPL", NEXT, bar(50.0))
    kit.evening(DAY).fetch(DAY)
    kit.market.set_bar("AAPL", DAY, bar(100.5))
    kit.evening(NEXT).fetch()
    kit.next_morning(NEXT).fetch()
    kit.fetch_symbols("AAPL", first=DAY, last=NEXT)
    kit.fetch_meta(details=1)
    kit.consolidate()
    kit.resample(3)
    kit.after(days=7).vacuum(retention_days=7, symbols=["AAPL"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """Every object of that lake."""
    with Kit(tmp_path_factory.mktemp("golden"), market=market_of((DAY, NEXT), ["AAPL", "BCpC"])) as kit:
        live(kit)
        yield kit.files()


def dump(key: str, data: bytes) -> Any:
    """Return what one object says, in the terms of JSON."""
    if key.endswith(".parquet"):
        table = pq.read_table(io.BytesIO(data))
        return {
            "columns": {field.name: str(field.type) for field in table.schema},
            "rows": [masked(row) for row in table.to_pylist()],
        }
    body = json.loads(gzip.decompress(data) if key.endswith(".gz") else data)
    body.pop("request_id", None)
    if key.endswith("_checkpoint.json"):
        body |= {"builder": _WRITER.sub("pyarrow*", body["builder"]), "sources": dict.fromkeys(body["sources"], "*")}
        body["calendar_version"] = "*"
    return masked(body)


def masked(value: Any) -> Any:
    """Return a value with what belongs to one store alone replaced by a star for each item."""
    if isinstance(value, dict):
        return {name: starred(item) if name in _MASKED else masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def starred(value: Any) -> Any:
    """Return stars in the shape of a value."""
    if isinstance(value, dict):
        return dict.fromkeys(value, "*")
    return ["*"] * len(value) if isinstance(value, list) else "*"


def text_of(content: object) -> str:
    """Return the text of a golden file: one row a line, so that a difference can be read."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    flat = re.compile(r"\{[^{}\[\]]*\}|\[[^{}\[\]]*\]")
    return flat.sub(lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text) + "\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_file_is_as_it_was(files: dict[str, bytes], kind: str) -> None:
    """Keys, columns, types and values of each kind are those of the golden file."""
    found = {key: dump(key, data) for key, data in files.items() if key.startswith(KINDS[kind])}
    assert found
    golden = FILES / f"{kind}.json"
    if os.environ.get("CONDVEST_GOLDEN") == "write":
        golden.write_text(text_of(found), encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == text_of(found)


def test_every_file_of_a_lake_has_its_golden_file(files: dict[str, bytes]) -> None:
    """No kind of file is added without being written down here, and none is written down that no longer is."""
    assert [key for key in files if not key.startswith(tuple(KINDS.values()))] == []
    assert {path.stem for path in FILES.iterdir()} == set(KINDS)


def test_every_file_of_a_lake_has_a_key_that_can_be_read_back(files: dict[str, bytes]) -> None:
    """Each key is one that the layout builds."""
    parsers = (
        layout.parse_bronze_key,
        layout.parse_landing_key,
        layout.parse_quarantine_key,
        layout.parse_silver_key,
        layout.parse_fetched_key,
    )
    fixed = {key for key in KINDS.values() if not key.endswith("/")}
    assert [key for key in files if key not in fixed and not any(parse(key) for parse in parsers)] == []
