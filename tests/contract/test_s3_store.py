"""What the store on S3 promises when the outside fails: shown on a real server, behind a proxy that loses things."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from condvest.errors import CommitConflict, CommitUnknown, CondvestError, ConfigError, TransientError
from condvest.storage import objects
from condvest.storage.opening import open_store
from condvest.storage.pacing import Patience
from condvest.storage.store import ALWAYS, IF_ABSENT, Store, Stored, When, if_match
from servers.faulty_proxy import Answer, FaultyProxy, LoseAnswer, LoseRequest, running_proxy
from servers.seaweed import PLAIN_ACCESS_KEY, READER_ACCESS_KEY, S3Server

pytestmark = pytest.mark.s3

KEY = "processing_metadata/consolidation_manifest.parquet"
CALLS: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get(KEY),
    "map": lambda store: list(store.map([KEY], lambda _, stored: stored)),
    "put": lambda store: store.put(KEY, b"x"),
    "put if absent": lambda store: store.put(KEY, b"x", when=IF_ABSENT),
    "put if match": lambda store: store.put(KEY, b"x", when=if_match('"0"')),
    "put_many": lambda store: store.put_many([(KEY, b"x")]),
    "put_many_if": lambda store: store.put_many_if([(KEY, b"x", IF_ABSENT)]),
    "list": lambda store: list(store.list("")),
    "delete_many": lambda store: store.delete_many([KEY]),
}


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    """A proxy before the S3 server."""
    with running_proxy(s3_server.endpoint_url) as running:
        yield running


@pytest.fixture
def direct(s3_url: str) -> Store:
    """The store as another writer sees it."""
    return open_store(s3_url)


@pytest.fixture
def shaky(s3_url: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same store through the proxy, with pauses that a test can wait for."""
    monkeypatch.setattr(objects, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(objects, "_PATIENCE", Patience(tries=2, first_pause_seconds=0.001))
    return open_store(s3_url, endpoint_url=proxy.url)


def condition(store: Store, kind: str) -> When:
    """Return a condition that holds, after making it so."""
    return IF_ABSENT if kind == "absent" else if_match(store.put(KEY, b"old"))


@pytest.mark.parametrize("kind", ["absent", "match"])
class TestLostAnswers:
    """A conditional write whose answer is lost is settled by reading back."""

    def test_a_write_that_took_place_succeeds(self, kind: str, shaky: Store, direct: Store, proxy: FaultyProxy) -> None:
        """It is not done twice, and the ETag is the object's."""
        when = condition(direct, kind)
        proxy.faults["PUT"] = [LoseAnswer()]
        assert Stored(b"new", shaky.put(KEY, b"new", when=when)) == direct.get(KEY)
        assert proxy.seen == ["PUT", "GET"]

    def test_a_write_that_never_arrived_is_tried_again(
        self, kind: str, shaky: Store, direct: Store, proxy: FaultyProxy
    ) -> None:
        """The condition still holds, so a second request does it."""
        when = condition(direct, kind)
        proxy.faults["PUT"] = [LoseRequest(), Answer(503)]
        assert Stored(b"new", shaky.put(KEY, b"new", when=when)) == direct.get(KEY)
        assert proxy.seen == ["PUT", "GET", "PUT", "GET", "PUT"]

    def test_another_writer_meanwhile_is_a_conflict(
        self, kind: str, shaky: Store, direct: Store, proxy: FaultyProxy
    ) -> None:
        """What the other wrote stays."""
        when = condition(direct, kind)
        proxy.faults["PUT"] = [LoseAnswer(lambda: direct.put(KEY, b"theirs"))]
        with pytest.raises(CommitConflict):
            shaky.put(KEY, b"ours", when=when)
        assert direct.get(KEY).data == b"theirs"

    def test_a_deletion_meanwhile(self, kind: str, shaky: Store, direct: Store, proxy: FaultyProxy) -> None:
        """A deleted object satisfies IF_ABSENT again, and is another writer's change for if_match."""
        when = condition(direct, kind)
        proxy.faults["PUT"] = [LoseAnswer(lambda: direct.delete_many([KEY]))]
        (result,) = shaky.put_many_if([(KEY, b"ours", when)])
        assert (result.etag is None) == (kind == "match")
        assert [stored and stored.data for stored in direct.map([KEY], lambda _, stored: stored)] == [
            b"ours" if kind == "absent" else None
        ]

    def test_when_reading_back_fails_the_outcome_is_unknown(
        self, kind: str, shaky: Store, direct: Store, proxy: FaultyProxy
    ) -> None:
        """The error says so; nothing was deleted to find out."""
        when = condition(direct, kind)
        proxy.faults["PUT"] = [LoseAnswer()]
        proxy.always["GET"] = Answer(503)
        with pytest.raises(CommitUnknown, match="manifest"):
            shaky.put(KEY, b"new", when=when)
        assert direct.get(KEY).data == b"new"
        assert not {"DELETE", "POST"} & set(proxy.seen)

    def test_a_server_that_stays_away_ends_it(self, kind: str, shaky: Store, direct: Store, proxy: FaultyProxy) -> None:
        """After a bounded number of tries the error says that it may pass; nothing was written."""
        when = condition(direct, kind)
        before = [info.etag for info in direct.list("")]
        proxy.always["PUT"] = LoseRequest()
        with pytest.raises(TransientError):
            shaky.put(KEY, b"new", when=when)
        assert proxy.seen.count("PUT") == 6
        assert [info.etag for info in direct.list("")] == before


def test_reads_and_unconditional_writes_are_retried(shaky: Store, direct: Store, proxy: FaultyProxy) -> None:
    """One failure of each passes unnoticed."""
    proxy.faults = {"PUT": [Answer(500)], "GET": [Answer(503), None, Answer(500)], "POST": [Answer(503)]}
    etag = shaky.put(KEY, b"1")
    assert shaky.get(KEY) == direct.get(KEY) == Stored(b"1", etag)
    assert [info.key for info in shaky.list("")] == [KEY]
    assert shaky.delete_many([KEY]) == 1
    assert list(direct.list("")) == []


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (Answer(503, b"<Error><Code>SlowDown</Code></Error>"), TransientError, "SlowDown"),
        (Answer(500), TransientError, "500"),
        (
            Answer(403, b"<Error><Code>AccessDenied</Code><AWSAccessKeyId>AKIAX</AWSAccessKeyId></Error>"),
            ConfigError,
            "403",
        ),
        (Answer(401), ConfigError, "AWS_ACCESS_KEY_ID"),
        (Answer(400, b"<Error><Code>ExpiredToken</Code><Token-0>AKIAX</Token-0></Error>"), ConfigError, "ExpiredToken"),
        (Answer(400, b"<Error><Code>AuthorizationHeaderMalformed</Code></Error>"), ConfigError, "AWS_REGION"),
        (Answer(301), ConfigError, "AWS_REGION"),
        (Answer(429), TransientError, "429"),
        (Answer(404, b"<Error><Code>NoSuchBucket</Code></Error>"), ConfigError, "no such bucket"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else "",
)
def test_only_404_means_absent(
    shaky: Store,
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    answer: Answer,
    error: type[CondvestError],
    says: str,
) -> None:
    """A refusal or failure is an error of its own kind in every call, on one line, without what the server repeats."""
    monkeypatch.setattr(objects, "_TRIES", 2)
    proxy.always = dict.fromkeys(["GET", "PUT", "POST", "DELETE"], answer)
    unsettled = CommitUnknown if error is TransientError and "if" in call else error
    with pytest.raises(unsettled, match=r"^[^\n]+$") as raised:
        CALLS[call](shaky)
    assert says in str(raised.value)
    assert "AKIAX" not in str(raised.value)
    assert raised.value.__context__ is None or raised.value.__suppress_context__ or error is TransientError


@pytest.mark.parametrize("call", CALLS)
def test_wrong_credentials_are_a_setting(s3_url: str, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A real server's refusal of a signature is a ConfigError that does not repeat the key."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(ConfigError, match="refused") as raised:
        CALLS[call](open_store(s3_url))
    assert "wrong-secret" not in str(raised.value)


def test_a_reader_may_read_but_not_write(
    s3_url: str, direct: Store, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rights to read only, reading works, and writing and deleting are refused, not ignored."""
    direct.put(KEY, b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_ACCESS_KEY)
    reader = open_store(s3_url)
    assert reader.get(KEY).data == b"1"
    for call in ("put", "put if absent", "put_many", "delete_many"):
        with pytest.raises(ConfigError, match="AccessDenied"):
            CALLS[call](reader)
    assert direct.get(KEY).data == b"1"


@pytest.mark.parametrize("call", ["get", "map", "list", "delete_many"])
def test_a_missing_bucket_is_a_setting(
    s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """No bucket is not an empty lake."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", PLAIN_ACCESS_KEY)
    with pytest.raises(ConfigError, match="no such bucket"):
        CALLS[call](open_store("s3://nowhere/lake"))


def test_no_server_may_pass(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be reached is a TransientError."""
    monkeypatch.setattr(objects, "_PATIENCE", Patience(tries=1))
    with pytest.raises(TransientError, match="try again"):
        open_store(s3_url, endpoint_url="http://127.0.0.1:1").get(KEY)


def test_no_credentials_are_a_setting(s3_url: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no credentials are found at all, the error says which variables to set."""
    monkeypatch.setattr(objects, "_PATIENCE", Patience(tries=1))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", proxy.url)
    proxy.always = dict.fromkeys(["GET", "PUT"], Answer(404))
    with pytest.raises(ConfigError, match="set AWS_ACCESS_KEY_ID"):
        open_store(s3_url).get(KEY)


def test_a_failing_batch_ends_before_it_raises(
    s3_url: str, direct: Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When one write of many fails, no other is still under way when the error arrives."""
    monkeypatch.setattr(objects, "_PATIENCE", Patience(tries=1))
    proxy.faults["PUT"] = [None, None, None, None, Answer(503)]
    with pytest.raises(TransientError):
        open_store(s3_url, endpoint_url=proxy.url).put_many((f"k/{number:03d}", b"1") for number in range(200))
    seen = len(proxy.seen)
    there = {info.key: info.etag for info in direct.list("")}
    direct.put_many((key, b"2") for key in there)
    assert len(proxy.seen) == seen
    assert len(there) < 200
    assert {stored.data for stored in direct.map(there, lambda _, stored: stored) if stored} <= {b"2"}


def test_the_region_comes_from_the_environment(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_REGION, then AWS_DEFAULT_REGION, then ca-west-1 sign the requests; an argument goes before them."""
    for variables in ({}, {"AWS_DEFAULT_REGION": "eu-north-1"}, {"AWS_REGION": "us-east-2"}):
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert open_store(s3_url).put_many_if([(f"r/{len(variables)}", b"", ALWAYS)])[0].etag
    assert open_store(s3_url, region="ap-south-1").put("r/x", b"")


def test_a_bucket_without_prefix_is_a_lake(s3_url: str, direct: Store) -> None:
    """The lake may be a whole bucket; keys then are the bucket's."""
    direct.put("bronze/a", b"1")
    bucket = open_store(s3_url.rpartition("/")[0] + "/")
    prefix = s3_url.rpartition("/")[2]
    assert bucket.get(f"{prefix}/bronze/a").data == b"1"
    assert [info.key for info in bucket.list(f"{prefix}/")] == [f"{prefix}/bronze/a"]
    assert bucket.url == "s3://lake"


@pytest.mark.parametrize("call", ["get", "map", "put", "put_many", "list", "delete_many"])
def test_what_fails_is_metered_too(shaky: Store, proxy: FaultyProxy, call: str) -> None:
    """S3 bills a request whatever comes of it, and each further try as one more."""
    proxy.always |= dict.fromkeys(("GET", "PUT", "POST"), Answer(503))
    with pytest.raises(TransientError):
        CALLS[call](shaky)
    counts = shaky.meter.snapshot()
    assert counts.gets + counts.puts + counts.lists + counts.deletes == len(proxy.seen) == 2
