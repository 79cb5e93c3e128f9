"""AWS Batch: moto makes what the template says, and each job's command runs here, under its own role, on an emulated S3."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aws.batch_jobs import job_definition, session_of
from condvest.storage import layout
from integration.jobs_kit import DAYS, Kit
from servers.emulator import ROOT, Emulator, running_ministack, running_moto

pytestmark = [pytest.mark.aws, pytest.mark.timeout(240)]

BUCKET = "test-condvest-datalake"
DAY = DAYS[0]


def deploy(moto: Emulator) -> None:
    """Create the stack of batch.yaml beside a network; moto knows too little of CloudFormation for that of network.yaml."""
    ec2 = moto.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.42.0.0/20")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.42.2.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(VpcId=vpc, GroupName="batch", Description="nothing comes in")["GroupId"]
    given = {"Stage": "test", "LakeBucket": BUCKET, "PublicSubnets": subnet, "BatchGroup": group}
    role = moto.client("iam").create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    template = (ROOT / "deploy" / "stack" / "batch.yaml").read_text()
    moto.client("cloudformation").create_stack(
        StackName="test-condvest-batch",
        # AWS makes the service's role by itself; moto wants to be told.
        TemplateBody=template.replace("      Type: MANAGED\n", f"      Type: MANAGED\n      ServiceRole: {role}\n"),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )


def test_each_job_runs_by_its_definition_under_its_role(tmp_path: Path) -> None:
    """Command, variables and rights of the three job definitions are enough for the work, and reach no further."""
    with running_moto() as moto, running_ministack({}) as emulator:
        deploy(moto)
        (found,) = moto.client("batch").describe_job_queues(jobQueues=["condvest-test"])["jobQueues"]
        assert (found["state"], len(found["computeEnvironmentOrder"])) == ("ENABLED", 2)
        fill(emulator, tmp_path)
        for name in ("consolidate", "resampler", "vacuum"):
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
