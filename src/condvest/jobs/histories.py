"""Histories that a lake is known to have: a symbol of which no `data.parquet` is there is new, or it has lost its bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from condvest.domain.calendar import INTERVALS
from condvest.jobs.bronze import SymbolFiles, list_bronze
from condvest.storage import layout
from condvest.storage.checkpoint import read_checkpoints, sources_of
from condvest.storage.manifest import Entry
from condvest.storage.store import Store


def known_histories(store: Store, files: Iterable[SymbolFiles], manifest: Mapping[str, Entry]) -> set[str]:
    """Return the symbols known to have a history: by the manifest; where it has not all, by what silver was built from."""
    known = set(manifest)
    new = {one.symbol for one in files if one.data_etag is None} - known
    built = sources_of(read_checkpoints(store, INTERVALS)) & new if new else set()
    if built:  # one that somebody consolidated and resampled since it was listed is not lost
        built -= {one.symbol for one in list_bronze(store, built) if one.data_etag is not None}
    return known | built


def why_lost(symbol: str, entry: Entry | None) -> str:
    """Return what is told of a symbol whose `data.parquet` is gone, and what brings it back; None: the manifest has no entry."""
    known = "silver was built from it"
    if entry is not None:
        known = f"it held {entry.row_count} bars up to {entry.last_consolidated_date}"
    return (
        f"{layout.data_key(symbol)}: is gone, though {known}; restore it from a copy or a version of the object, or"
        " run `condvest consolidate --force-full`, which rebuilds it from landing"
    )
