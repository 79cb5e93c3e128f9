"""AWS Batch in two halves: moto knows the resources, and a job's command runs here as a process under its own role."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from typing import Any

from servers.emulator import Emulator


@dataclass(frozen=True)
class Job:
    """What a job definition says: image, the words after its entry point, variables, retries, and what its role may do."""

    image: str
    command: list[str]
    variables: dict[str, str]
    retries: list[dict[str, str]]
    policies: list[dict[str, Any]]


def job_definition(moto: Emulator, name: str) -> Job:
    """Return the job definition of this name as it was deployed to moto."""
    (found,) = moto.client("batch").describe_job_definitions(jobDefinitionName=name)["jobDefinitions"]
    container = found["containerProperties"]
    return Job(
        image=container["image"],
        command=container["command"],
        variables={one["name"]: one["value"] for one in container.get("environment", ())},
        retries=found["retryStrategy"]["evaluateOnExit"],
        policies=_policies(moto, container["jobRoleArn"].rsplit("/", 1)[-1]),
    )


def session_of(job: Job, emulator: Emulator, name: str) -> dict[str, str]:
    """Give the job's role to the emulator as well, and return the credentials of a session of it."""
    iam = emulator.client("iam")
    account = emulator.client("sts").get_caller_identity()["Account"]
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_document([trust]))["Role"]["Arn"]
    for number, policy in enumerate(job.policies):
        iam.put_role_policy(RoleName=name, PolicyName=f"policy-{number}", PolicyDocument=json.dumps(policy))
    found = emulator.client("sts").assume_role(RoleArn=role, RoleSessionName=name)["Credentials"]
    return {name: found[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")}


def _policies(moto: Emulator, role: str) -> list[dict[str, Any]]:
    iam = moto.client("iam")
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    found = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
    # moto keeps the document of a template as Python writes it.
    return [ast.literal_eval(document) for document in found]


def _document(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
