"""How the store on S3 treats a server that is busy: a real one, behind a proxy that turns requests away and counts them."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import obstore
import pytest

from condvest.storage import objects
from condvest.storage.objects import ObjectStore
from condvest.storage.opening import open_store
from condvest.storage.pacing import Patience
from condvest.storage.store import IF_ABSENT, Store, if_match
from servers.faulty_proxy import Answer, CutAnswer, Fault, FaultyProxy, Late, LoseAnswer, LoseRequest, running_proxy
from servers.seaweed import S3Server

pytestmark = pytest.mark.s3

BUSY = Answer(503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
SYMBOLS = ("A", "A%20", "A%20B", "A-B", "A.WS", "A0", "BC%70C", "Z", "Z%E9")


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    """A proxy before the S3 server."""
    with running_proxy(s3_server.endpoint_url) as running:
        yield running


@pytest.fixture
def direct(s3_url: str) -> Store:
    """The store without anything in between."""
    return open_store(s3_url)


@pytest.fixture
def paced(s3_url: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], ObjectStore]:
    """Open the same store through the proxy with some requests in flight, and pauses that a test can wait for."""
    monkeypatch.setattr(objects, "_PATIENCE", Patience(first_pause_seconds=0.001))
    monkeypatch.setattr(objects, "_FIRST_PAUSE_SECONDS", 0.001)

    def opened(concurrency: int) -> ObjectStore:
        store = open_store(s3_url, endpoint_url=proxy.url, concurrency=concurrency)
        assert isinstance(store, ObjectStore)
        return store

    return opened


def filled(store: Store, number: int) -> dict[str, bytes]:
    """Write some objects and return them."""
    made = {f"k/{index:04d}": str(index).encode() for index in range(number)}
    store.put_many(made.items())
    return made


def read(store: Store, keys: dict[str, bytes]) -> dict[str, bytes]:
    """Read objects at the same time."""
    return dict(store.map(keys, lambda key, stored: (key, stored.data if stored else b"")))


class Busy:
    """Turns away some of the requests by chance, the same ones each time, and no request more than four times in a row."""

    def __init__(self, percent: int) -> None:
        """Say how many of a hundred."""
        self._percent = percent
        self._times: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self.turned_away = 0

    def __call__(self, method: str, path: str) -> Fault:
        """Say what happens to a request."""
        with self._lock:
            self._times[method, path] += 1
            times = self._times[method, path]
            is_hit = random.Random(f"{method} {path} {times}").randrange(100) < self._percent and times % 5 != 0
            self.turned_away += is_hit
        return BUSY if is_hit else None


def test_two_maps_and_a_writer_share_the_setting(
    paced: Callable[[int], ObjectStore], direct: Store, proxy: FaultyProxy
) -> None:
    """The bound is the store's, not that of each call."""
    store, made = paced(3), filled(direct, 60)
    proxy.weather = lambda _method, _path: Late(0.005)
    with ThreadPoolExecutor(3) as pool:
        reads = [pool.submit(read, store, made) for _ in range(2)]
        written = pool.submit(store.put_many, [(f"w/{index}", b"1") for index in range(60)])
        assert [one.result() for one in reads] == [made, made]
        assert written.result() == 60
    assert 2 <= proxy.most_in_flight <= 3
    assert len([*direct.list("w/")]) == 60


