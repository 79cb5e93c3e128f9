"""The scripts that build and deploy the functions, run as a person runs them."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from servers.aws_tools import ROOT, fake_program, run_script
from servers.emulator import running_moto

FUNCTIONS = ("daily-ohlcv-fetcher", "daily-meta-fetcher", "consolidate-bronze-daily", "record-session")
HANDLERS = ("daily_ohlcv_fetcher", "daily_meta_fetcher", "consolidate_bronze", "record_session")
MIB = 1024 * 1024
# What is no part of the layer cannot be imported: None in sys.modules says so.
_IMPORT_HANDLERS = f"""
import importlib, sys
sys.modules.update(dict.fromkeys(["boto3", "duckdb", "numpy", "pandas", "rich", "typer"]))
for name in {HANDLERS}:
    importlib.import_module("condvest.aws." + name)
import alembic.command, condvest.sources.polygon, condvest.state.schema, pyarrow.parquet
print(condvest.__file__)
"""


# --- packages


def test_packages_are_reproducible(tmp_path: Path) -> None:
    """The same sources give the same bytes: whenever, wherever and under whatever umask they are zipped."""
    first = run_script("deploy/lambda/build_packages.sh", "--out", str(tmp_path / "one"))
    assert first.returncode == 0, first.stderr
    os.utime(ROOT / "src/condvest/aws/__init__.py")
    umask = os.umask(0o077)
    try:
        run_script(
            "deploy/lambda/build_packages.sh", "--out", str(tmp_path / "two"), environment={"TZ": "Asia/Kathmandu"}
        )
    finally:
        os.umask(umask)
    for name in FUNCTIONS:
        one, two = ((tmp_path / place / f"{name}.zip").read_bytes() for place in ("one", "two"))
        assert one == two
    assert {path.stem for path in (tmp_path / "one").iterdir()} == set(FUNCTIONS)


def test_a_package_holds_what_the_handlers_load(tmp_path: Path) -> None:
    """Unpacked beside the libraries alone, each handler can be imported without what the layer lacks."""
    run_script("deploy/lambda/build_packages.sh", "--out", str(tmp_path), "--bootstrap")
    task = tmp_path / "task"
    with zipfile.ZipFile(tmp_path / "record-session.zip") as archive:
        names = archive.namelist()
        assert (archive.getinfo("bootstrap").external_attr >> 16) & 0o777 == 0o755
        archive.extractall(task)
    assert not [name for name in names if re.search(r"\.pyc$|/(cli|demo|analytics)/", name)]
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_HANDLERS],
        env=os.environ | {"PYTHONPATH": str(task)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [str(task / "condvest/__init__.py")], done.stderr


def test_the_bootstrap_starts_the_interface_client(tmp_path: Path) -> None:
    """It runs the handler with the Python that CONDVEST_PYTHON names, and hides that from condvest's settings."""
    fake_program(tmp_path / "bin/python", 'echo "${CONDVEST_PYTHON:-hidden} $PWD"')
    done = run_script(
        "deploy/lambda/bootstrap",
        environment={
            "_HANDLER": "condvest.aws.record_session.lambda_handler",
            "CONDVEST_PYTHON": str(tmp_path / "bin/python"),
            "LAMBDA_TASK_ROOT": str(tmp_path),
        },
    )
    assert done.stdout.split() == ["hidden", str(tmp_path)]
    assert (tmp_path / "bin/calls").read_text() == "-m awslambdaric condvest.aws.record_session.lambda_handler\n"


# --- layer


