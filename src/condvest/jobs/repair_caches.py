"""The caches of consolidation, held against bronze and built from it alone, without merging anything."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import contained
from condvest.jobs.contents import SymbolContent, read_bronze
from condvest.storage import layout
from condvest.storage.fetched import fetched_sessions, try_fetched
from condvest.storage.manifest import Change, Entry, file_mark, read_manifest, update_manifest
from condvest.storage.recent import RecentWriter, last_bars
from condvest.storage.store import Store


def rebuild_caches(store: Store) -> list[str]:
    """Make manifest and recent bars follow from each readable `data.parquet`; return what was done, by keys. Idempotent.

    Objects of fetched bars that cannot be read, or say something else than a `date=` file, are removed: nothing needs them.

    Bronze is only read. A symbol whose `data.parquet` is gone or cannot be read keeps its entry: by it a consolidation knows
    that the `date=` files are not its whole history. Of an entry that is true of another version, or lost, the chain of
    earlier versions is not known: a resample that is further behind builds the symbol whole.
    """
    known = read_manifest(store)
    recent, entries = RecentWriter(store), list[Entry]()
    fetched, errors = try_fetched(store, fetched_sessions(store))
    untrue = set(errors)
    for content in read_bronze(store, manifest=known):
        untrue |= {
            layout.fetched_key(file.session)
            for file, row in content.daily
            if fetched.is_other(content.symbol, file.session, file.etag, row)
        }
        if content.data is not None and content.data_etag is not None:
            entries.append(_entry(content, content.data, content.data_etag, known.get(content.symbol)))
            recent.add(last_bars(content.data), content.data_etag)
    written = {layout.RECENT_BARS: recent.write(), layout.MANIFEST: update_manifest(store, entries)}
    store.delete_many(sorted(untrue))
    built = [f"{key}: built from bronze" for key, was_written in written.items() if was_written]
    return built + [f"{key}: removed, as it was not what the date= files hold" for key in sorted(untrue)]


def _entry(content: SymbolContent, data: pa.Table, etag: str, known: Entry | None) -> Entry:
    chain = known.changes if known is not None and known.data_etag == etag else ()
    return Entry(
        symbol=content.symbol,
        last_consolidated_date=data["date"][-1].as_py(),
        row_count=data.num_rows,
        last_updated=pc.max(data["ingested_at"]).as_py(),
        data_etag=etag,
        merged=frozenset(
            file_mark(file.session, file.etag)
            for (file, _), is_in in zip(content.daily, contained(data, [row for _, row in content.daily]), strict=True)
            if is_in
        ),
        changes=chain or (Change(etag, None),),
    )
