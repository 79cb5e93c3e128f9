"""Check the templates of deploy/stack/ beyond cfn-lint: policies, the state machine, and the project's own rules.

    .venv-aws/bin/python tools/check_stack.py [FOLDER]

Every policy of an identity goes through parliament (unknown actions, resources that do not fit them), the state machine through
statelint. Our own rules: no action and no resource of an Allow is `*`, but for the actions below, each with its reason; what a
schedule cannot start lies in a queue; an endpoint of the network has a policy.
Prints one line a finding, and ends with 1 when there is any.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import parliament
import yaml
from statelint.config import Config
from statelint.linter import Linter

ROOT = Path(__file__).parents[1]
#: Actions that AWS lets nobody limit to a resource, and why we need them.
UNLIMITED = {
    "batch:DescribeJobs": "Step Functions looks how a job goes",
    "ecr:GetAuthorizationToken": "Fargate logs in to the registry",
    "logs:CreateLogDelivery": "Step Functions delivers its log",
    "logs:GetLogDelivery": "Step Functions delivers its log",
    "logs:UpdateLogDelivery": "Step Functions delivers its log",
    "logs:DeleteLogDelivery": "Step Functions delivers its log",
    "logs:ListLogDeliveries": "Step Functions delivers its log",
    "logs:PutResourcePolicy": "Step Functions delivers its log",
    "logs:DescribeResourcePolicies": "Step Functions delivers its log",
    "logs:DescribeLogGroups": "Step Functions delivers its log",
}
#: What parliament has wrong, and why.
MISTAKEN = {"batch:SubmitJob": "AWS takes queue and job definition; parliament wants a job, which is not yet there"}
#: In the policy of a key, `*` is the key itself.
OF_ITSELF = ("AWS::KMS::Key",)
_PSEUDO = {
    "AWS::Region": "ca-west-1",
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # the package has no types
    """Reads CloudFormation's short forms as objects of one key, as its JSON has them."""


