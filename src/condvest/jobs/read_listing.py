"""Read a listing of the provider page by page; one that runs out of time is kept, and a later call goes on from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

from condvest.domain.metadata import Following, Listing, ListingPage
from condvest.errors import TimeOver
from condvest.jobs.stopping import Stop
from condvest.log import event
from condvest.storage.layout import ListingKind
from condvest.storage.store import Store
from condvest.storage.unfinished import Unfinished, read_unfinished, write_unfinished

#: What the provider has in two listings lands in one: a ticker that was used again stands in both.
_PARTS: Final[Mapping[ListingKind, tuple[Listing, ...]]] = {
    "tickers": ("listed", "delisted"),
    "splits": ("splits",),
    "dividends": ("dividends",),
}


class PagedSource(Protocol):
    """Where listings come from."""

    def pages(self, listing: Listing, after: Following | None = None) -> Iterator[ListingPage]:
        """Yield a listing page by page, from its begin or from a page that an earlier one told of."""


@dataclass(slots=True)
class ListingReader:
    """Reads listings until it is asked to stop. `resume`: when the listing began whose rest the first `read` shall read.

    `unfinished_since`: when the listing began that the last `read` left unfinished and kept. `pages`: how many came.
    """

    store: Store
    source: PagedSource
    now: datetime
    stop: Stop
    resume: datetime | None = None
    unfinished_since: datetime | None = None
    pages: int = 0

    def read(self, kind: ListingKind) -> list[dict[str, Any]] | None:
        """Return all rows of a listing; None: the time was over before the last page."""
        found = read_unfinished(self.store, kind, self.resume) if self.resume is not None else None
        self.resume = None
        found, before, parts = found or Unfinished(self.now, [], 0, None), self.pages, _PARTS[kind]
        while found.part < len(parts):
            page = self._next(parts[found.part], found)
            if page is None:
                self._keep(kind, found, came=self.pages - before)
                return None
            found = page
        return list(found.rows)

    def _next(self, listing: Listing, found: Unfinished) -> Unfinished | None:
        """Return what there is after one part of a listing, or as far as it came; None where not one page of it came."""
        rows = list(found.rows)
        extra = {"active": listing == "listed"} if listing in ("listed", "delisted") else {}
        pages, after = self.source.pages(listing, found.after), found.after
        while not self.stop():
            try:
                page = next(pages)
            except TimeOver:
                break
            self.pages += 1
            rows += [{**extra, **row} for row in page.rows]
            after = page.following
            if after is None:
                return Unfinished(found.began, rows, found.part + 1, None)
        return replace(found, rows=rows, after=after) if after != found.after else None

    def _keep(self, kind: ListingKind, found: Unfinished, *, came: int) -> None:
        """Keep an unfinished listing for the next call, unless nothing came of it in this one."""
        if came:
            write_unfinished(self.store, kind, found)
            event("listing_unfinished", kind=kind, rows=len(found.rows))
        self.unfinished_since = found.began if found.rows else None
