"""A store in a folder: each object is a plain file, readable by any other program.

Reads are a plain `open().read()` in two threads, which was measured faster than any asynchronous way for small files.
A write goes aside, is made durable, and is renamed into place under a lock that other processes respect. All that is
no object lies in `<root>/.condvest/`: files being written in `tmp/`, locks in `locks/`.
"""

from __future__ import annotations

import builtins
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, count, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from condvest.aio import in_chunks
from condvest.errors import CommitConflict, ConfigError, ObjectNotFound
from condvest.storage.disk import (
    clear_errors,
    etag_of,
    make_folder,
    newer,
    open_no_link,
    rename,
    status_of,
    sync,
    whole_path,
    write_file,
)
from condvest.storage.keys import check_key, check_keys, check_prefix
from condvest.storage.locks import StripedLocks
from condvest.storage.store import ALWAYS, PAGE, Meter, ObjectInfo, PutResult, Stored, When

# Hot paths work on plain strings and `os` calls: a `pathlib` call costs as much as reading a small file.
# ruff: noqa: PTH108, PTH118, PTH120

T = TypeVar("T")

_THREADS = 2
_AHEAD = 8  # times 4 objects are read and not yet taken by the consumer
_SLICE_FILES = 2048  # most files, and about the most bytes, that a batch keeps aside before it renames them
_SLICE_BYTES = 64 << 20
_LEFTOVER_SECONDS = 86_400.0
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class _Aside(NamedTuple):
    """A file that waits to be renamed onto its key."""

    path: str
    status: os.stat_result
    when: When


