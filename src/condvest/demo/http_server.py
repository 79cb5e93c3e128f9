"""The HTTP side of the stand-in provider: keep-alive connections on loopback, one thread each, answers in one write."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from condvest.demo.faults import Answer


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in. `path` is as sent (still percent-encoded), header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)  # they hold the key


Respond = Callable[[Request], Answer]


class Server(ThreadingHTTPServer):
    """A server on a free port of 127.0.0.1, running from the moment it is made until `stop`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, respond: Respond) -> None:
        """Start serving; `respond` is called from many threads at once."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond = respond
        self.crashes: list[BaseException] = []
        self._open: set[socket.socket] = set()
        self._to_reset: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._accepting = threading.Thread(target=self.serve_forever, args=(0.02,), name="stand-in", daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Take no more connections, end those that are open, and return when they are closed."""
        self.shutdown()
        self._accepting.join()
        self.server_close()
        with self._changed:
            for connection in self._open:
                _shut(connection)
            self._changed.wait_for(lambda: not self._open, timeout=5)

    def reset(self, connection: socket.socket) -> None:
        """Have a connection end with a reset when its handler returns."""
        self._to_reset.add(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, then hand it to a thread."""
        with self._changed:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, politely or, if asked for, with a reset."""
        if request in self._to_reset:
            self._to_reset.discard(request)
            # Closed at once with nothing sent: the other end sees ECONNRESET, not an end of file.
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def close_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        with self._changed:
            self._open.discard(request)
            super().close_request(request)
            self._changed.notify_all()

    def handle_error(self, *_: object) -> None:
        """Keep a defect of the stand-in itself for whoever runs it; a client that hangs up is none."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.crashes.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        answer = self.server.respond(Request(self.command, parts.path, query, headers))
        if answer.sent == "reset":
            self.server.reset(self.connection)
            self.close_connection = True
            return
        head = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        told = {"Content-Type": "application/json", "Content-Length": str(len(answer.body))} | dict(answer.headers)
        head += [f"{name}: {value}" for name, value in told.items()]
        body = answer.body
        if answer.sent == "half":
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1") + body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the requests are kept as a list."""


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster
