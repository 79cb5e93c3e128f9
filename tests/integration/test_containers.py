"""The image of the Batch jobs and the servers for local work. The container engine is stood in for: its words are looked at."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from integration.jobs_kit import DAYS, Kit
from servers.aws_tools import ROOT, aws_tool, fake_program, run_script
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


def test_one_tag_names_one_image(tmp_path: Path) -> None:
    """Whoever deploys asks for the tag first and gives it to the build, so that a commit in between changes nothing."""
    fake_program(tmp_path / "bin/docker", "exit 1")
    tag = run_script("deploy/batch/build_image.sh", "--arch", "x86_64", "--print-tag", path=tmp_path / "bin").stdout
    assert re.fullmatch(r"[0-9a-f]{12}-x86_64(-changed)?\n", tag)
    done = run_script("deploy/batch/build_image.sh", "--dry-run", "--tag", "0123456789ab-arm64", path=tmp_path / "bin")
    assert done.stdout.endswith("/condvest-batch-resampler:0123456789ab-arm64\n"), done.stderr
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


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """Return docker-compose.yml as the program reads it, without what its comments say."""
    command = [
        str(aws_tool("python")),
        "-c",
        "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)",
    ]
    text = (ROOT / "local_dev/docker-compose.yml").read_text()
    found: dict[str, Any] = json.loads(
        subprocess.run(command, input=text, capture_output=True, check=True, text=True).stdout
    )
    return found


@pytest.mark.aws
def test_local_servers_listen_on_this_machine_alone(compose: dict[str, Any]) -> None:
    """Every published port names the loopback address, every image a version, and nobody waits for a server in vain."""
    services = compose["services"]
    assert [service["ports"] for service in services.values()] == [["127.0.0.1:5432:5432"], ["127.0.0.1:8333:8333"]]
    for service in services.values():
        assert re.search(r":\d+(\.\d+)*$", service["image"])
        assert service["healthcheck"]["retries"] >= 10
        assert not {"privileged", "network_mode", "pid"} & service.keys()


@pytest.mark.aws
def test_local_data_outlive_the_servers(compose: dict[str, Any]) -> None:
    """Each server keeps its data in a volume of the file, and its settings in the file itself: no folder of the machine."""
    mounts = [mount.split(":")[0] for service in compose["services"].values() for mount in service["volumes"]]
    assert sorted(mounts) == sorted(compose["volumes"]) == ["postgres", "s3"]
    named = [config["source"] for service in compose["services"].values() for config in service.get("configs", ())]
    assert named == list(compose["configs"])


@pytest.mark.aws
def test_local_servers_let_in_what_the_docs_say(compose: dict[str, Any]) -> None:
    """The variables at the head of the file, and those of the local resampler, are the servers' own."""
    head = (ROOT / "local_dev/docker-compose.yml").read_text().split("name: condvest")[0]
    told = dict(re.findall(r"([A-Z_]+)=(\S+)", head))
    services = compose["services"]
    database = services["postgres"]["environment"]
    assert [told[f"RDS_{name}"] for name in ("DATABASE", "USER", "PASSWORD")] == [
        database[f"POSTGRES_{name}"] for name in ("DB", "USER", "PASSWORD")
    ]
    (identity,) = json.loads(compose["configs"]["s3-identities"]["content"])["identities"]
    assert identity["credentials"] == [
        {"accessKey": told["AWS_ACCESS_KEY_ID"], "secretKey": told["AWS_SECRET_ACCESS_KEY"]}
    ]
    assert told["AWS_ENDPOINT_URL"] == f"http://{services['s3']['ports'][0].rpartition(':')[0]}"
    script = (ROOT / "local_dev/local_resampler.sh").read_text()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "LAKE_URL"):
        assert f"{name}={told[name]}" in script


# --- what the image installs


def pins(path: str) -> dict[str, list[str]]:
    """Return the hashes of each pinned requirement of a file; ValueError for a line that is something else."""
    found: dict[str, list[str]] = {}
    for entry in (ROOT / path).read_text().replace("\\\n", " ").splitlines():
        if entry.strip() and not entry.lstrip().startswith("#"):
            pin = re.fullmatch(
                r"([a-z0-9-]+)==(\S+)(?: ;[^-]*)?((?: +--hash=sha256:[0-9a-f]{64})+)", entry.split(" #")[0].rstrip()
            )
            if pin is None:
                raise ValueError(f"{path}: {entry!r} is no pin with hashes")
            found[f"{pin[1]}=={pin[2]}"] = pin[3].split()
    return found


def test_the_image_has_what_the_functions_have_and_numpy() -> None:
    """Every requirement is pinned with hashes, to the version that the tests run with; none is left out or added."""
    image, layer = pins("deploy/batch/requirements.txt"), pins("deploy/lambda/layer_requirements.txt")
    assert layer.items() < image.items()
    (more,) = image.keys() - layer.keys()
    assert more.startswith("numpy==")
    assert image.keys() < pins("requirements/dev.lock").keys()


# What is no part of the image cannot be imported: None in sys.modules says so.
_JOBS = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import condvest.storage.objects, condvest.state, psycopg
from condvest.aws import batch
codes = [batch.main([job]) for job in ("consolidate", "resampler", "vacuum")]
print("ended with", codes)
"""


def test_the_image_lacks_nothing_that_its_jobs_need(tmp_path: Path) -> None:
    """With its requirements alone all three jobs run, and the clients of S3 and PostgreSQL can be imported."""
    has = {pin.partition("==")[0] for pin in pins("deploy/batch/requirements.txt")} | {"condvest"}
    givers = {
        name: {giver.lower().replace("_", "-") for giver in found} for name, found in packages_distributions().items()
    }
    absent = [name for name, found in givers.items() if not found & has]
    assert {"boto3", "duckdb", "typer"} <= set(absent)
    with Kit(tmp_path) as kit:
        kit.evening(DAYS[0]).fetch(DAYS[0])
        variables = {"LAKE_URL": str(tmp_path / "lake"), "CONDVEST_NOW": kit.now.isoformat()}
    done = subprocess.run(
        [sys.executable, "-c", _JOBS, *absent], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["ended with [0, 0, 0]"], done.stderr
    assert list(tmp_path.rglob("data_3d_*.parquet"))
