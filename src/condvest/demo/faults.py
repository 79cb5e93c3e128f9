"""Faults of the stand-in provider: what a network, a busy server or a plan does to an answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from condvest.errors import ConfigError

Kind = Literal["status", "truncate", "reset", "empty", "short", "delay", "duplicates"]
Body = bytes | str | Mapping[str, object]

BODIES: dict[int, dict[str, object]] = {
    401: {"status": "ERROR", "error": "Unknown API Key"},
    403: {
        "status": "NOT_AUTHORIZED",
        "message": "Your plan doesn't include this data timeframe. Please upgrade your plan at https://polygon.io/pricing",
    },
    429: {
        "status": "ERROR",
        "error": "You've exceeded the maximum requests per minute, "
        "please wait or upgrade your subscription to continue. https://polygon.io/pricing",
    },
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, and how it is sent: whole, cut in the middle, or not at all."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: Literal["whole", "half", "reset"] = "whole"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the next matching answer."""

    path_prefix: str
    kind: Kind
    status: int | None = None
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"fault kind {self.kind!r} is unknown; use one of {', '.join(get_args(Kind))}")
        if self.kind == "status" and self.status is None:
            raise ConfigError("a fault of kind 'status' has no status; pass status=429 or the like, or another kind")

    def replacement(self, request_id: str) -> Answer | None:
        """Return the answer that stands in for the true one; None when the true one is needed."""
        if self.kind == "reset":
            return Answer(0, b"", sent="reset")
        if self.kind != "status" or self.status is None:
            return None
        default = BODIES.get(self.status, {"status": "ERROR", "error": f"status {self.status}"})
        return Answer(self.status, _encoded(self.body, default | {"request_id": request_id}), self.headers)

    def applied(self, answer: Answer) -> Answer:
        """Return the true answer as this fault spoils it."""
        if self.kind == "truncate":
            return Answer(answer.status, answer.body, answer.headers, sent="half")
        if self.kind in ("empty", "short", "duplicates"):
            return Answer(answer.status, _respoiled(answer.body, self.kind), answer.headers)
        return answer


class FaultQueue:
    """Faults in the order in which they were asked for; each request takes the first that matches its path."""

    def __init__(self) -> None:
        """Start empty."""
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault, times: int) -> None:
        """Queue a fault for the next `times` matching requests."""
        with self._lock:
            self._waiting += [fault] * times

    def clear(self) -> None:
        """Forget what is queued."""
        with self._lock:
            self._waiting.clear()

    def take(self, path: str) -> Fault | None:
        """Remove and return the first fault for this path."""
        with self._lock:
            for index, fault in enumerate(self._waiting):
                if path.startswith(fault.path_prefix):
                    return self._waiting.pop(index)
        return None


def _encoded(body: Body | None, default: dict[str, object]) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    return json.dumps(default if body is None else dict(body)).encode()


def _respoiled(body: bytes, kind: str) -> bytes:
    """Take all rows, half of the rows, or no row at all out of an answer, in a shape that stays valid."""
    answer = json.loads(body)
    listing = answer if isinstance(answer, list) else answer.get("results", [])
    if not isinstance(listing, list):  # details hold one object, not rows
        listing = []
    rows = {"empty": [], "short": listing[: len(listing) // 2], "duplicates": [row for row in listing for _ in (1, 2)]}[
        kind
    ]
    if isinstance(answer, list):
        return json.dumps(rows).encode()
    answer |= {"results": rows} | {
        name: len(rows) for name in ("queryCount", "resultsCount", "count") if name in answer
    }
    if not rows:
        del answer["results"]
    return json.dumps(answer).encode()
