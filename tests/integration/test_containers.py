"""The image of the Batch jobs and the servers for local work. The container engine is stood in for: its words are looked at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from integration.jobs_kit import DAYS, Kit
from servers.aws_tools import ROOT, fake_program, run_script
from servers.emulator import running_moto


def test_a_dry_run_says_what_would_be_done(tmp_path: Path) -> None:
    """Build, log in, push: said, not done; the engine is not even asked."""
    fake_program(tmp_path / "bin/podman", "exit 1")
    done = run_script(
        "deploy/batch/build_image.sh",
        "--dry-run",
        "--arch",
        "x86_64",
        environment={"CONTAINER_TOOL": "podman", "AWS_REGION": "eu-north-1"},
        path=tmp_path / "bin",
    )
    image = done.stdout.strip()
    assert re.fullmatch(
        r"ACCOUNT\.dkr\.ecr\.eu-north-1\.amazonaws\.com/condvest-batch-resampler:[0-9a-f]{12}-x86_64(-changed)?", image
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("+ ")]
    assert said[0].startswith("+ podman build --platform linux/amd64 ")
    assert said[1].endswith("| podman login --username AWS --password-stdin ACCOUNT.dkr.ecr.eu-north-1.amazonaws.com")
    assert said[2:] == [f"+ podman push {image}", f"+ podman push {image.partition(':')[0]}:latest"]
    assert not (tmp_path / "bin/calls").exists()


@pytest.mark.parametrize(
    ("tool", "message"),
    [("docker", "docker has no engine to talk to"), ("buildah", "CONTAINER_TOOL is buildah")],
)
def test_without_an_engine_no_image_is_built(tool: str, message: str, tmp_path: Path) -> None:
    """A client without its engine is told apart from a build that failed."""
    fake_program(tmp_path / "bin/docker", "exit 1")
    done = run_script("deploy/batch/build_image.sh", environment={"CONTAINER_TOOL": tool}, path=tmp_path / "bin")
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.aws
def test_an_image_is_pushed_by_commit_and_as_latest(tmp_path: Path) -> None:
    """The registry is the account's own, and its password goes to the engine by stdin alone."""
    fake_program(tmp_path / "bin/docker", 'case "$1" in login) cat >"$0.stdin" ;; esac')
    with running_moto() as moto:
        address = moto.client("ecr").create_repository(repositoryName="condvest-batch-resampler")["repository"]
        variables = {name: value for name, value in moto.shell_environment().items() if name != "PATH"}
        done = run_script("deploy/batch/build_image.sh", environment=variables, path=tmp_path / "bin")
    image = done.stdout.strip()
    assert image.startswith(f"{address['repositoryUri']}:"), done.stderr
    assert (tmp_path / "bin/docker.stdin").read_text().strip()
    calls = (tmp_path / "bin/calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["info", "build", "login", "push", "push"]
    assert calls[3:] == [f"push {image}", f"push {address['repositoryUri']}:latest"]


def test_the_local_resampler_builds_silver(tmp_path: Path) -> None:
    """It takes the lake of the environment and passes options through; a second run has nothing to do."""
    with Kit(tmp_path) as kit:
        kit.evening(DAYS[0]).fetch(DAYS[0])
        kit.consolidate()
        variables = {"LAKE_URL": str(tmp_path / "lake"), "CONDVEST_NOW": kit.now.isoformat()}
    done = run_script("local_dev/local_resampler.sh", "--intervals", "3", environment=variables)
    assert done.returncode == 0, done.stderr
    assert list(Path(tmp_path).rglob("data_3d_*.parquet"))
    wrong = run_script("local_dev/local_resampler.sh", "--interval", "3", environment=variables)
    assert wrong.returncode == 2


def test_local_servers_listen_on_this_machine_alone() -> None:
    """Every published port names the loopback address, and every image a version."""
    text = (ROOT / "local_dev/docker-compose.yml").read_text()
    ports = re.findall(r"ports:\n\s+- \"([^\"]+)\"", text)
    assert ports == ["127.0.0.1:5432:5432", "127.0.0.1:8333:8333"]
    assert all(re.search(r":\d", image) for image in re.findall(r"image: (\S+)", text))
