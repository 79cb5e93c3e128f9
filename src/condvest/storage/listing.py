"""Pages of a listing: what a server lists from one key on, and where that meets what it lists from another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import obstore

from condvest.storage.store import PAGE, Meter, ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from obstore import ListStream, ObjectMeta
    from obstore.store import MemoryStore, S3Store


class Span:
    """What lies under a prefix, from behind one key on, page by page in the server's own order.

    That order is not always the one of the keys: some servers list `a/b` before `a.txt`. What counts is that every server
    has one, and goes on from any key in it. `base` stands before each key in the bucket; `found` has what came so far.
    """

    def __init__(
        self, client: S3Store | MemoryStore, meter: Meter, *, base: str, prefix: str, after: str | None = None
    ) -> None:
        """Begin behind the key `after`; None: with the first key. Makes no request."""
        self.found: list[ObjectInfo] = []
        self._client = client
        self._meter = meter
        self._base = base
        self._prefix = base + prefix
        self._after = after
        self._pages: ListStream[Sequence[ObjectMeta]] | None = None
        self._page: list[ObjectInfo] = []
        self._is_full = True

    async def take_page(self) -> None:
        """Take the next page by one request; after a failure, call again: it is asked for as what follows the last key."""
        is_first = self._pages is None
        after = self.found[-1].key if self.found else self._after
        stream = self._pages or obstore.list(
            self._client, self._prefix, offset=None if after is None else self._base + after, chunk_size=PAGE
        )
        self._pages = None  # a stream that failed has ended
        self._meter.add(lists=1)
        try:
            metas = await anext(stream)
        except StopAsyncIteration:
            if not is_first:
                self._meter.add(lists=-1)  # the full page before was the last, and it did not ask
            self._is_full = False
            return
        self._page = [
            ObjectInfo(meta["path"].removeprefix(self._base), meta["size"], meta["e_tag"] or "") for meta in metas
        ]
        self.found += self._page
        self._is_full = len(metas) == PAGE
        self._pages = stream

    def goes_on(self, firsts: Mapping[str, Span]) -> bool:
        """Say whether keys may follow that no other span has, by the first keys of all (`first_keys`)."""
        return self._is_full and all(firsts.get(info.key, self) is self for info in self._page)


def first_keys(spans: Iterable[Span]) -> dict[str, Span]:
    """Return the span that each first key belongs to, once each span took its first page.

    A span that comes to the first key of another has met it: in the server's order all that follows is the other's. Of
    spans that begin with the same key one goes on. So no key is left out wherever spans begin, and no order is assumed; where
    one is met late, since its first key was deleted meanwhile, some keys come twice.
    """
    firsts: dict[str, Span] = {}
    for span in spans:
        if span.found:
            firsts.setdefault(span.found[0].key, span)
    return firsts
