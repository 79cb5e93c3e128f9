"""Which `date=` files a consolidation need not read, as what was written into them is known from one object a session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date

from condvest.jobs.bronze import DailyFile, blocks
from condvest.jobs.merging import MergeTask
from condvest.storage.fetched import WORTH, Fetched, read_fetched
from condvest.storage.store import Store


def with_known_rows(store: Store, tasks: Sequence[MergeTask], *, since: date, symbols: int) -> Iterable[MergeTask]:
    """Return tasks that merge the same rows and read as few `date=` files as possible.

    A row is known by the ETag that the listing shows for its file. Every other file is read, and so are those of sessions
    before `since`, and of sessions of which too few of the lake's `symbols` wait for its object to be worth a read.
    """
    waiting = Counter(file.session for task in tasks for file in task.read if file.session >= since)
    sessions = [session for session, files in waiting.items() if files > 1 and files * WORTH >= symbols]
    if not sessions:
        return tasks
    fetched = read_fetched(store, sessions)
    return (
        _with_known(task, fetched, versions, since)
        for block in blocks(tasks)
        for task, versions in zip(block, fetched.of_each(task.files.symbol for task in block), strict=True)
    )


def _with_known(task: MergeTask, fetched: Fetched, versions: Mapping[tuple[date, str], int], since: date) -> MergeTask:
    known, rows, unknown = list[DailyFile](), list[int](), list[DailyFile]()
    for file in task.read:
        row = versions.get((file.session, file.etag)) if file.session >= since else None
        if row is None:
            unknown.append(file)
        else:
            known.append(file)
            rows.append(row)
    if not rows:
        return task
    return replace(task, read=tuple(unknown), known=tuple(known), extra=fetched.take(rows))
