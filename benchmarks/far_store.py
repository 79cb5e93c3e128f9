"""Measure an S3 store that is some milliseconds away: many small objects written, read, listed and deleted.

    python benchmarks/far_store.py [--objects 2000] [--delay-ms 20] [--concurrency 64 8] [--rounds 3]

A real S3 server runs on loopback; a relay in a process of its own holds back every byte on its way there. `ideal` is what the
delay alone costs: objects x delay / requests in flight. With 0 ms the relay does not wait: where that takes longer than the
ideal, server and machine are the bound, not the waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from condvest.storage.opening import open_store
from servers.seaweed import BUCKET, running_s3_server

_BODY = b"x" * 776  # what a `date=` file weighs


def main() -> None:
    """Run everything and print a table."""
    options = _options()
    with running_s3_server() as server:
        os.environ.update(server.environment())
        print(f"{options.objects:,} objects of {len(_BODY)} bytes, medians of {options.rounds} rounds, in seconds")
        print("delay in flight |  ideal |  write   read |  list delete")
        for delay_ms in (0, options.delay_ms):
            with _relay(server.endpoint_url, delay_ms / 1000) as url:
                for concurrency in options.concurrency:
                    took = [_round(url, concurrency, options.objects) for _ in range(options.rounds)]
                    ideal = options.objects * delay_ms / 1000 / concurrency
                    times = [statistics.median(column) for column in zip(*took, strict=True)]
                    write, read, listing, delete = (f"{seconds:6.2f}" for seconds in times)
                    print(f"{delay_ms:2d} ms {concurrency:9d} | {ideal:6.2f} | {write} {read} | {listing} {delete}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--delay-ms", type=int, default=20)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64, 8])
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _round(endpoint_url: str, concurrency: int, objects: int) -> list[float]:
    store = open_store(f"s3://{BUCKET}/far", endpoint_url=endpoint_url, concurrency=concurrency)
    keys = [f"bronze/raw_ohlcv/symbol=S{number:05d}/date=2025-11-20.parquet" for number in range(objects)]
    works: list[Callable[[], object]] = [
        lambda: store.put_many((key, _BODY) for key in keys),
        lambda: sum(1 for _ in store.map(keys, lambda _, stored: stored)),
        lambda: sum(1 for _ in store.list("bronze/")),
        lambda: store.delete_many(keys),
    ]
    times = []
    for work in works:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return times


@contextmanager
def _relay(behind: str, delay_seconds: float) -> Iterator[str]:
    """Start a relay before a server; it hands on each byte `delay_seconds` after it came, and each answer at once."""
    here, there = multiprocessing.Pipe()
    target = (urlsplit(behind).hostname or "", urlsplit(behind).port or 80)
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(*target, delay_seconds, there), daemon=True
    )
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.kill()
        process.join()


def _serve(host: str, port: int, delay_seconds: float, parent: Connection) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(
            _hand_on(reader, server_writer, delay_seconds), _hand_on(server_reader, writer, 0), return_exceptions=True
        )

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=512)
        parent.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float) -> None:
    """Hand on what comes, each piece after its own wait: waits overlap, as on a long line."""
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def take() -> None:
        while data := await reader.read(1 << 16):
            line.put_nowait((time.monotonic() + delay_seconds, data))
        line.put_nowait((0, b""))

    taking = asyncio.create_task(take())
    try:
        while (piece := await line.get())[1]:
            due, data = piece
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            writer.write(data)
            await writer.drain()
    finally:
        taking.cancel()
        writer.close()


if __name__ == "__main__":
    main()
