"""The project on emulated AWS: deployed by its own script, run by its own state machine, looked at through the services."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from servers.emulator import ROOT, Emulator

MACHINE = "condvest-daily"
FUNCTIONS = ("daily-ohlcv-fetcher", "daily-meta-fetcher", "consolidate-bronze-daily", "record-session")
#: The state that runs on AWS Batch, which the emulator does not have.
BATCH_STATE = "Resample"
_RUN_SECONDS = 600.0


@dataclass(frozen=True)
class Execution:
    """What came of one execution of the state machine."""

    status: str
    error: str
    cause: str
    events: Sequence[Mapping[str, Any]]

    @property
    def states(self) -> list[str]:
        """The states that were entered, in order."""
        return [
            event["stateEnteredEventDetails"]["name"] for event in self.events if "stateEnteredEventDetails" in event
        ]

    @property
    def largest_bytes(self) -> int:
        """The size of the largest input or output of a state: AWS has a limit, which the emulator does not know."""
        details = [found for event in self.events for found in event.values() if isinstance(found, dict)]
        return max(len(found.get(name, "").encode()) for found in details for name in ("input", "output"))

    @property
    def failures(self) -> list[str]:
        """The error of each failed attempt of a task, in order."""
        details = (event.get("taskFailedEventDetails") for event in self.events)
        return [found["error"] for found in details if found]


class Cloud:
    """The deployed project. Its clock stands still where `set_clock` puts it."""

    def __init__(self, emulator: Emulator, bucket: str) -> None:
        """Take an emulator; nothing is deployed yet."""
        self.emulator = emulator
        self.bucket = bucket
        self._s3 = emulator.client("s3")
        self._lambda = emulator.client("lambda")
        self._machines = emulator.client("stepfunctions")
        self._logs = emulator.client("logs")
        self._sqs = emulator.client("sqs")
        self._mailbox = ""

    def script(self, *words: str, **environment: str) -> str:
        """Run one of the project's scripts and return what it printed; AssertionError with all of it when it fails."""
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=self.emulator.shell_environment() | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def output(self, stack: str, name: str) -> str:
        """Return an output of one of the project's stacks."""
        found = self.emulator.client("cloudformation").describe_stacks(StackName=f"test-condvest-{stack}")["Stacks"][0]
        return str({one["OutputKey"]: one["OutputValue"] for one in found["Outputs"]}[name])

    def set_clock(self, now: datetime) -> None:
        """Let the functions see this instant as now, from their next call on."""
        for name in FUNCTIONS:
            found = self._lambda.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
            changed = found | {"CONDVEST_NOW": now.isoformat()}
            self._lambda.update_function_configuration(FunctionName=name, Environment={"Variables": changed})

    def run(self, request: Mapping[str, object]) -> Execution:
        """Run the state machine to its end; the state on Batch succeeds at once, and does nothing."""
        started = self._machines.start_execution(
            stateMachineArn=f"{self.machine_arn}#mocked", input=json.dumps(request)
        )
        return self.ended(started["executionArn"])

    def ended(self, arn: str) -> Execution:
        """Wait for the end of an execution and return what came of it."""
        end = time.monotonic() + _RUN_SECONDS
        while (found := self._machines.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < end, f"the execution still runs: {self._events(arn)[-1]}"
            time.sleep(0.05)
        return Execution(found["status"], found.get("error", ""), found.get("cause", ""), self._events(arn))

    def run_batch(self, *words: str, credentials: Mapping[str, str] | None = None, **environment: str) -> None:
        """Run the command of a Batch job as a process, with the variables of its job definition."""
        keys = {} if credentials is None else _as_variables(credentials)
        self.script(
            sys.executable, "-m", "condvest.aws.batch", *words, **({"S3_BUCKET": self.bucket} | keys | environment)
        )

    def call(self, function: str, event: Mapping[str, object]) -> dict[str, Any]:
        """Invoke a function as an operator would and return its answer; AssertionError when it raised."""
        answer = self._lambda.invoke(FunctionName=function, Payload=json.dumps(event).encode())
        body: dict[str, Any] = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, body
        return body

    @property
    def machine_arn(self) -> str:
        """The ARN of the state machine."""
        machines = self._machines.list_state_machines()["stateMachines"]
        return str(next(one["stateMachineArn"] for one in machines if one["name"] == MACHINE))

    def executions(self) -> list[str]:
        """Return the ARN of each execution so far, the newest first."""
        found = self._machines.list_executions(stateMachineArn=self.machine_arn)["executions"]
        return [one["executionArn"] for one in found]

    def objects(self) -> dict[str, str]:
        """Return the ETag of each object in the lake's bucket."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}

    def body(self, key: str) -> bytes:
        """Return an object of the lake."""
        data: bytes = self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data

    def log(self, function: str) -> list[dict[str, Any]]:
        """Return every structured line that a function has logged, in order; its metrics are such lines too."""
        pages = self._logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{function}")
        lines = [event["message"] for page in pages for event in page["events"]]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def metrics(self, function: str) -> Iterator[dict[str, Any]]:
        """Yield each set of metrics that a function has emitted, as name and value, in order."""
        for line in self.log(function):
            for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
                yield {metric["Name"]: line[metric["Name"]] for metric in directive["Metrics"]} | {
                    "namespace": directive["Namespace"]
                }

    def wait_for(self, happened: Callable[[], object], *, seconds: float = 20.0) -> bool:
        """Say whether something happens within some seconds."""
        end = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def open_mailbox(self, topic_arn: str) -> None:
        """Subscribe a queue to a topic; `mail` reads what comes from now on."""
        self._mailbox = self._sqs.create_queue(QueueName="mailbox")["QueueUrl"]
        wanted = self._sqs.get_queue_attributes(QueueUrl=self._mailbox, AttributeNames=["QueueArn"])
        queue_arn = wanted["Attributes"]["QueueArn"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue_arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._sqs.set_queue_attributes(QueueUrl=self._mailbox, Attributes={"Policy": policy})
        self.emulator.client("sns").subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=queue_arn)

    def mail(self) -> list[dict[str, Any]]:
        """Take the messages that came since the last call: `Subject` and `Message` as a subscriber gets them."""
        found = self._sqs.receive_message(QueueUrl=self._mailbox, MaxNumberOfMessages=10).get("Messages", ())
        for message in found:
            self._sqs.delete_message(QueueUrl=self._mailbox, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in found]

    def _events(self, execution_arn: str) -> list[Mapping[str, Any]]:
        pages = self._machines.get_paginator("get_execution_history").paginate(executionArn=execution_arn)
        return [event for page in pages for event in page["events"]]


def _as_variables(credentials: Mapping[str, str]) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }
