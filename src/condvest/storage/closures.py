"""Closures of the exchange that were announced after the shipped calendar was made. They lie in the lake and win."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from typing import Final

from condvest.errors import CommitConflict, DataError, ObjectNotFound
from condvest.storage import layout
from condvest.storage.store import IF_ABSENT, Store, When, if_match

_ATTEMPTS: Final = 20


def read_closures(store: Store) -> list[date]:
    """Return the recorded closures, ascending; none for a lake without any. DataError when the file cannot be read."""
    return _read(store)[0]


def record_closures(store: Store, dates: Iterable[date]) -> bool:
    """Add dates on which the exchange does not open; return whether anything was written. Idempotent.

    None is ever taken back: ordinals of later sessions hang on each. Raises CommitConflict after 20 lost races.
    """
    added = set(dates)
    for _ in range(_ATTEMPTS):
        known, when = _read(store)
        if added <= set(known):
            return False
        days = sorted(added.union(known))
        body = json.dumps({"closures": [day.isoformat() for day in days]}, indent=1).encode()
        try:
            store.put(layout.CLOSURES, body, when=when)
        except CommitConflict:
            continue
        return True
    raise CommitConflict(
        f"{layout.CLOSURES}: {_ATTEMPTS} other writers were first; run again when fewer jobs run at once"
    )


def _read(store: Store) -> tuple[list[date], When]:
    try:
        stored = store.get(layout.CLOSURES)
    except ObjectNotFound:
        return [], IF_ABSENT
    try:
        texts = json.loads(stored.data)["closures"]
        if not isinstance(texts, list):  # else "" and {} would pass for no closures
            raise TypeError(type(texts).__name__)
        days = sorted({date.fromisoformat(text) for text in texts})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f'{layout.CLOSURES} cannot be read ({type(error).__name__}): it must be {{"closures": ["2027-01-05"]}}, and'
            " session ordinals hang on it; restore it from a copy"
        ) from error
    return days, if_match(stored.etag)
