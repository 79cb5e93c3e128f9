"""Lakes to a bucket and back, and the least that work on a bucket can cost: obstore alone, 64 requests in flight.

    python benchmarks/bucket.py upload URL FOLDER      let a prefix hold what a folder holds, and nothing else
    python benchmarks/bucket.py download URL FOLDER    let a folder hold what differs from it in a prefix
    python benchmarks/bucket.py put URL FOLDER         floor: write the bytes of all files of a folder (read beforehand)
    python benchmarks/bucket.py rewrite URL            floor: read all of bronze, write every data.parquet as it was
    python benchmarks/bucket.py copy URL FOLDER        floor: read every data.parquet, write the bytes of a folder's silver

Address and keys are those of the environment. Each prints one JSON object: `seconds`, and as `traffic` what it asked.
"""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

T = TypeVar("T")

_IN_FLIGHT = 64
_PAGE = 1000


def main() -> None:
    """Do what the arguments say."""
    works: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        "upload": upload,
        "download": download,
        "put": put,
        "rewrite": rewrite,
        "copy": copy,
    }
    command, url, *rest = sys.argv[1:]
    print(json.dumps(asyncio.run(works[command](_opened(url), *map(Path, rest)))), flush=True)  # type: ignore[arg-type]
    # A thread of obstore that lets go of its last result while the interpreter ends aborts the process.
    os._exit(0)


async def upload(store: S3Store, folder: Path) -> dict[str, Any]:
    """Put what is not there by its content, delete what is not in the folder."""
    there, files = await _listed(store), _files(folder)

    async def one(key: str) -> int:
        data = files[key].read_bytes()
        if there.get(key) == hashlib.md5(data, usedforsecurity=False).hexdigest():
            return 0
        await obstore.put_async(store, key, data, use_multipart=False)
        return 1

    written = sum(await _all(one, files))
    gone = sorted(there.keys() - files.keys())
    for begin in range(0, len(gone), _PAGE):
        await obstore.delete_async(store, gone[begin : begin + _PAGE])
    return {"written": written, "deleted": len(gone)}


async def download(store: S3Store, folder: Path) -> dict[str, Any]:
    """Write what the folder does not hold by its content; a file is replaced, as another lake may share it."""
    files = _files(folder)

    async def one(item: tuple[str, str]) -> int:
        key, etag = item
        if key in files and hashlib.md5(files[key].read_bytes(), usedforsecurity=False).hexdigest() == etag:
            return 0
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(await _read(store, key))
        return 1

    return {"written": sum(await _all(one, (await _listed(store)).items()))}


async def put(store: S3Store, folder: Path) -> dict[str, Any]:
    """Write ready bytes."""
    bodies, asked = [(key, path.read_bytes()) for key, path in _files(folder).items()], _Asked(store)
    started = time.perf_counter()
    await _all(asked.put, bodies)
    return asked.said(started)


async def rewrite(store: S3Store) -> dict[str, Any]:
    """Ask what a consolidation of one new session asks, without doing anything with it."""
    asked = _Asked(store)

    async def one(key: str) -> None:
        data = await asked.get(key)
        if key.endswith("/data.parquet"):
            await asked.put((key, data))

    started = time.perf_counter()
    await _all(one, await asked.list("bronze/raw_ohlcv/"))
    return asked.said(started)


async def copy(store: S3Store, folder: Path) -> dict[str, Any]:
    """Ask what a full resample asks, without doing anything with it."""
    bodies = [(key, path.read_bytes()) for key, path in _files(folder).items() if key.startswith("silver/")]
    asked = _Asked(store)
    started = time.perf_counter()
    await _all(asked.get, [key for key in await asked.list("bronze/raw_ohlcv/") if key.endswith("/data.parquet")])
    await _all(asked.put, bodies)
    return asked.said(started)


class _Asked:
    """A store, and what it was asked."""

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._counts = {"gets": 0, "puts": 0, "lists": 0, "deletes": 0, "bytes_in": 0, "bytes_out": 0}

    async def get(self, key: str) -> bytes:
        """Read one object."""
        data = await _read(self._store, key)
        self._counts["gets"] += 1
        self._counts["bytes_in"] += len(data)
        return data

    async def put(self, item: tuple[str, bytes]) -> None:
        """Write one object."""
        key, data = item
        await obstore.put_async(self._store, key, data, use_multipart=False)
        self._counts["puts"] += 1
        self._counts["bytes_out"] += len(data)

    async def list(self, prefix: str) -> builtins.list[str]:
        """Return the keys under a prefix, in order."""
        found = sorted(await _listed(self._store, prefix))
        self._counts["lists"] += max(1, -(-len(found) // _PAGE))
        return found

    def said(self, started: float) -> dict[str, Any]:
        """Return what is to be printed."""
        return {"seconds": time.perf_counter() - started, "traffic": self._counts}


def _opened(url: str) -> S3Store:
    parts = urlsplit(url)
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/"),
        config={"region": os.environ["AWS_REGION"], "endpoint": os.environ["AWS_ENDPOINT_URL"]},
        client_options={"allow_http": True, "timeout": "2min"},
    )


def _files(folder: Path) -> dict[str, Path]:
    """Return the objects of a lake's folder by key; its state is none."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    keys = ((path.relative_to(folder).as_posix(), path) for path in found)
    return {key: path for key, path in keys if not key.startswith(".")}


async def _listed(store: S3Store, prefix: str | None = None) -> dict[str, str]:
    """Return the ETags by key; this server's are the MD5 of the content, as AWS's are."""
    found = {}
    async for page in obstore.list(store, prefix, chunk_size=_PAGE):
        found.update({meta["path"]: (meta["e_tag"] or "").strip('"') for meta in page})
    return found


async def _read(store: S3Store, key: str) -> bytes:
    return (await (await obstore.get_async(store, key)).bytes_async()).to_bytes()


async def _all(work: Callable[[Any], Awaitable[T]], items: Iterable[Any]) -> list[T]:
    """Work on all items, always as many at once as may be in flight; results in no order."""
    waiting = iter(items)

    async def worker() -> list[T]:
        return [await work(item) for item in waiting]

    results = await asyncio.gather(*(worker() for _ in range(_IN_FLIGHT)))
    return [result for part in results for result in part]


if __name__ == "__main__":
    main()
