"""TLS for tests: certificates made on the spot with `openssl`, and a front that speaks TLS before a plain server."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # how a client of PostgreSQL asks for TLS, before anything else
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, both PEM files."""

    pem: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    """A CA that signed `here` (127.0.0.1, localhost) and `elsewhere` (another host), and a CA that signed nothing."""

    ca: Path
    other_ca: Path
    here: Certificate
    elsewhere: Certificate


def make_certificates(folder: Path) -> Certificates:
    """Make all in a folder; they hold for two days. RuntimeError: there is no `openssl`."""
    if shutil.which("openssl") is None:
        raise RuntimeError("the tests of TLS need the program openssl; install it (Debian: apt-get install openssl)")
    ca, other = _authority(folder, "ca"), _authority(folder, "other")
    here = _signed(folder, "here", "IP:127.0.0.1,DNS:localhost", ca)
    return Certificates(ca.pem, other.pem, here, _signed(folder, "elsewhere", "DNS:elsewhere.example", ca))


def _authority(folder: Path, name: str) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    extensions = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    _openssl("req", "-x509", "-days", "2", "-subj", f"/CN={name}", *_NEW_KEY, *extensions, *_to(made))
    return made


def _signed(folder: Path, name: str, names: str, ca: Certificate) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
    _openssl("req", "-new", "-subj", f"/CN={name}", *_NEW_KEY, "-keyout", str(made.key), "-out", str(request))
    signing = ("-CA", str(ca.pem), "-CAkey", str(ca.key), "-CAcreateserial", "-extfile", str(extensions))
    _openssl("x509", "-req", "-days", "2", "-in", str(request), *signing, "-out", str(made.pem))
    return made


def _to(made: Certificate) -> tuple[str, ...]:
    return ("-keyout", str(made.key), "-out", str(made.pem))


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


class Front:
    """What a client meets: TLS with a certificate, and behind it a plain server on this machine.

    `greeted` counts connections, `let_through` those whose client accepted the certificate.
    """

    def __init__(self, behind_port: int, certificate: Certificate, *, asks_first: bool) -> None:
        """Listen on a free port of 127.0.0.1; `asks_first`: clients ask for TLS as PostgreSQL's do."""
        self.greeted = self.let_through = 0
        self._behind = ("127.0.0.1", behind_port)
        self._asks_first = asks_first
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.pem, certificate.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.greeted += 1
        with client, suppress(OSError):  # a client that refuses the certificate hangs up
            if self._asks_first:
                if client.recv(8) != _SSL_REQUEST:
                    return  # in clear: this server does not answer
                client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as secure,
                socket.create_connection(self._behind) as plain,
            ):
                self.let_through += 1
                back = threading.Thread(target=_pump, args=(plain, secure), daemon=True)
                back.start()
                _pump(secure, plain)
                back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_front(behind_port: int, certificate: Certificate, *, asks_first: bool = False) -> Iterator[Front]:
    """Start a front before the plain server on a port; it ends with the block."""
    front = Front(behind_port, certificate, asks_first=asks_first)
    try:
        yield front
    finally:
        front.close()
