"""A proxy on loopback before a real server, for tests: it loses requests or answers, or answers by itself."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


Fault = Answer | LoseRequest | LoseAnswer | None


class FaultyProxy:
    """What goes wrong, by the request's method: each fault hits one request, in order; None lets one pass."""

    def __init__(self, behind: str) -> None:
        """Stand before the server at this URL, letting everything pass at first."""
        self.behind = urlsplit(behind).netloc
        self.url = ""
        self.faults: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.seen: list[str] = []
        self._lock = threading.Lock()

    def next_fault(self, method: str) -> Fault:
        """Note a request and return what is to happen to it."""
        with self._lock:
            self.seen.append(method)
            planned = self.faults.get(method)
            return planned.pop(0) if planned else self.always.get(method)


@contextmanager
def running_proxy(behind: str) -> Iterator[FaultyProxy]:
    """Start a proxy before the server at the URL `behind`; it ends with the block."""
    proxy = FaultyProxy(behind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            fault = proxy.next_fault(self.command)
            if isinstance(fault, Answer):
                self.answer(fault.status, {}, fault.body)
                return
            if isinstance(fault, LoseRequest):
                self.close_connection = True
                return
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
                self.close_connection = True
                return
            self.answer(answer.status, dict(answer.getheaders()), data)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815 - the names are http.server's

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