@pytest.fixture
def small_layer(tmp_path: Path) -> dict[str, str]:
    """Requirements of one made wheel of 2 MiB, and the variables that let pip find nothing but that."""
    wheel = tmp_path / "wheels/small-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("small/__init__.py", "")
        archive.writestr("small/big.bin", bytes(2 * MIB))
        for unused in ("small/tests/test_it.py", "small/fast.pyx", "small/fast.h"):
            archive.writestr(unused, "")
        archive.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        archive.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("small-1.0.dist-info/entry_points.txt", "[console_scripts]\nsmall = small:main\n")
        archive.writestr("small-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (tmp_path / "requirements.txt").write_text(f"small==1.0 --hash=sha256:{digest}\n")
    (tmp_path / "changed.txt").write_text(f"small==1.0 --hash=sha256:{'0' * 64}\n")
    return {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}


def build_small(folder: Path, out: str, pip: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Build the small layer into a folder."""
    options = ["--out", str(folder / out), "--requirements", str(folder / "requirements.txt"), *words]
    return run_script("deploy/lambda/build_layer.sh", *options, environment=pip)


def test_a_layer_is_reproducible_and_its_size_is_told(tmp_path: Path, small_layer: dict[str, str]) -> None:
    """Twice the same bytes; without tests, sources of extensions, programs and notes of the installation."""
    first = build_small(tmp_path, "one", small_layer, "--python", "3.99")
    again = build_small(tmp_path, "two", small_layer, "--python", "3.99")
    assert first.returncode == again.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    layer = tmp_path / "one/layer-arm64.zip"
    assert layer.read_bytes() == (tmp_path / "two/layer-arm64.zip").read_bytes()
    assert re.fullmatch(
        r"layer-arm64\.zip arm64 unzipped: layer 2\.0 MiB \+ largest function [a-z-]+ \(\d\.\d MiB\) = \d\.\d MiB of 250 MiB\n",
        first.stdout,
    ), first.stdout
    assert zipfile.ZipFile(layer).namelist() == [
        "python/small-1.0.dist-info/METADATA",
        "python/small-1.0.dist-info/WHEEL",
        "python/small-1.0.dist-info/entry_points.txt",
        "python/small/__init__.py",
        "python/small/big.bin",
    ]


def test_a_layer_has_byte_code_where_its_python_is_there(tmp_path: Path, small_layer: dict[str, str]) -> None:
    """A cold start need not compile; the byte code names no path and no time, so the same Python gives the same bytes."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("one", "two"):
        done = build_small(tmp_path, name, small_layer, "--python", version)
        assert done.returncode == 0, done.stderr
    layer = tmp_path / "one/layer-arm64.zip"
    assert layer.read_bytes() == (tmp_path / "two/layer-arm64.zip").read_bytes()
    compiled = [name for name in zipfile.ZipFile(layer).namelist() if name.endswith(".pyc")]
    assert len(compiled) == 1
    assert str(tmp_path).encode() not in zipfile.ZipFile(layer).read(compiled[0])


def test_a_layer_above_the_limit_is_refused(tmp_path: Path, small_layer: dict[str, str]) -> None:
    """The size is told, the build fails, and no zip is left that could be deployed."""
    done = build_small(tmp_path, "out", small_layer | {"LAYER_LIMIT_MIB": "1"})
    assert done.returncode == 1
    assert "of 1 MiB" in done.stdout
    assert "above the limit of 1 MiB" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_wheel_that_changed_is_refused(tmp_path: Path, small_layer: dict[str, str]) -> None:
    """The hash in the requirements decides what goes into the layer."""
    options = ("--out", str(tmp_path / "out"), "--requirements", str(tmp_path / "changed.txt"))
    done = run_script("deploy/lambda/build_layer.sh", *options, environment=small_layer)
    assert done.returncode != 0
    assert "hash" in done.stderr.lower()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.aws
@pytest.mark.parametrize(("arch", "machine"), [("arm64", "aarch64"), ("x86_64", "x86_64")])
def test_the_real_layer(arch: str, machine: str, tmp_path: Path) -> None:
    """Both architectures stay below Lambda's limit; this machine's is enough to import every handler (downloads wheels)."""
    native = sys.platform == "linux" and platform.machine() == machine
    version = f"3.{sys.version_info.minor}" if native else "3.12"
    done = run_script("deploy/lambda/build_layer.sh", "--arch", arch, "--python", version, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    total = re.search(r"= ([\d.]+) MiB of 250 MiB", done.stdout)
    assert total is not None
    assert 100 < float(total[1]) < 250
    if native:
        run_script("deploy/lambda/build_packages.sh", "--out", str(tmp_path))
        for name in (f"layer-{arch}", "record-session"):
            with zipfile.ZipFile(tmp_path / f"{name}.zip") as archive:
                archive.extractall(tmp_path / name)
        path = os.pathsep.join([str(tmp_path / f"layer-{arch}/python"), str(tmp_path / "record-session")])
        # -S: without this environment's own libraries.
        found = subprocess.run(
            [sys.executable, "-S", "-c", _IMPORT_HANDLERS], env={"PYTHONPATH": path}, capture_output=True, text=True
        )
        assert found.stdout.splitlines() == [str(tmp_path / "record-session/condvest/__init__.py")], found.stderr


# --- functions


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "which function?"),
        (("daily-fetcher",), "there is no function daily-fetcher"),
        (("record",), "there is no function record"),
        (("record-session", "daily-meta-fetcher"), "one function at a time"),
        (("--all",), "unknown option: --all"),
    ],
)
def test_a_wrong_name_is_refused(words: tuple[str, ...], message: str) -> None:
    """Before anything is built or asked, and with the names that there are."""
    done = run_script("deploy/lambda/deploy_lambda.sh", *words)
    assert done.returncode == 1
    assert message in done.stderr
    if "there is no" in message:
        assert " ".join(FUNCTIONS) in done.stderr


