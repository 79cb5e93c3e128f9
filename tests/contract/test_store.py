"""What every store promises, shown on a folder, on a real S3 server and in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from condvest.errors import CommitConflict, ConfigError, ObjectNotFound
from condvest.storage.opening import open_store
from condvest.storage.store import ALWAYS, IF_ABSENT, Counts, ObjectInfo, Store, Stored, if_match

KEY = "bronze/raw_ohlcv/symbol=AAPL/data.parquet"


def keys_of(store: Store, prefix: str = "") -> list[str]:
    """Return the keys of a listing."""
    return [info.key for info in store.list(prefix)]


def measured(store: Store, work: Callable[[], object]) -> Counts:
    """Return what a piece of work asked of the store."""
    before = store.meter.snapshot()
    work()
    return store.meter.snapshot() - before


@pytest.mark.parametrize("data", [b"", b"\x00\xff bars", os.urandom(20 << 20)], ids=["empty", "small", "20 MiB"])
def test_what_was_put_is_read_back(store: Store, data: bytes) -> None:
    """Any bytes come back as they were, with the ETag and the size that the write and the listing give."""
    etag = store.put(KEY, data)
    assert store.get(KEY) == Stored(data, etag)
    assert list(store.list("bronze/")) == [ObjectInfo(KEY, len(data), etag)]


def test_each_change_has_a_new_etag(store: Store) -> None:
    """Overwriting with other bytes of the same size never gives an ETag that the key had before."""
    etags = [store.put(KEY, b"%03d" % number) for number in range(200)]
    assert len(set(etags)) == len(etags)
    assert store.get(KEY) == Stored(b"199", etags[-1])


def test_an_etag_does_not_come_back_after_deletion(store: Store) -> None:
    """An object that was deleted and written anew is not taken for the one that was read."""
    seen = set()
    for number in range(50):
        seen.add(store.put(KEY, b"%02d" % number))
        store.delete_many([KEY])
    assert len(seen) == 50
    new = store.put(KEY, b"xx")
    assert new not in seen
    for etag in seen:
        with pytest.raises(CommitConflict):
            store.put(KEY, b"yy", when=if_match(etag))


def test_absent_is_said_so(store: Store) -> None:
    """An absent object is an error for `get`, None for `map`, fine for `delete_many`, and nothing for `list`."""
    with pytest.raises(ObjectNotFound, match="AAPL"):
        store.get(KEY)
    assert list(store.map([KEY], lambda key, stored: (key, stored))) == [(KEY, None)]
    assert store.delete_many([KEY, "never/was"]) == 2
    assert keys_of(store) == keys_of(store, "bronze/") == []


def test_a_key_below_an_object_is_absent(store: Store) -> None:
    """A key that continues another object's key is absent, not an error."""
    store.put("bronze/a", b"1")
    assert list(store.map(["bronze/a/b", "bronze"], lambda _, stored: stored)) == [None, None]
    assert keys_of(store, "bronze/a/") == []
    assert store.delete_many(["bronze/a/b"]) == 1


def test_create_only_if_absent(store: Store) -> None:
    """IF_ABSENT writes once; afterwards it raises and changes nothing; after a deletion it writes again."""
    etag = store.put(KEY, b"first", when=IF_ABSENT)
    with pytest.raises(CommitConflict, match="AAPL"):
        store.put(KEY, b"second", when=IF_ABSENT)
    assert store.get(KEY) == Stored(b"first", etag)
    store.delete_many([KEY])
    store.put(KEY, b"third", when=IF_ABSENT)
    assert store.get(KEY).data == b"third"


def test_replace_only_if_unchanged(store: Store) -> None:
    """if_match writes over what was read; over anything else, and over nothing, it raises and changes nothing."""
    read = store.put(KEY, b"one")
    new = store.put(KEY, b"two", when=if_match(read))
    with pytest.raises(CommitConflict):
        store.put(KEY, b"three", when=if_match(read))
    assert store.get(KEY) == Stored(b"two", new)
    with pytest.raises(CommitConflict):
        store.put("bronze/none", b"x", when=if_match(new))
    assert keys_of(store) == [KEY]


