"""Bronze as it lies there: which symbols are listed."""

from __future__ import annotations

import uuid

from condvest.jobs.bronze import _LIST_EACH, list_bronze
from condvest.storage import layout
from condvest.storage.opening import open_store


class _Market(list[str]):
    """Symbols as a job gives them: a list, in which to look for each of a whole market takes time by the square."""

    def __contains__(self, symbol: object) -> bool:
        raise AssertionError(f"{symbol} is looked for among all others, one by one")


def test_of_many_symbols_each_is_found_at_once() -> None:
    """A list of symbols, with what is not in the lake, limits the listing; no symbol is held against all of them."""
    store = open_store(f"memory://{uuid.uuid4().hex}")
    names = [f"S{number}" for number in range(_LIST_EACH + 2)]
    store.put_many((layout.data_key(name), b"bars") for name in names)
    found = [files.symbol for files in list_bronze(store, _Market([*names[1:], "GONE"]))]
    assert sorted(found) == sorted(names[1:])