@pytest.mark.aws
def test_a_function_gets_the_present_code(tmp_path: Path) -> None:
    """Code is updated and published, and the version printed; the stack's settings stay."""
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        archive.writestr("old.py", "")
    with running_moto() as moto:
        functions = moto.client("lambda")
        functions.create_function(
            FunctionName="record-session",
            Runtime="python3.12",
            Role=moto.client("iam").create_role(RoleName="any", AssumeRolePolicyDocument="{}")["Role"]["Arn"],
            Handler="condvest.aws.record_session.lambda_handler",
            Code={"ZipFile": (tmp_path / "old.zip").read_bytes()},
            Timeout=77,
        )
        done = run_script("deploy/lambda/deploy_lambda.sh", "record-session", environment=moto.shell_environment())
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
        found = functions.get_function_configuration(FunctionName="record-session", Qualifier="1")
    run_script("deploy/lambda/build_packages.sh", "--out", str(tmp_path))
    digest = hashlib.sha256((tmp_path / "record-session.zip").read_bytes()).digest()
    assert (found["CodeSha256"], found["Timeout"]) == (base64.b64encode(digest).decode(), 77)


# --- all of it

_NO_STACK = (
    "An error occurred (ValidationError) when calling the DescribeStacks operation: Stack with id x does not exist"
)
_THROTTLED = "An error occurred (Throttling) when calling the DescribeStacks operation: Rate exceeded"


def deploy(folder: Path, *skipped: str, described: str) -> subprocess.CompletedProcess[str]:
    """Deploy with an AWS CLI that takes every stack and gives this error when one is looked up."""
    fake_program(
        folder / "bin/aws",
        f'case "$1 $2" in "sts "*) echo 123456789012 ;; *" describe-stacks") echo "{described}" >&2; exit 254 ;; esac',
    )
    words = [word for name in skipped for word in ("--skip", name)]
    return run_script("deploy/deploy.sh", *words, path=folder / "bin")


def test_what_needs_a_skipped_stack_is_left_out_by_name(tmp_path: Path) -> None:
    """Whoever skips one stack skips those that need it too, and reads at the end which are not there."""
    done = deploy(tmp_path, "network", "functions", "batch", described=_NO_STACK)
    assert done.returncode == 0, done.stderr
    assert "leaving out the stack database: it needs the parameter PrivateSubnets of network" in done.stderr
    assert "deployed, without: network functions batch database orchestration monitoring." in done.stderr
    assert [call.split()[3] for call in calls(tmp_path, "cloudformation deploy")] == ["dev-condvest-storage"]


def test_a_deployment_that_lacks_something_is_no_success(tmp_path: Path) -> None:
    """Nobody skipped the storage; that it says nothing of its bucket ends the deployment, and the bucket is named."""
    done = deploy(tmp_path, "functions", "batch", described=_NO_STACK)
    assert done.returncode == 1
    assert "the stack network needs the parameter LakeBucket, and nothing says what it is" in done.stderr
    assert "deployed" not in done.stderr.replace("deploying", "")


@pytest.mark.parametrize(
    ("given", "told"), [(".*=1", "it must be NAME=VALUE"), ("LakeBucke=1", "has a parameter LakeBucke")]
)
def test_a_parameter_that_no_template_has_is_refused(tmp_path: Path, given: str, told: str) -> None:
    """A slip in its name would leave the default in force."""
    done = run_script("deploy/deploy.sh", "--parameter", given, path=tmp_path)
    assert done.returncode == 1
    assert told in done.stderr


def test_an_error_of_aws_is_not_taken_for_an_absent_stack(tmp_path: Path) -> None:
    """Throttling and denied access end the deployment with AWS's own words, before anything is changed."""
    done = deploy(tmp_path, "functions", "batch", described=_THROTTLED)
    assert done.returncode == 1
    assert "Rate exceeded" in done.stderr
    assert calls(tmp_path, "cloudformation deploy") == []


def test_no_way_to_the_database_is_offered_that_lacks_a_certificate() -> None:
    """A mode that verifies the server connects to none where no CA is named, and the functions have no file with one."""
    template = (ROOT / "deploy/stack/functions.yaml").read_text(encoding="utf-8")
    parameter = template.partition("\n  RdsSslMode:\n")[2].partition("Description:")[0]
    assert "AllowedValues: [require" in parameter
    assert "verify" not in parameter
    assert "RDS_CA_FILE:" not in template


def calls(folder: Path, beginning: str) -> list[str]:
    """Return the calls of the AWS CLI that begin so."""
    return [line for line in (folder / "bin/calls").read_text().splitlines() if line.startswith(beginning)]
