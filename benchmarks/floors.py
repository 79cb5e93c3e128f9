"""The least that a piece of work can cost: the same bytes read, decoded, copied or written, and nothing else.

    python benchmarks/floors.py decode LAKE        decode every data.parquet: read whole, two threads
    python benchmarks/floors.py copy LAKE TO       read every data.parquet and write the same bytes to another folder
    python benchmarks/floors.py write LAKE TO      write the bytes of every silver file to another folder (read beforehand)
    python benchmarks/floors.py landing LAKE TO    decode every landed answer, and write the bytes of every data.parquet

Each prints one JSON object: `seconds` of the work, without imports, and `bytes`.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

_THREADS = 2


def main() -> None:
    """Do what the arguments say."""
    work: Callable[..., dict[str, Any]] = {"decode": decode, "copy": copy, "write": write, "landing": landing}[
        sys.argv[1]
    ]
    print(json.dumps(work(*map(Path, sys.argv[2:]))))


def decode(lake: Path) -> dict[str, Any]:
    """Decode all daily bars, file by file."""
    paths = _data(lake)

    def one(path: Path) -> int:
        data = path.read_bytes()
        pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        return len(data)

    started = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        size = sum(pool.map(one, paths, chunksize=32))
    return {"seconds": time.perf_counter() - started, "bytes": size}


def copy(lake: Path, to: Path) -> dict[str, Any]:
    """Copy all daily bars to a folder of which only the folders are there."""
    paths = [(path, to / path.relative_to(lake)) for path in _data(lake)]
    _make_folders(target for _, target in paths)
    started = time.perf_counter()
    size = sum(target.write_bytes(path.read_bytes()) for path, target in paths)
    return {"seconds": time.perf_counter() - started, "bytes": size}


def write(lake: Path, to: Path) -> dict[str, Any]:
    """Write the bytes of silver."""
    return _written([(to / path.relative_to(lake), path.read_bytes()) for path in lake.glob("silver/*/*/*/*.parquet")])


def landing(lake: Path, to: Path) -> dict[str, Any]:
    """Decode what landed, two answers at a time, then write the bytes of all daily bars."""
    paths = list(lake.glob("bronze/landing/flat_files/*/*.csv.gz"))

    def one(path: Path) -> int:
        return int(pc.read_csv(pa.BufferReader(gzip.decompress(path.read_bytes()))).num_rows)

    started = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = sum(pool.map(one, paths))
    decoded = time.perf_counter() - started
    seconds, size = 0.0, 0
    data = _data(lake)
    for begin in range(0, len(data), 500):  # the bytes of all of them need not lie in memory
        part = _written([(to / path.relative_to(lake), path.read_bytes()) for path in data[begin : begin + 500]])
        seconds, size = seconds + part["seconds"], size + part["bytes"]
    return {"seconds": decoded + seconds, "decode_seconds": decoded, "bytes": size, "rows": rows}


def _data(lake: Path) -> list[Path]:
    return sorted(lake.glob("bronze/raw_ohlcv/*/data.parquet"))


def _written(bodies: list[tuple[Path, bytes]]) -> dict[str, Any]:
    _make_folders(path for path, _ in bodies)
    started = time.perf_counter()
    size = sum(path.write_bytes(body) for path, body in bodies)
    return {"seconds": time.perf_counter() - started, "bytes": size}


def _make_folders(paths: Iterable[Path]) -> None:
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    main()
