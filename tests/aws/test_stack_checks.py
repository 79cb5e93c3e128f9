"""The checks of the templates find what they are for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from servers.emulator import ROOT

pytestmark = pytest.mark.aws

_TEMPLATE = """
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      Policies:
        - PolicyDocument:
            Version: "2012-10-17"
            Statement:
              - {{Effect: Allow, Action: {action}, Resource: {resource}}}
  Machine:
    Type: AWS::StepFunctions::StateMachine
    Properties:
      Definition: {{StartAt: A, States: {{A: {{Type: Pass, {following}}}}}}}
"""
_CARELESS = """
Resources:
  Weekly:
    Type: AWS::Scheduler::Schedule
    Properties: {Target: {Arn: a, RoleArn: b}}
  ToS3:
    Type: AWS::EC2::VPCEndpoint
    Properties: {ServiceName: s3}
"""


def check(folder: Path, *, action: str, resource: str, following: str = "End: true") -> tuple[int, str]:
    """Check a template with one right and one state, and return the exit code and what was printed."""
    return check_text(folder, _TEMPLATE.format(action=action, resource=resource, following=following))


def check_text(folder: Path, template: str) -> tuple[int, str]:
    """Check a folder with one template, and return the exit code and what was printed."""
    (folder / "one.yaml").write_text(template)
    command = [str(ROOT / ".venv-aws/bin/python"), "-W", "ignore", str(ROOT / "tools/check_stack.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_a_sound_template_passes(tmp_path: Path) -> None:
    """A right on named objects, and a machine that ends."""
    code, said = check(tmp_path, action="s3:GetObject", resource="arn:aws:s3:::lake/bronze/*")
    assert (code, said) == (0, "1 templates, 1 policies: 0 findings\n")


@pytest.mark.parametrize(
    ("action", "resource", "following", "found"),
    [
        ("s3:*", "arn:aws:s3:::lake/*", "End: true", "action s3:* is not limited"),
        ("s3:GetObject", '"*"', "End: true", "s3:GetObject on every resource, without a reason"),
        ("s3:GetObjects", "arn:aws:s3:::lake/*", "End: true", "UNKNOWN_ACTION Unknown action s3:GetObjects"),
        ("s3:GetObject", "arn:aws:s3:::lake", "End: true", "RESOURCE_MISMATCH"),
        ("s3:GetObject", "arn:aws:s3:::lake/*", "Next: B", "Machine: "),
        (
            "s3:GetObject",
            "arn:aws:s3:::lake/*",
            "Retry: [{ErrorEquals: [A - B]}], End: true",
            "'A - B' is no error's name",
        ),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, action: str, resource: str, following: str, found: str) -> None:
    """Rights that are too wide, rights that do not exist, and states that lead nowhere."""
    code, said = check(tmp_path, action=action, resource=resource, following=following)
    assert code == 1
    assert found in said


def test_a_schedule_has_a_queue_and_an_endpoint_a_policy(tmp_path: Path) -> None:
    """What could not be started is not lost, and the network leads only where it has to."""
    code, said = check_text(tmp_path, _CARELESS)
    assert code == 1
    assert [line.split(":")[1].strip() for line in said.splitlines()[:2]] == ["Weekly", "ToS3"]
