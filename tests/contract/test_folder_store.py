"""What the store in a folder promises beside the contract: two processes, killed processes, clocks, a failing disk."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from filelock import FileLock

from condvest.errors import CommitConflict, ConfigError, ObjectNotFound, TransientError
from condvest.storage import folder as folder_store
from condvest.storage import locks
from condvest.storage.opening import open_store
from condvest.storage.store import IF_ABSENT, Store

KEY = "bronze/raw_ohlcv/symbol=AAPL/data.parquet"

COUNT_UP = """
import sys
from condvest.errors import CommitConflict
from condvest.storage.opening import open_store
from condvest.storage.store import if_match
store = open_store(sys.argv[1], fsync=False)
done = 0
while done < 100:
    read = store.get("counter")
    try:
        store.put("counter", b"%d" % (int(read.data) + 1), when=if_match(read.etag))
        done += 1
    except CommitConflict:
        pass
"""
WRITE_FOREVER = """
import sys
from collections.abc import Iterator
from itertools import count
from condvest.storage.opening import open_store
open_store(sys.argv[1], fsync=False).put_many((f"k/{n % 5000:04d}/x", b"%08d" % n * 9) for n in count())
"""


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "lake"


@pytest.fixture
def folder(lake: Path) -> Store:
    """A store there."""
    return open_store(str(lake))


def script(code: str, lake: Path) -> subprocess.Popen[bytes]:
    """Start another process that works on the lake."""
    return subprocess.Popen([sys.executable, "-c", code, str(lake)])


def leftovers(lake: Path) -> list[Path]:
    """Return the files that lie aside."""
    return list((lake / ".condvest" / "tmp").glob("*"))


def test_two_processes_lose_no_update(folder: Store, lake: Path) -> None:
    """Processes that replace what they read, and read again when they lost, lose no update of each other."""
    folder.put("counter", b"0")
    processes = [script(COUNT_UP, lake), script(COUNT_UP, lake)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert folder.get("counter").data == b"200"


def test_a_killed_writer_leaves_whole_objects(folder: Store, lake: Path) -> None:
    """Killed at any moment, it leaves objects as one write made them, and no lock; the rest is swept a day later."""
    process = script(WRITE_FOREVER, lake)
    end = time.monotonic() + 30
    while len(list(folder.list("k/"))) < 100 and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    keys = [info.key for info in folder.list("")]
    assert len(keys) >= 100
    assert all(folder.map(keys, lambda _, stored: stored is not None and stored.data == stored.data[:8] * 9))
    (lake / ".condvest" / "tmp" / "1-killed-1").write_bytes(b"half")
    (lake / ".condvest" / "tmp" / "1-killed-2").write_bytes(b"half")
    os.utime(lake / ".condvest" / "tmp" / "1-killed-1", (time.time() - 90_000,) * 2)
    again = open_store(str(lake), fsync=False)
    assert [path.name for path in leftovers(lake) if "killed" in path.name] == ["1-killed-2"]
    assert again.put_many((key, b"") for key in keys) == len(keys)
    assert [info.key for info in again.list("")] == keys


@pytest.mark.parametrize("now_ns", [1_000_000_000, 1], ids=["stands still", "was set back"])
def test_etags_do_not_depend_on_the_clock(folder: Store, monkeypatch: pytest.MonkeyPatch, now_ns: int) -> None:
    """A clock that stands still or was set back gives no ETag twice."""
    etags = [folder.put(KEY, b"x")]
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    etags += [folder.put(KEY, b"x") for _ in range(20)]
    assert len(set(etags)) == 21


def test_etags_do_not_depend_on_fine_time_stamps(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that rounds time stamps down to two seconds gives no ETag twice."""
    set_times, step = os.utime, 2_000_000_000

    def coarse(path: str | int, *, ns: tuple[int, int]) -> None:
        set_times(path, ns=(ns[0] // step * step, ns[1] // step * step))

    monkeypatch.setattr(os, "utime", coarse)
    etags = [folder.put(KEY, b"x") for _ in range(5)]
    assert len(set(etags)) == 5


def test_a_missing_folder_is_an_empty_lake(folder: Store, lake: Path) -> None:
    """Reading, listing and deleting make no folder; the first write does."""
    assert list(folder.list("")) == []
    assert list(folder.map([KEY], lambda _, stored: stored)) == [None]
    assert folder.delete_many([KEY]) == 1
    assert not lake.exists()
    folder.put(KEY, b"1")
    assert (lake / KEY).read_bytes() == b"1"
    assert leftovers(lake) == []


def test_only_objects_are_listed(folder: Store, lake: Path) -> None:
    """Files and folders whose name begins with a dot, empty folders and symbolic links are no objects."""
    folder.put("a/b", b"1")
    (lake / "a" / ".hidden").write_bytes(b"")
    (lake / ".git").mkdir()
    (lake / ".git" / "config").write_bytes(b"")
    (lake / "empty").mkdir()
    (lake / "a" / "link").symlink_to(lake / "a" / "b")
    (lake / "out").symlink_to("/")
    assert [info.key for info in folder.list("")] == ["a/b"]


def test_files_follow_the_umask(folder: Store, lake: Path) -> None:
    """A lake that others may read stays readable: objects are not private to who wrote them."""
    before = os.umask(0o027)
    try:
        folder.put(KEY, b"1")
    finally:
        os.umask(before)
    assert (lake / KEY).stat().st_mode & 0o777 == 0o640


def test_a_write_is_durable_before_it_shows_and_its_folder_before_it_returns(
    folder: Store, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are on the disk before the rename, and every new folder's entry in its parent before the answer."""
    events: list[int] = []  # inodes that were synced, and 0 for a rename
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        events.append(os.fstat(handle).st_ino)
        fsync(handle)

    def noted_replace(path: str, target: str) -> None:
        replace(path, target)
        events.append(0)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)

    def inodes(*paths: Path) -> set[int]:
        return {path.stat().st_ino for path in paths}

    folder.put("a/b/c", b"1")
    before, after = events[: events.index(0)], events[events.index(0) + 1 :]
    assert before[-1:] == [*inodes(lake / "a/b/c")]
    assert set(after) >= inodes(lake / "a/b", lake / "a", lake)
    assert set(events) >= inodes(lake.parent)
    events.clear()
    folder.delete_many(["a/b/c"])
    assert events == [*inodes(lake / "a/b")]
    events.clear()
    open_store(str(lake), fsync=False).put_many([("a/b/c", b"2"), ("n/e/w", b"")])
    assert events == [0, 0]


def test_the_way_to_an_object_is_durable_though_a_killed_process_made_it(
    folder: Store, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders that are there already may be on no disk yet: each is synced with the first write below it, and only then."""
    (lake / "a/b").mkdir(parents=True)
    synced: list[int] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    folder.put("a/b/c", b"1")
    way = {path.stat().st_ino for path in (lake / "a/b", lake / "a", lake)}
    assert way <= set(synced)
    synced.clear()
    folder.put("a/b/c", b"2")
    assert synced == [(lake / "a/b/c").stat().st_ino, (lake / "a/b").stat().st_ino]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_batch_is_durable(folder: Store, lake: Path, monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """Many files are waited for together on Linux, one by one elsewhere; folders too."""
    folder.put("first", b"")
    monkeypatch.setattr(sys, "platform", platform)
    number = count()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (next(number), fsync(handle)))
    folder.put_many((f"k/{n:02d}/x", b"%d" % n) for n in range(40))
    assert next(number) == (0 if platform == "linux" else 40 + 40 + 2)
    assert leftovers(lake) == []


def test_a_batch_that_the_disk_refuses_is_not_acknowledged(
    folder: Store, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fails to write, the batch fails and nothing of it shows."""

    class Broken:
        def syncfs(self, _: int) -> int:
            ctypes.set_errno(errno.EIO)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Broken())
    with pytest.raises(TransientError, match="Input/output error"):
        folder.put_many((f"k/{n:02d}", b"") for n in range(40))
    assert not [*folder.list(""), *leftovers(lake)]


def test_a_full_disk_is_said_and_leaves_nothing(folder: Store, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is a TransientError; what was there stays, and no half file lies about."""
    folder.put(KEY, b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(TransientError, match=r"^[^\n]*No space left[^\n]*$"):
            folder.put(KEY, b"new")
    assert folder.get(KEY).data == b"old"
    assert leftovers(lake) == []


def test_access_refused_is_a_setting(folder: Store, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that this user may not read is a ConfigError, never an absent object or an empty lake."""
    folder.put(KEY, b"1")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(lake))

    monkeypatch.setattr("builtins.open", refused)
    monkeypatch.setattr(os, "scandir", refused)
    for call in (lambda: folder.get(KEY), lambda: list(folder.map([KEY], lambda *_: 0)), lambda: list(folder.list(""))):
        with pytest.raises(ConfigError, match="Permission denied"):
            call()


def test_a_lake_below_a_folder_that_may_not_be_entered_is_told_so(tmp_path: Path) -> None:
    """The path is a good one; what this user lacks is named."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)  # root may enter any
    try:
        with pytest.raises(
            ConfigError, match=r"closed/lake': a folder above it may not be entered \(Permission denied"
        ):
            open_store(str(closed / "lake"))
    finally:
        os.seteuid(user)


def test_a_key_and_a_folder_of_one_name_are_refused(folder: Store, lake: Path) -> None:
    """What S3 could keep and a folder cannot is refused in words, and nothing is left over."""
    folder.put("a/b", b"1")
    for key in ("a", "a/b/c", "a/" + "x" * 300):
        with pytest.raises(ConfigError, match=r"^[^\n]+$"):
            folder.put(key, b"2", when=IF_ABSENT)
    assert [info.key for info in folder.list("")] == ["a/b"]
    assert leftovers(lake) == []
    assert folder.delete_many(["a"]) == 1
    assert folder.get("a/b").data == b"1"


def test_a_file_is_no_lake(tmp_path: Path) -> None:
    """A path that is a file is refused at once; one below a file at the first write."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="is a file"):
        open_store(str(tmp_path / "file"))
    below = open_store(str(tmp_path / "file" / "lake"))
    assert list(below.list("")) == []
    with pytest.raises(ConfigError, match="Not a directory"):
        below.put("a", b"")


def test_a_lock_that_nobody_frees_is_said(folder: Store, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process that holds a lock holds others up for a bounded time only, and the message names the lock."""
    folder.put(KEY, b"1")
    (held,) = (lake / ".condvest" / "locks").iterdir()
    monkeypatch.setattr(locks, "_WAIT_SECONDS", 0.05)
    with FileLock(held, fallback_to_soft=False), pytest.raises(TransientError, match=held.name):
        folder.put(KEY, b"2")
    assert folder.put(KEY, b"3")
    assert leftovers(lake) == []


def test_large_batches_are_bounded_and_whole(folder: Store, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of any length keeps a bounded number of files aside, and loses none."""
    monkeypatch.setattr(folder_store, "_SLICE_FILES", 64)
    most = 0

    def items() -> list[tuple[str, bytes]]:
        return [(f"k/{n % 50}/{n:04d}", b"%d" % n) for n in range(500)]

    def watched() -> Iterator[tuple[str, bytes]]:
        nonlocal most
        for item in items():
            most = max(most, len(leftovers(lake))) if item[0].endswith("5") else most
            yield item

    assert open_store(str(lake), fsync=False).put_many(watched()) == 500
    assert 0 < most <= 64
    assert {(info.key, info.size_bytes) for info in folder.list("")} == {(key, len(data)) for key, data in items()}
    assert leftovers(lake) == []
    with pytest.raises(CommitConflict):
        folder.put("k/0/0000", b"", when=IF_ABSENT)


def test_no_symbolic_link_leads_out_of_the_lake(lake: Path, tmp_path: Path) -> None:
    """A linked folder inside the lake is refused for reading, writing, deleting and listing; a linked file is not there."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    lake.mkdir()
    (lake / "out").symlink_to(tmp_path / "outside")
    (lake / "file").symlink_to(tmp_path / "outside" / "secret")
    store = open_store(str(lake), fsync=False)
    for act in (
        lambda: store.get("out/secret"),
        lambda: store.put("out/secret", b"x"),
        lambda: store.delete_many(["out/secret"]),
        lambda: list(store.list("out/")),
    ):
        with pytest.raises(ConfigError, match="symbolic link"):
            act()
    with pytest.raises(ObjectNotFound):
        store.get("file")
    store.delete_many(["file"])
    store.put("file", b"own", when=IF_ABSENT)
    assert store.get("file").data == b"own"
    assert (tmp_path / "outside" / "secret").read_text() == "secret"


def test_the_lake_itself_may_be_a_symbolic_link(lake: Path, tmp_path: Path) -> None:
    """Who owns the lake's folder says where it is."""
    (tmp_path / "disk").mkdir()
    lake.symlink_to(tmp_path / "disk")
    open_store(str(lake), fsync=False).put("a/b", b"1")
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"1"


@pytest.mark.parametrize("path", ["x" * 300, "a\0b", "a/" + "b" * 5000])
def test_a_path_that_the_system_does_not_take(path: str) -> None:
    """One line of ours in place of an error of the operating system."""
    with pytest.raises(ConfigError, match="no path of this system"):
        open_store(path)


def test_a_working_folder_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that begins there leads nowhere; a whole one still does."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="'lake': the working folder is gone"):
        open_store("lake")
    assert list(open_store(str(tmp_path / "lake")).list("")) == []


def test_a_file_system_without_locks_is_named(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without locks two writers could both believe to be first: nothing is written."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigError, match="keep the lake on a file system with locks"):
        open_store(str(lake)).put("a/b", b"1")
    assert not (lake / "a" / "b").exists()