class FolderStore:
    """A `Store` in a folder of a POSIX file system. A missing folder lists nothing; the first write makes it."""

    def __init__(self, root: Path, *, fsync: bool = True) -> None:
        """Open the folder, without making it. `fsync=False` gives up durability at power failure, nothing else."""
        self.root = whole_path(root, "lake")
        try:
            if self.root.exists() and not self.root.is_dir():
                raise ConfigError(f"lake {str(self.root)!r} is a file: a lake is a folder; give another path")
            self.url = self.root.as_uri()
            os.path.realpath(self.root)  # raises for a path that no system takes
        except PermissionError as error:
            raise ConfigError(
                f"lake {str(self.root)!r}: a folder above it may not be entered ({error.strerror}); ask for"
                " access to it, or give another path"
            ) from None
        except (OSError, ValueError) as error:  # too long, a NUL, no text
            raise ConfigError(
                f"lake {ascii(str(root))[:80]} is no path of this system ({error}); give another"
            ) from None
        self.meter = Meter()
        self._fsync = fsync
        self._base = os.path.join(self.root, "")
        self._inside: set[str] = set()
        self._tmp = self.root / ".condvest" / "tmp"
        self._lock_folder = self.root / ".condvest" / "locks"
        self._locks = StripedLocks(self._lock_folder)
        self._token = uuid.uuid4().hex[:12]
        self._numbers = count()
        # Folders of which this process knows that their names in the folders above are on the disk.
        self._entered: set[str] = set()
        self._sweep()

    def get(self, key: str) -> Stored:
        """Return one object; see `Store.get`."""
        stored = self._read(key)
        if stored is None:
            raise ObjectNotFound(f"object {key!r} is not in lake {self.url}: write it first, or list what is there")
        return stored

    def map(self, keys: Iterable[str], decode: Callable[[str, Stored | None], T]) -> Iterator[T]:
        """Read and decode objects in two threads; see `Store.map`."""
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="condvest-read") as pool:
            yield from in_chunks(pool, lambda key: decode(key, self._read(key)), keys, ahead=_AHEAD)

    def put(self, key: str, data: bytes, *, when: When = ALWAYS) -> str:
        """Write one object; see `Store.put`."""
        (result,) = self._commit([(key, data, when)])
        if result.etag is None:
            raise CommitConflict(f"object {key!r} changed since it was read: another writer was first; read again")
        return result.etag

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> int:
        """Write objects and wait for the disk once a slice; see `Store.put_many`."""
        return sum(1 for _ in self._commit((key, data, ALWAYS) for key, data in items))

    def put_many_if(self, items: Iterable[tuple[str, bytes, When]]) -> builtins.list[PutResult]:
        """Write objects whose condition holds; see `Store.put_many_if`."""
        return [*self._commit(items)]

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete objects and leave their folders; see `Store.delete_many`."""
        deleted, iterator = 0, iter(keys)
        folders: set[str] = set()
        while part := [*islice(iterator, _SLICE_FILES)]:
            self._delete(part, folders)
            deleted += len(part)
        self._sync(folders)
        return deleted

    def list(self, prefix: str, *, cuts: Iterable[str] = ()) -> Iterator[ObjectInfo]:
        """Walk the folder, without any use for cuts; see `Store.list`. Dot-names and symbolic links are no objects."""
        self._path(f"{check_prefix(prefix)}x")
        check_keys(cuts)
        self.meter.add(lists=1)
        with clear_errors(self.url):
            for number, info in enumerate(self._walk(prefix)):
                if number and not number % PAGE:
                    self.meter.add(lists=1)
                yield info

    def list_many(self, prefixes: Iterable[str]) -> Iterator[ObjectInfo]:
        """Walk several folders, one after the other; see `Store.list_many`."""
        return chain.from_iterable(map(self.list, prefixes))

    def holds(self, prefix: str) -> bool:
        """Walk as far as the first object; see `Store.holds`."""
        return next(self.list(prefix), None) is not None

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(self._base + prefix) as entries:
                # A folder sorts as its keys do, with the slash: `a.txt` comes before `a/b`.
                found = [
                    (f"{entry.name}/" if entry.is_dir() else entry.name, entry)
                    for entry in entries
                    if entry.name[0] != "." and not entry.is_symlink()
                ]
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, entry in sorted(found, key=lambda pair: pair[0]):
            if name[-1] == "/":
                yield from self._walk(prefix + name)
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:  # deleted meanwhile
                continue
            yield ObjectInfo(prefix + name, status.st_size, etag_of(status))

    def _path(self, key: str) -> str:
        """Return the path of a key; ConfigError for a key that is impossible or leads out of the lake by a symbolic link."""
        folder = check_key(key).rpartition("/")[0]
        if folder and folder not in self._inside:
            self._check_way(folder, key)
        return self._base + key

    def _check_way(self, folder: str, key: str) -> None:
        """Look at a folder of the lake, and at those above it that were not looked at yet: none may be a symbolic link."""
        above = folder.rpartition("/")[0]
        if above and above not in self._inside:
            self._check_way(above, key)
        with clear_errors(self.url):
            try:
                is_link = stat.S_ISLNK(os.lstat(self._base + folder).st_mode)
            except (FileNotFoundError, NotADirectoryError):
                is_link = False
            except ValueError as error:  # a letter that no file name has
                raise ConfigError(f"key {ascii(key)[:80]}: no path of this system ({error})") from None
        if is_link:
            raise ConfigError(
                f"key {key!r}: a folder of lake {self.url} is a symbolic link, which could lead anywhere; put the folder"
                " itself in its place, or make the whole lake's folder the link"
            )
        self._inside.add(folder)

    def _read(self, key: str) -> Stored | None:
        path, data = self._path(key), b""
        with clear_errors(self.url):
            try:
                with open(path, "rb", buffering=0, opener=open_no_link) as file:
                    data, status = file.readall(), os.fstat(file.fileno())
            except _ABSENT:
                return None
            finally:
                self.meter.add(gets=1, bytes_in=len(data))
        return Stored(data, etag_of(status))

    def _commit(self, items: Iterable[tuple[str, bytes, When]]) -> Iterator[PutResult]:
        """Write items slice by slice and yield what became of each; all is durable when the iterator ends."""
        folders: set[str] = set()
        iterator = iter(items)
        for first in iterator:
            aside: builtins.list[tuple[str, _Aside]] = []
            try:
                self._write_aside(chain((first,), iterator), aside)
                with clear_errors(self.url):
                    etags = self._place(aside, folders)
            except BaseException:
                for _, file in aside:
                    with suppress(OSError):  # in place already, or left to the sweep
                        os.unlink(file.path)
                raise
            yield from (PutResult(key, etags[file.path]) for key, file in aside)
        self._sync(folders)

    def _write_aside(self, items: Iterator[tuple[str, bytes, When]], aside: builtins.list[tuple[str, _Aside]]) -> None:
        """Write one slice of items to new files, listed in `aside`, and make those durable."""
        size_bytes = 0
        try:
            for key, data, when in items:
                self._path(key)
                path = f"{self._tmp}/{os.getpid()}-{self._token}-{next(self._numbers)}"
                with clear_errors(self.url):
                    try:
                        status = write_file(path, data)
                    except FileNotFoundError:
                        self._make_folders()
                        status = write_file(path, data)
                aside.append((key, _Aside(path, status, when)))
                size_bytes += len(data)
                if size_bytes >= _SLICE_BYTES or len(aside) >= _SLICE_FILES:
                    break
        finally:
            self.meter.add(puts=len(aside), bytes_out=size_bytes)
        if self._fsync:
            with clear_errors(self.url):
                sync(self.root, [file.path for _, file in aside])

    def _place(self, aside: builtins.list[tuple[str, _Aside]], folders: set[str]) -> dict[str, str | None]:
        """Rename each file onto its key if its condition holds; return the ETags by the files' paths."""
        etags: dict[str, str | None] = {}
        for stripe, files in self._locks.by_stripe(aside).items():
            with self._locks.hold(stripe):
                for key, (path, status, when) in files:
                    old = status_of(self._base + key)
                    if (when.absent and old) or (when.etag is not None and (not old or etag_of(old) != when.etag)):
                        etags[path] = None
                        os.unlink(path)
                        continue
                    etags[path] = etag_of(newer(path, status, old))
                    folders.update(rename(path, self._base + key))
        return etags

    def _delete(self, keys: Iterable[str], folders: set[str]) -> None:
        paths = [(key, self._path(key)) for key in keys]
        self.meter.add(deletes=len(paths))
        with clear_errors(self.url):
            present = [(key, path) for key, path in paths if status_of(path)]
            for stripe, files in self._locks.by_stripe(present).items():
                # Under the lock, or a conditional write could find the object, lose it, and bring it back.
                with self._locks.hold(stripe):
                    for _, path in files:
                        with suppress(FileNotFoundError):
                            os.unlink(path)
                            folders.add(os.path.dirname(path))

    def _sync(self, folders: set[str]) -> None:
        """Return when what was renamed in these folders is on the disk, and with it the way to them from the root.

        A folder that is there already may have been made by a process that was killed before it synced the one above.
        """
        if not self._fsync or not folders:
            return
        entered = {above for folder in folders for above in self._way(folder)} - self._entered
        with clear_errors(self.url):
            sync(self.root, folders | {os.path.dirname(folder) for folder in entered})
        self._entered |= entered

    def _way(self, folder: str) -> Iterator[str]:
        """Yield a folder of the lake and those above it, up to the one below the root."""
        while len(folder) >= len(self._base):
            yield folder
            folder = os.path.dirname(folder)

    def _make_folders(self) -> None:
        changed = {*make_folder(str(self._tmp)), *make_folder(str(self._lock_folder))}
        if self._fsync:
            sync(self.root, changed)

    def _sweep(self) -> None:
        """Remove what killed processes left aside. A living one needs no file there for as long as a day."""
        oldest = time.time() - _LEFTOVER_SECONDS
        with suppress(OSError), os.scandir(self._tmp) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.stat().st_mtime < oldest:
                        os.unlink(entry)