def _short_form(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {"Ref" if tag == "Ref" else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _short_form)


def main(folder: Path) -> int:
    """Check every template, print what is wrong, and return the exit code."""
    templates = {path: yaml.load(path.read_text(), _Loader) for path in sorted(folder.glob("*.yaml"))}
    found = [f"{path.name}: {line}" for path, template in templates.items() for line in check(template)]
    for line in found:
        print(line)
    policies = sum(len(list(policies_of(template))) for template in templates.values())
    print(f"{len(templates)} templates, {policies} policies: {len(found)} findings")
    return 1 if found else 0


def check(template: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong in one template, one line each."""
    for where, kind, policy in policies_of(template):
        yield from (f"{where}: {line}" for line in check_own_rules(kind, policy))
        if not any("Principal" in statement for statement in policy["Statement"]):
            yield from (f"{where}: {line}" for line in check_with_parliament(policy))
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            yield from (f"{name}: {line}" for line in check_machine(properties))
        if resource["Type"] == "AWS::Scheduler::Schedule" and "DeadLetterConfig" not in properties["Target"]:
            yield f"{name}: what it cannot start is lost: it has no DeadLetterConfig"
        if resource["Type"] == "AWS::EC2::VPCEndpoint" and "PolicyDocument" not in properties:
            yield f"{name}: it leads everybody everywhere: it has no PolicyDocument"


def policies_of(template: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield where each policy stands, the type of its resource, and the policy with plausible values for references."""
    for name, resource in template["Resources"].items():
        for path, value in _walk(resource.get("Properties", {}), name):
            if isinstance(value, dict) and "Statement" in value:
                yield path, resource["Type"], resolved(value, template)


def check_own_rules(kind: str, policy: dict[str, Any]) -> Iterator[str]:
    """Yield each `*` that stands alone in an Allow without a reason."""
    for statement in policy["Statement"]:
        if statement["Effect"] != "Allow" or kind in OF_ITSELF:
            continue
        actions = _list(statement["Action"])
        yield from (f"action {action} is not limited" for action in actions if action.endswith("*"))
        if "*" in _list(statement.get("Resource", "")):
            unknown = sorted(set(actions) - UNLIMITED.keys())
            yield from (f"{action} on every resource, without a reason in UNLIMITED" for action in unknown)


def check_with_parliament(policy: dict[str, Any]) -> Iterator[str]:
    """Yield what parliament finds in the policy of an identity."""
    for finding in parliament.analyze_policy_string(json.dumps(policy)).findings:
        if finding.issue == "RESOURCE_MISMATCH" and all(item["action"] in MISTAKEN for item in finding.detail):
            continue
        yield f"{finding.issue} {finding.detail} {finding.location.get('string', '')}".strip()


def check_machine(properties: dict[str, Any]) -> list[str]:
    """Return what statelint finds in a state machine's definition, and names of errors that can be none.

    A line that is indented too far continues the name before it: YAML takes both for one.
    """
    text = json.dumps(properties["Definition"])
    for name in properties.get("DefinitionSubstitutions", {}):
        text = text.replace(f"${{{name}}}", f"arn:aws:lambda:ca-west-1:123456789012:function:{name}")
    found = [str(problem) for problem in Linter.validate(text, Config())]
    for path, value in _walk(properties["Definition"], "Definition"):
        if path.endswith(".ErrorEquals"):
            found += [f"{path}: {name!r} is no error's name" for name in value if not re.fullmatch(r"[\w.]+", name)]
    return found


def resolved(value: Any, template: dict[str, Any]) -> Any:
    """Return a value with plausible texts in place of references: names for Ref, ARNs where one is meant."""
    if isinstance(value, list):
        return [resolved(item, template) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (name, of), *_ = value.items()
        if name == "Ref":
            return _reference(of, template)
        if name == "Fn::GetAtt":
            return _reference(of.split(".")[0] if isinstance(of, str) else of[0], template)
        if name == "Fn::Sub" and isinstance(of, str):
            return re.sub(r"\$\{([\w:.]+)\}", lambda found: _named(found[1], template), of)
    return {name: resolved(item, template) for name, item in value.items()}


def _named(text: str, template: dict[str, Any]) -> str:
    return _reference(text.split(".")[0], template) if "." in text else _PSEUDO.get(text, _reference(text, template))


_ARNS = {
    "AWS::S3::Bucket": "arn:aws:s3:::{0}",
    "AWS::Logs::LogGroup": "arn:aws:logs:ca-west-1:123456789012:log-group:{0}",
    "AWS::SNS::Topic": "arn:aws:sns:ca-west-1:123456789012:{0}",
    "AWS::SQS::Queue": "arn:aws:sqs:ca-west-1:123456789012:{0}",
    "AWS::KMS::Key": "arn:aws:kms:ca-west-1:123456789012:key/{0}",
    "AWS::ECR::Repository": "arn:aws:ecr:ca-west-1:123456789012:repository/{0}",
    "AWS::StepFunctions::StateMachine": "arn:aws:states:ca-west-1:123456789012:stateMachine:{0}",
    "AWS::Batch::JobQueue": "arn:aws:batch:ca-west-1:123456789012:job-queue/{0}",
}


def _reference(name: str, template: dict[str, Any]) -> str:
    """Return what a name may stand for: an ARN for a resource, and for a parameter what its name says."""
    if name in _PSEUDO:
        return _PSEUDO[name]
    if name in template["Resources"]:
        return _ARNS.get(template["Resources"][name]["Type"], "{0}").format(name.lower())
    if name.endswith("SecretArn"):
        return f"arn:aws:secretsmanager:ca-west-1:123456789012:secret:{name}"
    if name.endswith("Arn"):
        return f"arn:aws:lambda:ca-west-1:123456789012:function:{name}"
    return name.lower()


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from _walk(item, f"{path}.{name}")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "deploy" / "stack"))
