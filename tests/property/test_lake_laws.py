"""The laws of the lake under random orders of everything that can happen to it, on a folder and on S3."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from condvest.demo.standin import StandIn
from condvest.sources.polygon import PolygonSource
from condvest.sources.retry import RetryPolicy
from property.laws import Place
from property.machine import LakeLaws
from property.provider import Source, World, in_process

#: The same orders each time; another seed, or more of them, tries others. A failure names the seed.
SEED = int(os.environ.get("CONDVEST_LAWS_SEED", "2025"))
#: How many times as many examples, for a long run: CONDVEST_LAWS_TIMES=50 CONDVEST_LAWS_SEED=7 pytest tests/property
TIMES = int(os.environ.get("CONDVEST_LAWS_TIMES", "1"))
_QUICK = RetryPolicy(attempts=2, wait_initial_seconds=0.001, wait_max_seconds=0.01, empty_attempts=2)


def check(place: Place, *, examples: int, steps: int) -> None:
    """Run random orders against the laws."""
    print(f"CONDVEST_LAWS_SEED={SEED} CONDVEST_LAWS_TIMES={TIMES} replays this run")
    laws = type("LakeLaws", (LakeLaws,), {"place": place})
    run_state_machine_as_test(
        seed(SEED)(laws),
        settings=settings(
            max_examples=examples * TIMES,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@contextmanager
def over_http(world: World) -> Iterator[Source]:
    """Serve a world by the stand-in provider, over real connections."""
    with (
        StandIn(world.market, now=lambda: world.now, plan_start=world.plan_start) as provider,
        PolygonSource(provider.url, provider.api_key, requests_per_minute=0, retry=_QUICK) as source,
    ):
        yield source


def test_laws_on_a_folder() -> None:
    """Whatever the order of fetches, late days, restatements, backfills, kills and losses, a folder lake keeps the laws."""
    check(Place(lambda: "", in_process), examples=50, steps=20)


@pytest.mark.s3
def test_laws_on_s3(s3_url: str) -> None:
    """The same laws on an S3 server, with the provider behind HTTP."""
    check(Place(lambda: f"{s3_url}/{uuid.uuid4().hex}", over_http), examples=14, steps=14)
