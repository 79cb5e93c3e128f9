"""Emulated AWS on loopback, for tests: ministack (it runs the functions for real) and moto (it knows AWS Batch).

Both programs live in `.venv-aws`, which `make .venv-aws/.ready` fills. ministack checks who may do what: a function's calls are
signed with its role, and what the role's policies or a bucket's policy do not allow is refused. It speaks TLS, because the
lake's bucket refuses everything else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx

ROOT = Path(__file__).parents[2]
REGION = "ca-west-1"
_BIN = ROOT / ".venv-aws" / "bin"
_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0
# A waiting state and the pause before a retry take a hundredth of their time.
_WAIT_SCALE = "0.01"


@dataclass(frozen=True)
class Emulator:
    """Where an emulator listens, and how a client gets in."""

    endpoint_url: str
    folder: Path
    """Its own folder, gone when it ends; a test may put files there."""
    ca_file: Path | None = None

    def environment(self) -> dict[str, str]:
        """Return the variables by which the AWS CLI, boto3 and obstore find the emulator and are let in as its owner."""
        found = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
        }
        trust = {} if self.ca_file is None else {"AWS_CA_BUNDLE": str(self.ca_file), "SSL_CERT_FILE": str(self.ca_file)}
        return found | trust

    def shell_environment(self) -> dict[str, str]:
        """Return what a script of the project needs: the variables above, and a PATH with the AWS CLI and Python."""
        path = os.pathsep.join([str(Path(sys.executable).parent), str(_BIN), "/usr/bin", "/bin"])
        return self.environment() | {"PATH": path, "HOME": str(self.folder), "TMPDIR": str(self.folder)}

    def client(self, service: str, *, credentials: Mapping[str, str] | None = None) -> Any:
        """Return a boto3 client of a service; `credentials` as STS gives them, else those of the emulator's owner."""
        given = credentials or {"AccessKeyId": "test", "SecretAccessKey": "test"}
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given.get("SessionToken"),
            verify=str(self.ca_file) if self.ca_file else None,
        )


@contextmanager
def running_ministack(mocked_states: Mapping[str, Mapping[str, object]]) -> Iterator[Emulator]:
    """Start ministack with nothing in it; it is ready for requests (in about 2 s) and ends with the block.

    `mocked_states`: by state machine and state, the result of a state that is not to be run. Only executions that are
    started by `<ARN>#mocked` take it.
    """
    with _private_folder() as folder:
        port = _free_port()
        server = Emulator(f"https://127.0.0.1:{port}", folder, _make_certificates(folder))
        (folder / "mocks.json").write_text(json.dumps(_mock_config(mocked_states)))
        with _running([str(_program("ministack"))], _ministack_environment(server, port), folder) as process:
            _await(process, folder, f"{server.endpoint_url}/_ministack/ready", server.ca_file)
            yield server


@contextmanager
def running_moto() -> Iterator[Emulator]:
    """Start moto's server with nothing in it; it ends with the block."""
    with _private_folder() as folder:
        port = _free_port()
        server = Emulator(f"http://127.0.0.1:{port}", folder)
        command = [str(_program("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
        with _running(command, server.shell_environment(), folder) as process:
            _await(process, folder, f"{server.endpoint_url}/moto-api/", None)
            yield server


def _program(name: str) -> Path:
    program = _BIN / name
    if not program.exists():
        raise RuntimeError(f"{program} is not there: run `make .venv-aws/.ready`")
    return program


def _ministack_environment(server: Emulator, port: int) -> dict[str, str]:
    """Return the server's variables. Functions inherit them, so their `python3` is this environment's."""
    folder = server.folder
    return server.shell_environment() | {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # else it listens on all interfaces
        "MINISTACK_REGION": REGION,
        "MINISTACK_SSL_CERT": str(folder / "server.pem"),
        "MINISTACK_SSL_KEY": str(folder / "server.key"),
        "S3_DATA_DIR": str(folder / "s3"),
        "SFN_MOCK_CONFIG": str(folder / "mocks.json"),
        "SFN_WAIT_SCALE": _WAIT_SCALE,
        "SFTP_ENABLED": "0",
        "STATE_DIR": str(folder / "state"),
        "USE_SSL": "1",
    }


def _mock_config(mocked: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """Return the mocked results in the format of Step Functions Local; each may be taken up to a thousand times."""
    return {
        "StateMachines": {
            machine: {"TestCases": {"mocked": {state: f"{machine} {state}" for state in states}}}
            for machine, states in mocked.items()
        },
        "MockedResponses": {
            f"{machine} {state}": {"0-999": {"Return": result}}
            for machine, states in mocked.items()
            for state, result in states.items()
        },
    }


def _make_certificates(folder: Path) -> Path:
    """Write a certificate for the server, made by an authority of its own; return that authority's certificate."""
    command = [str(_program("python")), "-m", "trustme", "--quiet", "--dir", str(folder), "--identities", "127.0.0.1"]
    subprocess.run(command, check=True)
    return folder / "client.pem"


@contextmanager
def _private_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="condvest-aws-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a session of its own, so that the processes of its functions can be ended with it."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _end_session(process.pid)


def _end_session(leader: int) -> None:
    """Kill what a server left behind: the session has its process id as long as one member lives."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # nobody is left, as it should be


def _await(process: subprocess.Popen[bytes], folder: Path, url: str, ca_file: Path | None) -> None:
    verify = ssl.create_default_context(cafile=ca_file) if ca_file else False
    end = time.monotonic() + _READY_SECONDS
    with httpx.Client(verify=verify, trust_env=False) as client:
        while time.monotonic() < end and process.poll() is None:
            try:
                if client.get(url).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    log = (folder / "log").read_text(errors="replace")
    raise RuntimeError(f"{Path(str(process.args[0])).name} did not start:\n{log[-3000:]}")  # type: ignore[index]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