def test_a_busy_server_sees_fewer_at_once_and_later_more(
    paced: Callable[[int], ObjectStore],
    direct: Store,
    proxy: FaultyProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A burst of 503 halves what is in flight, again and again; answers bring it back to the setting."""
    store, made = paced(16), filled(direct, 200)
    proxy.weather = lambda _method, _path: Late(0.002)
    proxy.faults["GET"] = [BUSY] * 40
    some = dict(list(made.items())[:20])
    assert read(store, some) == some
    assert store.pace.window < 8
    proxy.most_in_flight = 0
    few = dict(list(made.items())[20:40])
    assert read(store, few) == few
    assert proxy.most_in_flight < 16
    while store.pace.window < 16:
        assert read(store, made) == made
    proxy.most_in_flight = 0
    assert read(store, made) == made
    assert proxy.most_in_flight <= 16
    told = [record.getMessage() for record in caplog.records if "s3_slow_down" in record.getMessage()]
    assert 1 <= len(told) <= 5  # 16 can be halved four times, and a window of 1.5 is one of 1
    assert all(line.endswith("setting=16") for line in told)


def test_a_busy_server_loses_nothing(paced: Callable[[int], ObjectStore], direct: Store, proxy: FaultyProxy) -> None:
    """With 30 of 100 requests turned away everything is written, read, replaced, listed and deleted as without."""
    store, busy = paced(16), Busy(30)
    proxy.weather = busy
    made = filled(store, 100)
    assert read(direct, made) == made
    assert read(store, made) == made
    assert [info.key for info in store.list("k/")] == sorted(made)
    results = store.put_many_if((key, b"new", IF_ABSENT) for key in made)
    assert [result.etag for result in results] == [None] * 100
    results = store.put_many_if((info.key, b"new", if_match(info.etag)) for info in direct.list("k/"))
    assert all(result.etag for result in results)
    assert set(read(direct, made).values()) == {b"new"}
    assert store.delete_many(made) == 100
    assert [*direct.list("k/")] == []
    assert busy.turned_away > 80


@pytest.mark.parametrize(
    "fault", [BUSY, LoseRequest(), LoseAnswer(), CutAnswer()], ids=lambda fault: type(fault).__name__
)
def test_a_long_listing_goes_on_where_a_page_failed(
    paced: Callable[[int], ObjectStore], direct: Store, proxy: FaultyProxy, fault: Fault
) -> None:
    """Pages that came are not asked for again, and no key is left out, in whatever order the server lists."""
    keys = [f"bronze/symbol={symbol}/date={number:04d}" for symbol in SYMBOLS for number in range(250)]
    direct.put_many((key, b"1") for key in keys)
    store = paced(4)
    proxy.faults["GET"] = [None, fault, fault, None, fault]
    assert [info.key for info in store.list("bronze/")] == sorted(keys)
    assert proxy.seen == ["GET"] * 6
    assert store.meter.snapshot().lists == 6


def test_a_full_last_page_is_counted_once(
    paced: Callable[[int], ObjectStore], direct: Store, proxy: FaultyProxy
) -> None:
    """The server says that nothing follows, so nothing is asked."""
    direct.put_many((f"full/{number:04d}", b"1") for number in range(1000))
    store = paced(4)
    assert len([*store.list("full/")]) == 1000
    assert store.meter.snapshot().lists == len(proxy.seen)


def test_a_listing_begins_at_each_cut_at_once(
    paced: Callable[[int], ObjectStore], direct: Store, proxy: FaultyProxy
) -> None:
    """A page each where cuts lie well, all at the same time, and no more of them than the setting allows."""
    keys = sorted(f"bronze/symbol={symbol}/date={number:04d}" for symbol in SYMBOLS for number in range(300))
    direct.put_many((key, b"1") for key in keys)
    cuts = [f"bronze/symbol={symbol}/date=0000" for symbol in SYMBOLS[1:]]
    proxy.weather = lambda _method, _path: Late(0.1)
    for concurrency, most in ((16, len(SYMBOLS)), (4, 4)):
        store, proxy.most_in_flight = paced(concurrency), 0
        assert [info.key for info in store.list("bronze/", cuts=cuts)] == keys
        assert proxy.most_in_flight == most
        assert store.meter.snapshot().lists == len(cuts) + 1


@pytest.mark.parametrize(
    "fault", [BUSY, LoseRequest(), LoseAnswer(), CutAnswer()], ids=lambda fault: type(fault).__name__
)
def test_a_listing_from_several_keys_goes_on_where_pages_failed(
    paced: Callable[[int], ObjectStore], direct: Store, proxy: FaultyProxy, fault: Fault
) -> None:
    """Only the pages that failed are asked for again, first ones and later ones."""
    keys = sorted(f"bronze/symbol={symbol}/date={number:04d}" for symbol in SYMBOLS for number in range(250))
    direct.put_many((key, b"1") for key in keys)
    cut = "bronze/symbol=Z/date=0000"
    store = paced(4)
    [*store.list("bronze/", cuts=[cut])]
    without = len(proxy.seen)
    proxy.faults["GET"] = [fault, None, fault, fault, None, fault]
    assert [info.key for info in store.list("bronze/", cuts=[cut])] == keys
    assert len(proxy.seen) == 2 * without + 4 == store.meter.snapshot().lists


def test_a_writer_at_a_cut_costs_no_key(paced: Callable[[int], ObjectStore], direct: Store, proxy: FaultyProxy) -> None:
    """Where the key at which one part would meet the next is gone by then, all that was there comes, and each key once."""
    keys = [f"k/{number:05d}" for number in range(2500)]
    direct.put_many((key, b"1") for key in keys)
    new = [f"k/01200-{number}" for number in range(3)]

    def write_before_the_third_page(_method: str, _path: str) -> Fault:
        if len(proxy.seen) == 3:  # the first page of each part is there
            direct.delete_many(keys[1201:1204])
            direct.put_many((key, b"2") for key in new)
        return None

    proxy.weather = write_before_the_third_page
    assert [info.key for info in paced(1).list("k/", cuts=[keys[1200]])] == sorted([*keys, *new])
    assert len(proxy.seen) == 5  # of the first part one more than without the writer


def test_a_server_goes_on_after_any_key(direct: Store) -> None:
    """What a listing that is taken up again relies on: from each key on comes what came after it in the whole listing."""
    direct.put_many((f"r/symbol={symbol}/{name}", b"1") for symbol in SYMBOLS for name in ("data", "date=1", "date=2"))
    assert isinstance(direct, ObjectStore)

    def listed(after: str | None = None) -> list[str]:
        pages = obstore.list(direct._client, f"{direct._base}r/", offset=after, chunk_size=1000)
        return [meta["path"] for page in pages for meta in page]

    whole = listed()
    assert len(whole) == 3 * len(SYMBOLS)
    for place, path in enumerate(whole):
        assert listed(path) == whole[place + 1 :]


@pytest.mark.parametrize("fault", [CutAnswer(), LoseAnswer()], ids=["cut", "lost"])
def test_a_body_that_breaks_off_is_read_again(
    paced: Callable[[int], ObjectStore], direct: Store, proxy: FaultyProxy, fault: Fault
) -> None:
    """Whole, and with its ETag."""
    direct.put("big", bytes(range(256)) * 4096)
    store = paced(4)
    proxy.faults["GET"] = [fault, fault]
    assert store.get("big") == direct.get("big")
    assert proxy.seen == ["GET"] * 3
    assert store.meter.snapshot().gets == 3


def test_further_tries_are_counted(paced: Callable[[int], ObjectStore], direct: Store, proxy: FaultyProxy) -> None:
    """Each is a request that is paid for."""
    store = paced(4)
    proxy.faults = {"PUT": [BUSY, LoseAnswer()], "GET": [Answer(500)], "POST": [BUSY, LoseAnswer()]}
    store.put("k", b"123")
    assert store.get("k").data == b"123"
    store.delete_many(["k"])
    counts = store.meter.snapshot()
    assert (counts.puts, counts.bytes_out, counts.gets, counts.bytes_in, counts.deletes) == (3, 9, 2, 3, 3)
    assert [*direct.list("")] == []


def test_a_conditional_write_slows_down_too(paced: Callable[[int], ObjectStore], proxy: FaultyProxy) -> None:
    """It is settled by reading back, as ever, and what it was told counts for all."""
    store = paced(8)
    proxy.faults["PUT"] = [BUSY] * 8
    results = store.put_many_if((f"k/{number}", b"1", IF_ABSENT) for number in range(8))
    assert all(result.etag for result in results)
    assert store.pace.window < 8


def test_a_slow_consumer_holds_no_place(paced: Callable[[int], ObjectStore], direct: Store) -> None:
    """With one request in flight at a time, other calls go through between two objects of a `map`."""
    store, made = paced(1), filled(direct, 10)
    for key, data in store.map(made, lambda key, stored: (key, stored and stored.data)):
        assert store.get(key).data == data
        store.put(f"seen/{key}", b"1")
        assert len([*store.list("k/")]) == 10
    assert len([*direct.list("seen/")]) == 10


def test_a_decoder_may_use_the_store(paced: Callable[[int], ObjectStore], direct: Store) -> None:
    """What an object is decoded with may read others."""
    store, made = paced(1), filled(direct, 10)
    assert [*store.map(made, lambda key, _: store.get(key).data)] == [*made.values()]
