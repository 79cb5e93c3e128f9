"""Fetches from a provider that sends spoiled bodies: an error of this project, or what it acknowledges is truly there."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest.demo.faults import BODIES
from condvest.domain.answers import parse_grouped, parse_range
from condvest.errors import CondvestError
from condvest.storage import layout
from condvest.storage.actions import read_dividends, read_splits
from fuzz.strategies import TEXTS, as_bytes, bodies, fuzzed, spoiled
from fuzz.test_bodies import DETAILS, DIVIDEND, GROUPED, RANGE, SPLIT, TICKER, UPCOMING
from integration.jobs_kit import DAYS, Kit, market_of

BEFORE, DAY = DAYS[:2]
_TICKERS, _SPLITS, _DIVIDENDS, _UPCOMING = (
    "/v3/reference/tickers",
    "/stocks/v1/splits",
    "/stocks/v1/dividends",
    "/v1/marketstatus/upcoming",
)


@contextmanager
def _lake() -> Iterator[Kit]:
    """Yield a small lake with one session and its metadata, on the evening of the next session."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Kit(Path(folder), market=market_of(DAYS[:3]), lake_url=f"memory://{uuid.uuid4().hex}") as kit,
    ):
        kit.market.add_split("AAPL", date(2020, 8, 31), 1, 4)
        kit.market.add_dividend("AAPL", date(2025, 8, 11), 0.26)
        kit.evening(BEFORE).fetch(BEFORE)
        yield kit.evening(DAY)


@fuzzed(40)
@given(bodies(GROUPED), st.sampled_from([200, 200, 200, 200, 403, 404, 429, 500]))
def test_whole_session(body: bytes, status: int) -> None:
    """A session is done only when its answer could be read, and no other session's objects change."""
    with _lake() as kit:
        before = kit.files()
        kit.provider.fail("/v2/aggs/grouped", times=20, status=status, body=body)
        kit.fetch(DAY)
        state, after = kit.states()[DAY], kit.files()
        assert before.items() <= after.items()
        assert all(f"date={DAY}" in key for key in after.keys() - before.keys())
        if state not in ("provisional", "final"):
            assert after == before or not kit.state.ledger_is_empty()
            return
        assert status == 200
        parsed = parse_grouped(body, DAY)
        assert parsed.total
        assert {layout.daily_key(symbol, DAY) for symbol in parsed.bars["symbol"].to_pylist()} <= after.keys()
        assert len(kit.quarantine()) == len(parsed.rejects)


@fuzzed(35)
@given(bodies(RANGE | {"results": [{**RANGE["results"][0], "t": 1762232400000}]}))
def test_range(body: bytes) -> None:
    """A range answer brings bars of its symbol and sessions, or nothing."""
    with _lake() as kit:
        before = kit.files()
        kit.provider.fail("/v2/aggs/ticker", times=20, status=200, body=body)
        try:
            kit.fetch_symbols("AAPL", first=BEFORE, last=DAY)
        except CondvestError:
            assert kit.files() == before
            return
        made = {key: data for key, data in kit.files().items() if before.get(key) != data}
        for key in made:
            found, landed = layout.parse_bronze_key(key), layout.parse_landing_key(key)
            assert key.startswith((layout.METADATA, layout.QUARANTINE)) or "AAPL" in (
                getattr(found, "symbol", None),
                getattr(landed, "symbol", None),
            )
        if any(layout.parse_landing_key(key) for key in made):
            parse_range(body, "AAPL")


@fuzzed(40)
@given(
    st.sampled_from(
        [
            (_TICKERS, {"status": "OK", "results": [TICKER], "count": 1}),
            (f"{_TICKERS}/", {"status": "OK", "results": DETAILS}),
            (_SPLITS, {"status": "OK", "results": [SPLIT, {**SPLIT, "ticker": "MSFT"}]}),
            (_DIVIDENDS, {"status": "OK", "results": [DIVIDEND]}),
            (_UPCOMING, [UPCOMING]),
        ]
    ).flatmap(lambda pair: st.tuples(st.just(pair[0]), bodies(pair[1])))
)
def test_metadata(spoil: tuple[str, bytes]) -> None:
    """Whatever a listing holds, the ledgers stay readable, and the next sound listing is taken."""
    path, body = spoil
    with _lake() as kit:
        before = kit.files(layout.BRONZE)
        kit.provider.fail(path, times=20, status=200, body=body)
        try:
            kit.fetch_meta(details=3)
        except CondvestError as error:
            assert "\n" not in str(error)
        kit.provider.heal()
        kit.after(hours=1).fetch_meta(details=3)
        assert any(split.symbol == "AAPL" and split.split_to == 4 for split in read_splits(kit.store))
        assert any(dividend.cash_amount == 0.26 for dividend in read_dividends(kit.store))
        assert {row.symbol for row in kit.state.symbols()} >= {"AAPL", "BCpC"}
        assert kit.files(layout.BRONZE) == before


@fuzzed(35)
@given(
    st.one_of(
        st.text(max_size=20),
        TEXTS,
        spoiled(["https://x/v3/reference/tickers?cursor=a"]).map(lambda found: found[0] if found else None),
        st.sampled_from(
            [
                "/\ud800",
                "/v3?\ud83d=1",
                "/" + "a" * 70_000,
                "/a\x00b",
                "/a b",
                "http://[",
                "//",
                "http://x:99999/y",
                "/%zz",
                "/?" + "&" * 200,
                "/é",
                "file:///etc/passwd",
                "/..//..",
                "/v3?cursor=\r\nHost: x",
                "?x",
            ],
        ),
    )
)
def test_next_url(following: object) -> None:
    """Where the next page lies is asked for at the provider alone, or refused."""
    with _lake() as kit:
        page = {"status": "OK", "results": [{"ticker": "AAPL"}], "next_url": following}
        kit.provider.fail(_TICKERS, status=200, body=as_bytes(page))
        try:
            kit.fetch_meta()
        except CondvestError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("status", [*BODIES, 200])
@fuzzed(6)
@given(spoiled({"status": "ERROR", "error": "x", "message": "y"}).map(as_bytes))
def test_refusals(status: int, body: bytes) -> None:
    """A refusal of any shape is one too."""
    with _lake() as kit:
        kit.provider.fail("/", times=20, status=status, body=body)
        with suppress(CondvestError):
            assert kit.fetch(DAY).left or kit.states()[DAY] == "not_entitled"
        assert kit.states().get(DAY) not in ("provisional", "final")