def test_of_many_creators_one_wins(store: Store) -> None:
    """When threads create the same object at once, exactly one is told that it did, and its bytes are there."""
    for round_ in range(3):  # SeaweedFS lets each loser wait for up to a second
        key, start = f"race/{round_}", threading.Barrier(4)

        def create(name: int, key: str = key, start: threading.Barrier = start) -> int | None:
            start.wait()
            try:
                store.put(key, b"%d" % name, when=IF_ABSENT)
            except CommitConflict:
                return None
            return name

        with ThreadPoolExecutor(4) as pool:
            winners = [name for name in pool.map(create, range(4)) if name is not None]
        assert [b"%d" % name for name in winners] == [store.get(key).data]


def count_up(store: Store, key: str, times: int) -> None:
    """Add to a number in the store, reading again whenever another writer was first."""
    for _ in range(times):
        while True:
            read = store.get(key)
            try:
                store.put(key, b"%d" % (int(read.data) + 1), when=if_match(read.etag))
                break
            except CommitConflict:
                continue


def test_no_update_is_lost(store: Store) -> None:
    """Writers that replace what they read, and read again when they lost, lose no update of each other."""
    store.put("counter", b"0")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: count_up(store, "counter", 10), range(6)))
    assert store.get("counter").data == b"60"


def test_many_writes(store: Store) -> None:
    """put_many writes all, overwrites what is there, takes the last of equal keys, and consumes lazily."""
    store.put("many/0001", b"old")
    items = ((f"many/{number:04d}", b"%d" % number) for number in range(300))
    assert store.put_many(items) == 300
    assert store.put_many([("many/0299", b"newer")]) == 1
    assert store.put_many([]) == 0
    read = dict(store.map(keys_of(store), lambda key, stored: (key, stored.data if stored else None)))
    assert read == {f"many/{n:04d}": b"%d" % n for n in range(299)} | {"many/0299": b"newer"}


def test_many_conditional_writes(store: Store) -> None:
    """put_many_if gives a result for each item in their order: a new ETag, or None and nothing changed."""
    old = store.put("k/old", b"old")
    results = store.put_many_if(
        [
            ("k/new", b"1", IF_ABSENT),
            ("k/old", b"2", IF_ABSENT),
            ("k/none", b"3", if_match(old)),
            ("k/always", b"4", ALWAYS),
            *((f"k/more/{number:02d}", b"", IF_ABSENT) for number in range(80)),
        ]
    )
    assert [result.key for result in results] == ["k/new", "k/old", "k/none", "k/always"] + [
        f"k/more/{number:02d}" for number in range(80)
    ]
    assert [result.etag is None for result in results] == [False, True, True] + [False] * 81
    assert results[0].etag == store.get("k/new").etag
    assert store.get("k/old") == Stored(b"old", old)
    assert store.put_many_if([("k/old", b"5", if_match(old))])[0].etag == store.get("k/old").etag


def test_an_error_of_the_items_comes_through(store: Store) -> None:
    """What the producer of the items raises reaches the caller as it is, even an error of the operating system."""

    def items() -> Iterator[tuple[str, bytes]]:
        yield "a/1", b"1"
        raise PermissionError("the source refuses")

    with pytest.raises(PermissionError, match="the source refuses"):
        store.put_many(items())
    assert store.meter.snapshot().puts == 1  # it was asked for, whatever came after
    assert set(keys_of(store)) <= {"a/1"}


def test_listing_is_sorted_and_complete(store: Store) -> None:
    """A listing is recursive, by ascending key, over more than one page of 1,000, and keeps to its prefix."""
    odd = ["a!", "a-b/c", "a.txt", "a/b", "a/b.x/y", "ab/c", "b/é", "s/symbol=BRK.A/x", "s/symbol=BRK/x", "Z"]
    many = [f"many/{number % 7}/{number:04d}" for number in range(1500)]
    store.put_many((key, b"") for key in (*odd, *many))
    assert keys_of(store) == sorted([*odd, *many])
    assert keys_of(store, "a/") == ["a/b", "a/b.x/y"]
    assert keys_of(store, "s/") == ["s/symbol=BRK.A/x", "s/symbol=BRK/x"]
    assert keys_of(store, "many/") == sorted(many)
    assert measured(store, lambda: keys_of(store, "many/")).lists == 2  # a page each, in a folder as well
    assert measured(store, lambda: keys_of(store, "none/")).lists == 1


