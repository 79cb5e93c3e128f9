"""What lies where in a lake: every kind of object with an example, how many there are, how large, and their rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from condvest.storage.store import ObjectInfo, Store, Stored

#: What differs between objects of one kind: a partition's value, when an answer came with its digest, a silver file's month,
#: a checkpoint's interval.
_VARIES: Final = re.compile(
    r"(?<==)[^/]+?(?=/|\.parquet$)|[0-9]{8}T[0-9]{12}Z-[0-9a-f]{16}|(?<=d_)[0-9]{6}(?=\.parquet$)|(?<=silver_)[0-9]+(?=d_ch)"
)
_PARQUET: Final = ".parquet"
#: Beginning of a pattern -> what it is, in the order in which data go through the lake.
_MEANINGS: Final = {
    "bronze/landing/grouped/": "answers of the provider",
    "bronze/landing/confirmed/": "receipts: the same again",
    "bronze/landing/": "answers: metadata",
    "bronze/raw_ohlcv/symbol=*/date": "daily bars, as fetched",
    "bronze/raw_ohlcv/symbol=*/data": "daily bars, consolidated",
    "bronze/corporate_actions/": "splits, dividends",
    "silver/": "period bars",
    "processing_metadata/": "manifests, checkpoints",
}


@dataclass(slots=True)
class Holding:
    """All objects of one kind. `rows` is None where an object holds no table."""

    meaning: str
    pattern: str
    example: str
    objects: int = 0
    size_bytes: int = 0
    rows: int | None = None


def holdings(store: Store) -> list[Holding]:
    """Return what lies in a lake, in the order in which data go through it. Reads every parquet object; writes nothing."""
    found: dict[str, Holding] = {}
    infos = list(store.list(""))
    for info in infos:
        holding = _of(found, info)
        holding.objects += 1
        holding.size_bytes += info.size_bytes
    keys = [info.key for info in infos if info.key.endswith(_PARQUET)]
    for key, rows in zip(keys, store.map(keys, _rows), strict=True):
        holding = found[pattern_of(key)]
        holding.rows = (holding.rows or 0) + rows
    return [found[pattern] for pattern in sorted(found, key=_order)]


def pattern_of(key: str) -> str:
    """Return a key with `*` in place of what differs between objects of its kind."""
    return _VARIES.sub("*", key)


def _of(found: dict[str, Holding], info: ObjectInfo) -> Holding:
    pattern = pattern_of(info.key)
    if pattern not in found:
        found[pattern] = Holding(_MEANINGS.get(_beginning(pattern), ""), pattern, info.key)
    return found[pattern]


def _beginning(pattern: str) -> str:
    return next((beginning for beginning in _MEANINGS if pattern.startswith(beginning)), "")


def _order(pattern: str) -> tuple[int, int, str]:
    """Sort by place in the lake, then shorter before longer: 3 sessions before 13."""
    return ([*_MEANINGS, ""].index(_beginning(pattern)), len(pattern), pattern)


def _rows(_key: str, stored: Stored | None) -> int:
    if stored is None:
        return 0
    rows: int = pq.read_metadata(pa.BufferReader(stored.data)).num_rows
    return rows
