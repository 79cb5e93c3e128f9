"""AWS Batch: moto makes what the template says, and each job's command runs here, under its own role, on an emulated S3."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from aws.batch_jobs import job_definition, session_of
from condvest.storage import layout
from integration.jobs_kit import DAYS, Kit
from servers.aws_tools import fake_program, run_script
from servers.emulator import ROOT, Emulator, running_ministack, running_moto

pytestmark = [pytest.mark.aws]

BUCKET = "test-condvest-datalake"
DAY = DAYS[0]
JOBS = ("consolidate", "resampler", "vacuum")
OTHER_STACKS = ("storage", "network", "database", "functions", "orchestration", "monitoring")


def deploy(moto: Emulator, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the project's one command for the stack of batch.yaml alone, with a stand-in for the container engine.

    The other stacks are skipped: moto knows too little of CloudFormation for them. What they would say is given.
    """
    ec2 = moto.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.42.0.0/20")["Vpc"]["VpcId"]
    group = ec2.create_security_group(VpcId=vpc, GroupName="batch", Description="nothing comes in")["GroupId"]
    role = moto.client("iam").create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    given = {
        "LakeBucket": BUCKET,
        "PublicSubnets": ec2.create_subnet(VpcId=vpc, CidrBlock="10.42.2.0/24")["Subnet"]["SubnetId"],
        "BatchGroup": group,
        # AWS makes the service's role by itself; moto wants to be told.
        "BatchServiceRole": role,
        "StateMachineArn": "arn:aws:states:ca-west-1:123456789012:stateMachine:condvest-daily",
    }
    skipped = [word for name in OTHER_STACKS for word in ("--skip", name)]
    parameters = [word for name, value in given.items() for word in ("--parameter", f"{name}={value}")]
    fake_program(moto.folder / "bin/docker", 'case "$1" in login) cat >/dev/null ;; esac')
    variables = {name: value for name, value in moto.shell_environment().items() if name != "PATH"}
    return run_script(
        "deploy/deploy.sh",
        *("--stage", "test", *skipped, *parameters, *words),
        environment=variables,
        path=moto.folder / "bin",
    )


def pushed(moto: Emulator) -> list[str]:
    """Return the images that the container engine was told to push."""
    calls = (moto.folder / "bin/calls").read_text().splitlines()
    return [call.removeprefix("push ") for call in calls if call.startswith("push ")]


def test_the_jobs_run_the_image_that_was_pushed() -> None:
    """One command deploys: the job definitions name the image of this commit, the one that the registry gets."""
    with running_moto() as moto:
        done = deploy(moto, "--arch", "x86_64")
        assert done.returncode == 0, done.stderr
        jobs = [job_definition(moto, f"condvest-{name}") for name in JOBS]
        (image,) = {job.image for job in jobs}
        assert pushed(moto) == [image, f"{image.rpartition(':')[0]}:latest"]
        assert re.search(r":[0-9a-f]{12}-x86_64(-changed)?$", image)
    for job in jobs:
        assert_tries_again(job.retries)
    assert "deployed, without: storage network database functions orchestration monitoring." in done.stderr
    # The first backfill is told as the runbook has it: without an end, which is then the last session.
    backfill = """--input '{"from": "2020-01-02"}'"""
    assert backfill in done.stderr
    assert backfill in (ROOT / "deploy" / "README.md").read_text()


def fate(rules: list[dict[str, str]], said: dict[str, str]) -> str:
    """Return what AWS Batch does with an attempt that ended so: the first rule that fits it; none, and it is tried again."""
    names = {"onExitCode", "onReason", "onStatusReason"}
    for rule in rules:
        if all(fnmatchcase(said.get(name, ""), pattern) for name, pattern in rule.items() if name in names):
            return rule["action"].upper()
    return "RETRY"


def assert_tries_again(rules: list[dict[str, str]]) -> None:
    """Hold a definition's rules against the exit codes of the command and what Fargate says."""
    assert len(rules) <= 5  # AWS takes no more
    again = [{"onExitCode": "75"}, {"onExitCode": "137"}, {"onReason": "CannotPullContainerError: not found"}]
    again += [{"onStatusReason": "Your Spot Task was interrupted."}, {"onStatusReason": "Host EC2 terminated."}]
    assert [fate(rules, said) for said in again] == ["RETRY"] * 5
    assert [fate(rules, {"onExitCode": code, "onReason": "Error"}) for code in "12"] == ["EXIT"] * 2


def test_each_job_runs_by_its_definition_under_its_role(tmp_path: Path) -> None:
    """Command, variables and rights of the three job definitions are enough for the work, and reach no further."""
    with running_moto() as moto, running_ministack({}) as emulator:
        done = deploy(moto)
        assert done.returncode == 0, done.stderr
        (found,) = moto.client("batch").describe_job_queues(jobQueues=["condvest-test"])["jobQueues"]
        assert (found["state"], len(found["computeEnvironmentOrder"])) == ("ENABLED", 2)
        fill(emulator, tmp_path)
        for name in JOBS:
            run(moto, emulator, name)
        s3 = emulator.client("s3")
        assert s3.get_object(Bucket=BUCKET, Key=layout.data_key("AAPL"))["ContentLength"] > 0
        silver = s3.list_objects_v2(Bucket=BUCKET, Prefix=layout.SILVER)["Contents"]
        assert len(silver) == 6


def fill(emulator: Emulator, folder: Path) -> None:
    """Put the `date=` files of one session of a lake into the bucket."""
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "ca-west-1"})
    with Kit(folder) as kit:
        kit.evening(DAY).fetch(DAY)
        for key, body in kit.files().items():
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)


def run(moto: Emulator, emulator: Emulator, name: str) -> None:
    """Run a job's command as its definition and its role say; a role that allows too little would fail here."""
    job = job_definition(moto, f"condvest-{name}")
    session = session_of(job, emulator, name)
    keys = {
        "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
        "AWS_SESSION_TOKEN": session["SessionToken"],
    }
    done = subprocess.run(
        ["python", "-m", "condvest.aws.batch", *job.command],
        env=emulator.shell_environment() | job.variables | keys,
        cwd=emulator.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    foreign = emulator.client("s3", credentials=session)
    with pytest.raises(foreign.exceptions.ClientError, match="AccessDenied"):
        foreign.delete_object(Bucket=BUCKET, Key="bronze/landing/grouped/x")