def test_cuts_do_not_change_what_is_listed(store: Store) -> None:
    """Wherever a listing begins as well, each key comes once and in order: at keys, at absent ones, at none of this prefix."""
    symbols = ["A", "BRK", "BRK%20X", "BRK-A", "BRK.B", "BRK.B.C", "BRK0", "BRKA", "Z%E9", "ZZ"]
    files = ["data.parquet", *(f"date={number:04d}.parquet" for number in range(140))]
    layer = [f"r/symbol={symbol}/{name}" for symbol in symbols for name in files]
    beside = ["q/x", "r!/symbol=A/x", "r.x", "r/foreign", "r/symbol=BRK.txt", "r0/x", "r/z/x"]
    store.put_many((key, b"") for key in (*layer, *beside))
    whole = list(store.list("r/"))
    assert [info.key for info in whole] == sorted([*layer, "r/foreign", "r/symbol=BRK.txt", "r/z/x"])
    first_keys = [f"r/symbol={symbol}/data.parquet" for symbol in symbols]
    absent = [
        f"r/symbol={symbol}{end}" for symbol in ("0", *symbols) for end in ("", ".", "~", "/a", "/date=00705", "/zz")
    ]
    foreign = ["a", "q/x", "r!", "r!/symbol=A/x", "r/a", "r/foreign", "r/z/x", "r/zz", "r0", "r0/x", "z"]
    for cuts in (first_keys, first_keys[::-1], first_keys[:1] * 3, absent, foreign, [*absent, *foreign, *first_keys]):
        assert list(store.list("r/", cuts=cuts)) == whole
    for cut in (*absent, *foreign, *first_keys):
        assert list(store.list("r/", cuts=[cut])) == whole
    assert list(store.list("", cuts=first_keys)) == list(store.list(""))
    assert list(store.list("none/", cuts=first_keys)) == []
    with pytest.raises(ConfigError):
        list(store.list("r/", cuts=["r/../x"]))


def test_cuts_assume_no_order(store: Store) -> None:
    """By their keys `BRK.B/` comes before `BRK/`, in the order of folders after it: pages of either are listed whole."""
    symbols = {"A": 2, "BRK": 1200, "BRK.B": 1200, "BRKA": 2}
    keys = [f"r/symbol={symbol}/{number:04d}" for symbol, files in symbols.items() for number in range(files)]
    store.put_many((key, b"") for key in keys)
    first, middle, last = ([f"r/symbol={symbol}/{name}" for symbol in symbols] for name in ("0000", "0600", "1199"))
    for cuts in (*([cut] for cut in (*first, *middle, *last)), first, last, [*first, *middle, *last]):
        assert [info.key for info in store.list("r/", cuts=cuts)] == sorted(keys)


def test_several_prefixes_are_listed_in_their_order(store: Store) -> None:
    """What lies under each comes as `list` gives it, one prefix after the other; prefixes are consumed lazily."""
    store.put_many((f"{folder}/{number:02d}", b"1") for folder in ("a", "b", "b.c") for number in range(3))
    asked = ["b/", "none/", "b.c/", "a/", "b/"]
    one_by_one = [info for prefix in asked for info in store.list(prefix)]
    assert list(store.list_many(iter(asked))) == one_by_one
    assert len(one_by_one) == 12
    assert list(store.list_many([])) == []
    with pytest.raises(ConfigError):
        list(store.list_many(["a/", "no-slash"]))


def test_whether_anything_lies_there_costs_one_request(store: Store) -> None:
    """However much there is: a whole lake is not listed to learn that it is one."""
    store.put_many((f"many/{number % 7}/{number:04d}", b"") for number in range(1500))
    for prefix, there in (("", True), ("many/", True), ("many/3/", True), ("man/", False), ("none/", False)):
        assert store.holds(prefix) is there
        assert measured(store, partial(store.holds, prefix)) == Counts(lists=1)
    with pytest.raises(ConfigError):
        store.holds("no-slash")


def test_keys_are_taken_letter_by_letter(store: Store) -> None:
    """Percent signs, case and other letters are part of the key: nothing is decoded, folded or normalised."""
    keys = ["symbol=BC%70C/d", "symbol=BCPC/d", "symbol=%43ON/d", "symbol=A%2FB/d", "symbol=A+B=C/d", "symbol=A%2520/d"]
    for key in keys:
        store.put(key, key.encode())
    assert keys_of(store) == sorted(keys)
    assert list(store.map(keys, lambda key, stored: stored is not None and stored.data == key.encode())) == [True] * 6
    with pytest.raises(ObjectNotFound):
        store.get("symbol=BCpC/d")
    store.delete_many(keys[:1])
    assert keys_of(store) == sorted(keys[1:])


