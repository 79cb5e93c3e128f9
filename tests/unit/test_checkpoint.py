"""The resampler's checkpoints: a cache of what silver was built from; whatever is wrong with one, it is built anew."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import date

import pytest

from condvest.errors import CommitConflict, TransientError
from condvest.storage import layout
from condvest.storage.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from condvest.storage.opening import open_store
from condvest.storage.store import IF_ABSENT, Store

KEY = layout.checkpoint_key(13)
GOOD = Checkpoint(
    13, "calendar", "kernel1/writer1", date(2025, 11, 3), {"AAPL": "a/", "BCpC": "b/c"}, {"2025-11": "e1"}
)


@pytest.fixture
def memory() -> Store:
    """An empty store."""
    return open_store(f"memory://{uuid.uuid4().hex}")


def test_a_checkpoint_comes_back_as_it_was(memory: Store) -> None:
    """And says under which condition it may be replaced."""
    assert read_checkpoint(memory, 13) == (None, IF_ABSENT)
    write_checkpoint(memory, GOOD, IF_ABSENT)
    found, when = read_checkpoint(memory, 13)
    assert (found, when.etag) == (GOOD, memory.get(KEY).etag)
    assert read_checkpoint(memory, 5) == (None, IF_ABSENT)


def test_the_same_checkpoint_gives_the_same_bytes(memory: Store) -> None:
    """The order in which symbols and months were gathered does not matter."""
    write_checkpoint(memory, GOOD, IF_ABSENT)
    body = memory.get(KEY).data
    turned = Checkpoint(
        13, "calendar", "kernel1/writer1", date(2025, 11, 3), dict(reversed(GOOD.sources.items())), GOOD.months
    )
    write_checkpoint(memory, turned, read_checkpoint(memory, 13)[1])
    assert memory.get(KEY).data == body


def test_it_is_replaced_only_as_it_was_read(memory: Store) -> None:
    """Rule 6: the second of two writers is told."""
    _, when = read_checkpoint(memory, 13)
    write_checkpoint(memory, GOOD, when)
    with pytest.raises(CommitConflict):
        write_checkpoint(memory, GOOD, when)


def spoiled(**changes: object) -> bytes:
    """Return the JSON of a checkpoint with some fields replaced, or left out where the value is None."""
    content: Mapping[str, object] = {
        "version": 1,
        "interval_sessions": 13,
        "calendar_version": "calendar",
        "builder": "kernel1/writer1",
        "reach": "2025-11-03",
        "sources": {"AAPL": "a/"},
        "months": {"2025-11": "e1"},
    }
    return json.dumps({name: value for name, value in {**content, **changes}.items() if value is not None}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"[" * 100_000,
        spoiled(version=2),
        spoiled(interval_sessions=5),
        spoiled(reach="soon"),
        spoiled(reach=20251103),
        spoiled(sources=["AAPL"]),
        spoiled(months={"2025-11": 7}),
        spoiled(months=None),
        spoiled(builder=None),
    ],
)
def test_a_checkpoint_that_cannot_be_read_counts_as_lost(
    memory: Store, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and can be replaced: it decides nothing (rule 7)."""
    memory.put(KEY, body)
    found, when = read_checkpoint(memory, 13)
    assert found is None
    assert "checkpoint_unreadable" in caplog.text
    write_checkpoint(memory, GOOD, when)
    assert read_checkpoint(memory, 13)[0] == GOOD


def test_only_a_certain_absence_counts_as_lost(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the store is an error."""

    def fail(keys: object, decode: object) -> None:
        raise TransientError("503")

    monkeypatch.setattr(memory, "map", fail)
    with pytest.raises(TransientError):
        read_checkpoint(memory, 13)
