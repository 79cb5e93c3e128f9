"""A real S3 server on loopback, and before it a second address at which each request takes longer, as over a network.

    PYTHONPATH=tests python benchmarks/object_server.py FOLDER --delay-ms 20

Prints one JSON object, the variables by which a client finds either, then serves until its standard input ends. The delay is
added once a request, however many packets it has: HTTP/1.1 without pipelining speaks in turns, and the first bytes of a client
after an answer begin a request. Each line of its input is answered by one JSON object with what came to the slow address since
the last: `requests`; `in_flight`, the most at the same time; `round_trips`, the most of which each began after the one before was
answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

from servers.seaweed import running_s3_server


class _Counts:
    """What came since it was last asked. Answers are told in the order of their instants, so that a greedy choice is the most."""

    def __init__(self) -> None:
        self.requests = self.round_trips = self.most_in_flight = 0
        self._in_flight, self._last_answered = 0, 0.0

    def began(self) -> None:
        """Count a request as under way."""
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)

    def answered(self, began: float, now: float) -> None:
        """Count a request as answered."""
        self._in_flight -= 1
        self.requests += 1
        if began >= self._last_answered:
            self.round_trips += 1
            self._last_answered = now

    def lost(self) -> None:
        """Count a request as given up by the client or the server."""
        self._in_flight -= 1

    def take(self) -> dict[str, int]:
        """Return the counts and begin anew."""
        taken = {"requests": self.requests, "in_flight": self.most_in_flight, "round_trips": self.round_trips}
        self.requests = self.round_trips = 0
        self.most_in_flight = self._in_flight
        return taken


class _Client(asyncio.Protocol):
    """A client's connection; what it says goes on to the server later."""

    def __init__(self, behind: tuple[str, int], delay_seconds: float, counts: _Counts) -> None:
        self._behind = behind
        self._delay_seconds = delay_seconds
        self._counts = counts
        self._began = 0.0
        self._held: list[bytes] | None = None
        self._server: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_in_turn = True
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open a connection to the server that belongs to this one alone."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        try:
            self._server, _ = await asyncio.get_running_loop().create_connection(lambda: _Server(self), *self._behind)
        except OSError:
            self.transport.close()
            return
        if self.transport.is_closing():
            self._server.close()
        else:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Hold a request back from its first bytes on; bytes that come after the delay go on as they come."""
        assert self._server is not None
        if self._is_in_turn:
            loop = asyncio.get_running_loop()
            self._is_in_turn, self._held, self._began = False, [data], loop.time()
            self._counts.began()
            loop.call_later(self._delay_seconds, self._release)
        elif self._held is not None:
            self._held.append(data)
        else:
            self._server.write(data)

    def _release(self) -> None:
        held, self._held = self._held or [], None
        if self._server is not None and not self._server.is_closing():
            self._server.writelines(held)

    def answer(self, data: bytes) -> None:
        """Pass on a part of an answer; the client's next bytes are another request."""
        if not self._is_in_turn:
            self._is_in_turn = True
            self._counts.answered(self._began, asyncio.get_running_loop().time())
        self.transport.write(data)

    def pause_writing(self) -> None:
        """Read no more from the server while this client is slower."""
        if self._server is not None:
            self._server.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        if self._server is not None:
            self._server.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is asyncio's
        """Hang up."""
        if not self._is_in_turn:
            self._is_in_turn = True
            self._counts.lost()
        if self._server is not None:
            self._server.close()


class _Server(asyncio.Protocol):
    """The connection behind a client's; answers go back at once."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        """Pass on a part of an answer."""
        self._client.answer(data)

    def pause_writing(self) -> None:
        """Read no more from the client while the server is slower."""
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._client.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is asyncio's
        """Hang up."""
        self._client.transport.close()


async def _serve(environment: dict[str, str], delay_seconds: float) -> None:
    address = urlsplit(environment["AWS_ENDPOINT_URL"])
    behind = (str(address.hostname), int(address.port or 80))
    loop, counts = asyncio.get_running_loop(), _Counts()
    proxy = await loop.create_server(lambda: _Client(behind, delay_seconds, counts), "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    slow = {**environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    print(json.dumps({"direct": environment, "slow": slow}), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(counts.take()), flush=True)
    proxy.close()


def main() -> None:
    """Serve until the one who started this hangs up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the server's objects lie in a folder of its own in it")
    parser.add_argument("--delay-ms", type=float, default=20)
    options = parser.parse_args()
    with running_s3_server(within=options.folder) as server:
        asyncio.run(_serve(server.environment(), options.delay_ms / 1000))


if __name__ == "__main__":
    main()
