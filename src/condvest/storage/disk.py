"""What a folder store asks of the operating system: new files, ETags from file status, waiting for the disk."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from condvest.errors import ConfigError, TransientError

# This module works on plain string paths and `os` calls: a `pathlib` call costs as much as writing a small file.
# ruff: noqa: PTH102, PTH103, PTH105, PTH108, PTH116, PTH120

_FEW = 16  # up to here, waiting for each file costs less than waiting for all that the file system has to write
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_IMPOSSIBLE = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG})
_LACKING = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})


def whole_path(path: Path, what: str) -> Path:
    """Return a path from the root on. ConfigError, saying `what` lies there, where it begins in a working folder that is gone."""
    try:
        return Path(os.path.abspath(path))  # noqa: PTH100 - takes `..` out as well
    except FileNotFoundError:
        raise ConfigError(
            f"{what} {str(path)!r}: the working folder is gone; change to one that exists, or give a whole path"
        ) from None


def write_file(path: str, data: bytes) -> os.stat_result:
    """Create a file that must not exist yet, fill it, and return its status. It is not durable before it is synced."""
    # Not tempfile: its files are private to the user, and a lake's files follow the umask.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        left = memoryview(data)
        while left:  # one call writes 2 GiB at most
            left = left[os.write(handle, left) :]
        now_ns = time.time_ns()  # the kernel's own time stamps stand still for milliseconds
        os.utime(handle, ns=(now_ns, now_ns))
        return os.fstat(handle)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(handle)


def open_no_link(path: str, flags: int) -> int:
    """Open a file for `open`; a symbolic link is no object, and counts as nothing there."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(error.errno, error.strerror, path) from None
        raise


def status_of(path: str) -> os.stat_result | None:
    """Return a file's status, or None when there is none: nothing there, a folder, a link, or a file higher up the path."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def etag_of(status: os.stat_result) -> str:
    """Return the ETag of a file's content: inode, modification time and size, in hex."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def newer(path: str, status: os.stat_result, than: os.stat_result | None) -> os.stat_result:
    """Move a file's modification time above that of the one it is to replace, where it is not; return its status.

    An ETag must never come back for its key, or `if_match` would take a changed object for the one that was read.
    Inodes are used again, sizes repeat, and a clock may be set back or a writer with an older file come later. The time
    of the object to be replaced, read under the key's lock, is the bound that makes it certain. A deleted object and
    its successor are kept apart by the nanosecond clock, as an inode is used again only after the deletion.
    """
    step_ns = 1
    while than and status.st_mtime_ns <= than.st_mtime_ns:
        time_ns = than.st_mtime_ns + step_ns
        os.utime(path, ns=(time_ns, time_ns))
        status = os.stat(path)
        step_ns *= 10  # a file system with coarse time stamps rounds down
    return status


def rename(path: str, target: str) -> list[str]:
    """Move a file onto its target, making folders where needed; return the folders that are to be synced."""
    folder = os.path.dirname(target)
    try:
        os.replace(path, target)
    except FileNotFoundError:
        changed = [folder, *make_folder(folder)]
        os.replace(path, target)
        return changed
    return [folder]


def make_folder(folder: str) -> list[str]:
    """Make a folder and those above it; return the parents, which are to be synced: they hold the new folders' names."""
    parent = os.path.dirname(folder)
    try:
        os.mkdir(folder)
    except FileExistsError:  # another writer was quicker
        return [parent]
    except FileNotFoundError:
        parents = make_folder(parent)
        os.makedirs(folder, exist_ok=True)
        return [parent, *parents]
    return [parent]


def sync(root: Path, paths: Collection[str]) -> None:
    """Return when these files and folders, all on the file system of `root`, are on the disk."""
    if len(paths) > _FEW and _sync_file_system(root):
        return
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sync_file_system(root: Path) -> bool:
    """Wait for all of the file system at once (Linux); False where that cannot be done."""
    if sys.platform != "linux":
        return False
    handle = os.open(root, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle) == 0:
            return True
        # A failure here is a failure to write, not a missing feature: it must not be answered by trying again.
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(root))
    finally:
        os.close(handle)


@contextmanager
def clear_errors(url: str) -> Iterator[None]:
    """Turn what the operating system refuses into an error of this project."""
    try:
        yield
    except OSError as error:
        what = f"lake {url}: {error.filename or 'its disk'}: {error.strerror}"
        if error.errno in _REFUSED:
            raise ConfigError(f"{what}; give this user access to the folder, or give another lake") from error
        if error.errno in _IMPOSSIBLE:
            raise ConfigError(f"{what}; a folder cannot keep this key: no key may be another's folder") from error
        if error.errno in _LACKING:
            raise ConfigError(f"{what}; keep the lake on a file system with locks, syncs and renames") from error
        raise TransientError(f"{what}; see to the disk, then try again") from error
