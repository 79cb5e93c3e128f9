"""Trials in bad weather: a job works through proxies that lose, delay, cut and spoil what goes to the lake and the provider.

What happens to a request follows from the trial's name, the request, and how often it was made: not from which comes first.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

from condvest.demo.standin import StandIn
from condvest.domain.answers import gunzip
from condvest.errors import CondvestError
from condvest.sources.polygon import PolygonSource
from condvest.sources.retry import RetryPolicy
from condvest.storage import layout
from faults.lakes import Address, Lakes
from faults.outcome import Outcome, different, held, lost, outcome_of
from faults.scenarios import SCENARIOS
from faults.site import Site
from faults.stops import StopTrials, Verdict
from servers.faulty_proxy import (
    Answer,
    CutAnswer,
    Fault,
    FaultyProxy,
    Late,
    LoseAnswer,
    LoseRequest,
    SpoilAnswer,
    running_proxy,
)

#: Jobs that ask for single sessions of flat files reach another server than this one.
JOBS: Final = tuple(name for name in SCENARIOS if name != "backfill-flat-files")
_RUNS_IN_BAD_WEATHER: Final = 3
_QUICK: Final = RetryPolicy(attempts=2, wait_initial_seconds=0.001, wait_max_seconds=0.01, empty_attempts=2)

_STORE: Final[tuple[Callable[[], Fault], ...]] = (
    lambda: Answer(500),
    lambda: Answer(503),
    LoseRequest,
    LoseAnswer,
    CutAnswer,
    SpoilAnswer,
    lambda: Late(0.05),
)
_PROVIDER: Final[tuple[Callable[[], Fault], ...]] = (*_STORE, lambda: Answer(429), lambda: Answer(200, b"<html>"))


class Weather:
    """What happens to each request, by chance. `rate`: how many of a hundred are hit."""

    def __init__(self, name: str, kinds: tuple[Callable[[], Fault], ...], rate: int, *, lake: str) -> None:
        """Begin with a name that gives all. `lake` is what differs in the paths of one copy of a lake and another."""
        self._name = name
        self._lake = lake
        self._kinds = kinds
        self._rate = rate
        self._times: Counter[tuple[str, str]] = Counter()
        self.hits: list[str] = []

    def __call__(self, method: str, path: str) -> Fault:
        """Return what happens to the next request of this method and path."""
        where = path.replace(self._lake, "")
        self._times[method, where] += 1
        rand = random.Random(f"{self._name} {method} {where} {self._times[method, where]}")
        if rand.randrange(100) >= self._rate:
            return None
        fault = rand.choice(self._kinds)()
        # What was written is not spoiled by an answer that is.
        if isinstance(fault, SpoilAnswer) and method != "GET":
            fault = LoseAnswer()
        told = fault.status if isinstance(fault, Answer) else type(fault).__name__
        self.hits.append(f"{method} {where}: {told}")
        return fault


class NetworkTrials:
    """Bad weather between the jobs, an S3 server and the provider."""

    def __init__(self, lakes: Lakes, endpoint_url: str, *, spoil: Callable[[Site], object] = lambda _: None) -> None:
        """Take the lakes of an S3 server, and its address."""
        self._lakes = lakes
        self._endpoint_url = endpoint_url
        self._spoil = spoil
        self._stops = StopTrials(lakes)

    def storm(self, scenario: str, seed: int, chance: int) -> Verdict:
        """Run a job in bad weather, some times, then in fair weather, and hold the lake against that of a clean run."""
        verdict, (clean, _) = Verdict(f"storm/{scenario}/{seed}/{chance}", 0), self._stops.clean(scenario, seed)
        rate = random.Random(verdict.name).choice((3, 10, 30))
        with self._lakes.copy(scenario, seed) as address, address.site(scenario, seed) as site:
            before, direct = held(site), site.store
            with self._proxies(verdict.name, rate, site, address) as (store, weathers):
                site.store = address.store(endpoint_url=store)
                self._spoil(site)
                for _ in range(_RUNS_IN_BAD_WEATHER):
                    try:
                        SCENARIOS[scenario].job(site)
                    except CondvestError as error:
                        verdict.trace.append(f"{type(error).__name__}")
                    site_store, site.store = site.store, direct
                    verdict.problems += [f"lost {bar}" for bar in lost(before, held(site))]
                    site.store = site_store
            verdict.stops = sum(len(weather.hits) for weather in weathers)
            verdict.trace += sorted(hit for weather in weathers for hit in weather.hits)
            site.store, site.source = direct, site.world.source
            SCENARIOS[scenario].job(site)
            verdict.rows = clean.rows
            verdict.problems += different(_by_key(outcome_of(site)), _by_key(clean))
        return verdict

    @contextmanager
    def _proxies(self, name: str, rate: int, site: Site, address: Address) -> Iterator[tuple[str, list[Weather]]]:
        """Put bad weather before the S3 server, whose new address is given, and before a stand-in of the provider."""
        with ExitStack() as stack:
            provider = stack.enter_context(StandIn(site.world.market, now=lambda: site.world.now))
            lake = address.lake_url.rpartition("/")[2]
            weathers = [Weather(name, kinds, rate, lake=lake) for kinds in (_STORE, _PROVIDER)]
            proxies = [stack.enter_context(running_proxy(url)) for url in (self._endpoint_url, provider.url)]
            for proxy, weather in zip(proxies, weathers, strict=True):
                proxy.weather = weather
            source = stack.enter_context(
                PolygonSource(proxies[1].url, provider.api_key, requests_per_minute=0, retry=_QUICK)
            )
            site.source = lambda _: source
            yield proxies[0].url, weathers


def _by_key(outcome: Outcome) -> Outcome:
    """Return an outcome without the bytes of what landed: over HTTP each answer has an id of its own.

    Details land as they come: where the provider failed for some tickers, those follow in an answer of their own. They count
    by ticker.
    """
    landed: dict[str, bytes] = {}
    for key, body in outcome.landed.items():
        if key.startswith(layout.landing_prefix("details")):
            tickers = [row["ticker"] for row in json.loads(gunzip(body))["results"]]
            landed |= {f"details of {ticker}": b"" for ticker in tickers}
        else:
            landed[key] = b""
    return replace(outcome, landed=landed)


def blackhole(proxy: FaultyProxy, seconds: float) -> None:
    """Let nothing come back within a client's patience."""
    proxy.weather = lambda _method, _path: Late(seconds)
