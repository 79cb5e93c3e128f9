"""A proxy on loopback before a real server, for tests: it loses requests or answers, or answers by itself."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What the proxy says by itself; the server behind it hears nothing."""

    status: int
    body: bytes = b""


@dataclass(frozen=True)
class LoseRequest:
    """Close the connection; the server behind the proxy hears nothing."""


@dataclass(frozen=True)
class LoseAnswer:
    """Let the server do what is asked, run `then`, and close the connection without an answer."""

    then: Callable[[], object] = field(default=lambda: None)


@dataclass(frozen=True)
class CutAnswer:
    """Let the server do what is asked, send half of its answer, and close the connection."""


@dataclass(frozen=True)
class SpoilAnswer:
    """Let the server do what is asked, and send other bytes of the same number in place of its answer's."""


@dataclass(frozen=True)
class Late:
    """Let the request pass, later; with a time beyond the client's patience nobody waits for the answer any more."""

    seconds: float


Fault = Answer | LoseRequest | LoseAnswer | CutAnswer | SpoilAnswer | Late | None


class FaultyProxy:
    """What goes wrong, by the request's method: each fault hits one request, in order; None lets one pass."""

    def __init__(self, behind: str) -> None:
        """Stand before the server at this URL, letting everything pass at first."""
        self.behind = urlsplit(behind).netloc
        self.url = ""
        self.faults: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.weather: Callable[[str, str], Fault] = lambda _method, _path: None
        """Asked with method and path where nothing is planned."""
        self.seen: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0
        """The most requests that were here at once: come, and not answered yet."""
        self._lock = threading.Lock()

    def next_fault(self, method: str, path: str) -> Fault:
        """Note a request and return what is to happen to it."""
        with self._lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.seen.append(method)
            planned = self.faults.get(method)
            if planned:
                return planned.pop(0)
            return self.always.get(method) or self.weather(method, path)

    def answered(self) -> None:
        """Note that the client is about to learn what became of a request."""
        with self._lock:
            self.in_flight -= 1


@contextmanager
def running_proxy(behind: str) -> Iterator[FaultyProxy]:
    """Start a proxy before the server at the URL `behind`; it ends with the block."""
    proxy = FaultyProxy(behind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            fault = proxy.next_fault(self.command, self.path)
            if isinstance(fault, Answer):
                self.answer(fault.status, {}, fault.body)
                return
            if isinstance(fault, LoseRequest):
                proxy.answered()
                self.close_connection = True
                return
            if isinstance(fault, Late):
                time.sleep(fault.seconds)
            # All headers go on as they are: the host is part of what the client signed.
            connection = http.client.HTTPConnection(proxy.behind, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            if isinstance(fault, LoseAnswer):
                fault.then()
                proxy.answered()
                self.close_connection = True
                return
            if isinstance(fault, SpoilAnswer):
                data = bytes(byte ^ 0x5A for byte in data)
            self.answer(answer.status, dict(answer.getheaders()), data, is_cut=isinstance(fault, CutAnswer))

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815 - the names are http.server's

        def answer(self, status: int, headers: dict[str, str], body: bytes, *, is_cut: bool = False) -> None:
            proxy.answered()
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # the client lost its patience
                self.wfile.write(body[: len(body) // 2] if is_cut else body)
            self.close_connection = self.close_connection or is_cut

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # or many who come at once wait for the kernel to try again
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