def test_map_keeps_the_order_and_is_lazy(store: Store) -> None:
    """Results come in the order of the keys, absent ones as None, and asks for keys no further ahead than its bound."""
    store.put_many((f"m/{number:03d}", b"%d" % number) for number in range(0, 400, 2))
    asked = 0

    def keys() -> Iterator[str]:
        nonlocal asked
        for number in range(400):
            asked += 1
            yield f"m/{number:03d}"

    results = store.map(keys(), lambda key, stored: (key, int(stored.data) if stored else None))
    assert asked == 0
    first = [next(results) for _ in range(3)]
    assert asked < 100
    expected = [(f"m/{number:03d}", number if number % 2 == 0 else None) for number in range(400)]
    assert first + list(results) == expected


def test_map_decodes_in_worker_threads_and_stops_at_an_error(store: Store) -> None:
    """Decoding does not run in the caller's thread, and what it raises ends the iteration there."""
    store.put_many((f"m/{number}", b"%d" % number) for number in range(9))

    def decode(_: str, stored: Stored | None) -> str:
        if stored is None:
            raise LookupError("gone")
        return threading.current_thread().name

    results = store.map([f"m/{number}" for number in range(9)] + ["m/none"], decode)
    assert threading.main_thread().name not in [next(results) for _ in range(9)]
    with pytest.raises(LookupError, match="gone"):
        next(results)


def test_map_may_be_left_early(store: Store) -> None:
    """A consumer that stops leaves nothing behind that would hold up the store."""
    store.put_many((f"m/{number:03d}", b"") for number in range(200))
    for key in store.map(keys_of(store), lambda key, _: key):
        assert key == "m/000"
        break
    assert len(keys_of(store)) == 200


def test_delete(store: Store) -> None:
    """delete_many removes what it is given and nothing else, over more than one bulk request, and may be repeated."""
    keys = [f"d/{number:04d}" for number in range(1200)]
    store.put_many((key, b"") for key in [*keys, "d/stays"])
    assert store.delete_many(iter(keys)) == 1200
    assert store.delete_many(keys) == 1200
    assert keys_of(store) == ["d/stays"]


def test_the_meter_counts(store: Store) -> None:
    """The meter counts requests and bytes of each kind; reading alone counts no PUT and no DELETE."""
    assert store.meter.snapshot() == Counts()
    assert measured(store, lambda: store.put("a", b"12345")) == Counts(puts=1, bytes_out=5)
    assert measured(store, lambda: store.put_many([("b", b"1"), ("c", b"23")])) == Counts(puts=2, bytes_out=3)
    assert measured(store, lambda: store.put_many_if([("a", b"9", IF_ABSENT)])) == Counts(puts=1, bytes_out=1)
    assert measured(store, lambda: store.get("a")) == Counts(gets=1, bytes_in=5)
    assert measured(store, lambda: list(store.map(["a", "none"], lambda *_: None))) == Counts(gets=2, bytes_in=5)
    assert measured(store, lambda: keys_of(store)) == Counts(lists=1)
    assert measured(store, lambda: (store.put_many([]), store.delete_many([]), store.put_many_if([]))) == Counts()
    assert measured(store, lambda: store.delete_many(["a"])).deletes == 1


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a/./b", "a\\b", "a\nb", ".condvest/tmp"]
)
def test_no_key_leaves_the_lake(store: Store, key: str) -> None:
    """A key that could name anything outside the lake is refused by every call, before anything is done."""
    for call in (
        lambda: store.get(key),
        lambda: store.put(key, b""),
        lambda: store.put_many([(key, b"")]),
        lambda: store.put_many_if([(key, b"", IF_ABSENT)]),
        lambda: store.delete_many([key]),
        lambda: list(store.map([key], lambda *_: None)),
        lambda: list(store.list(key + "/")),
    ):
        with pytest.raises(ConfigError, match=r"^[^\n]+$"):
            call()
    assert keys_of(store) == []
    assert store.meter.snapshot().puts == 0


def test_a_prefix_ends_with_a_slash(store: Store) -> None:
    """A prefix that may mean half a name is refused."""
    with pytest.raises(ConfigError, match="bron"):
        list(store.list("bron"))


def test_two_stores_on_one_url_see_each_other(store: Store, store_url: str) -> None:
    """What one writes the other reads, and the URL of a store opens it again."""
    etag = store.put(KEY, b"1")
    again = open_store(store.url)
    assert open_store(store_url).get(KEY) == again.get(KEY) == Stored(b"1", etag)
    again.put(KEY, b"2", when=if_match(etag))
    assert store.get(KEY).data == b"2"
