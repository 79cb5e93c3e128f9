"""Servers that repeat what they were sent: whatever a client may not show, they put into what they say."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

import httpx

from condvest.demo.faults import Answer
from condvest.demo.http_server import Request, Server
from condvest.demo.standin import StandIn


class EchoingProvider:
    """Stands before a stand-in and adds to each answer the key that came with the request, in every way it can be written.

    `addresses` has each request's path and query; `refuse` is a status for all of them while it is set.
    """

    def __init__(self, behind: StandIn) -> None:
        """Start serving."""
        self.addresses: list[str] = []
        self.refuse: int | None = None
        self._behind = behind
        self._client = httpx.Client()
        self._server = Server(self._respond)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """End it."""
        self._server.stop()
        self._client.close()

    def _respond(self, request: Request) -> Answer:
        self.addresses.append(f"{request.path}?{request.query}")
        sent = request.headers.get("authorization", "")
        key = sent.removeprefix("Bearer ")
        forms = [sent, quote(key, safe=""), base64.b64encode(sent.encode()).decode(), key.replace("/", "\\/")]
        said = {"sent": forms, "message": f"NOT well: {sent}", "error": " ".join(forms)}
        if self.refuse is not None:
            return Answer(self.refuse, json.dumps({"status": "ERROR"} | said).encode(), {"X-Sent": sent})
        address = httpx.URL(self._behind.url).copy_with(raw_path=request.path.encode())
        true = self._client.get(address, params=request.query, headers={"Authorization": sent})
        body = true.json()
        if isinstance(body, dict):
            body |= said
            if "next_url" in body:
                body["next_url"] += f"&apiKey={quote(key, safe='')}&key={quote(key, safe='')}&token={key}"
        return Answer(true.status_code, json.dumps(body).encode(), {"X-Sent": sent})


@contextmanager
def echoing_provider(behind: StandIn) -> Iterator[EchoingProvider]:
    """Run it for the length of a block."""
    made = EchoingProvider(behind)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def unreadable_server() -> Iterator[str]:
    """Run a server whose answers are no HTTP, but repeat the request; give its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    sent = client.recv(65536)
                    key = next(line for line in sent.split(b"\r\n") if line.lower().startswith(b"authorization"))
                    client.sendall(b"HTTP/1.1 200 OK\r\nno header " + key.partition(b":")[2] + b"\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def refusing_server(status: int, body: str) -> Iterator[tuple[str, list[str]]]:
    """Run a server that answers every request of S3 so, and repeats its headers; give its URL and the addresses asked for."""
    addresses: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def refuse(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            addresses.append(unquote(self.path))
            said = body.replace("SENT", " ".join(f"{name}: {value}" for name, value in self.headers.items())).encode()
            self.send_response_only(status)
            self.send_header("content-length", str(len(said)))
            self.send_header("x-sent", self.headers.get("x-amz-security-token", ""))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else said)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = refuse  # noqa: N815 - the names are http.server's

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", addresses
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
