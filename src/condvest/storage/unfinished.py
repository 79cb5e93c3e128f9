"""Listings whose fetch ran out of time: the pages that came, and where the next one is. A cache: without it they begin anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from condvest.domain.metadata import Following
from condvest.errors import DataError, ObjectNotFound
from condvest.storage import layout
from condvest.storage.landing import pack, unpack
from condvest.storage.layout import ListingKind
from condvest.storage.store import Store


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What came of a listing that began at an instant: rows of its parts; of part `part` (from 0) the page `after` comes next."""

    began: datetime
    rows: Sequence[dict[str, Any]]
    part: int
    after: Following | None


def write_unfinished(store: Store, kind: ListingKind, found: Unfinished) -> None:
    """Keep what came so far, in place of what was kept before."""
    body = {"began": found.began.isoformat(), "part": found.part, "after": found.after, "rows": list(found.rows)}
    store.put(layout.unfinished_key(kind), pack(json.dumps(body).encode()))


def read_unfinished(store: Store, kind: ListingKind, began: datetime) -> Unfinished | None:
    """Return what came of the listing that began then; None where nothing is kept of it, or where it cannot be read."""
    key = layout.unfinished_key(kind)
    try:
        body = json.loads(unpack(store.get(key).data, key))
        after = body["after"] and (str(body["after"][0]), tuple((str(a), str(b)) for a, b in body["after"][1]))
        found = Unfinished(datetime.fromisoformat(body["began"]), list(body["rows"]), int(body["part"]), after)
    except (ObjectNotFound, DataError, ValueError, KeyError, TypeError, IndexError):
        return None
    return found if found.began == began else None
