"""The provider's REST API: whole sessions, one symbol's range, tickers, splits, dividends, announced closures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import quote

from condvest.aio import io_loop
from condvest.domain.answers import ParsedBars, SessionAnswer, SessionRefusal, parse_grouped, parse_range
from condvest.domain.metadata import Following, Listing, ListingPage
from condvest.errors import DataError
from condvest.log import warn
from condvest.sources.http import NotFoundError, Params, ProviderClient, decode_json
from condvest.sources.retry import DEFAULT_RETRY, RetryPolicy
from condvest.sources.sessions import EmptyAnswerError, fetch_in_order, with_rows

Row = dict[str, Any]

_GROUPED: Final = "/v2/aggs/grouped/locale/us/market/stocks"
_TICKERS: Final = "/v3/reference/tickers"
_TICKERS_ASKED: Final[Mapping[str, str | int]] = {"market": "stocks", "sort": "ticker", "order": "asc", "limit": 1000}
_LISTINGS: Final[Mapping[Listing, tuple[str, Params]]] = {
    "listed": (_TICKERS, {"active": True, **_TICKERS_ASKED}),
    "delisted": (_TICKERS, {"active": False, **_TICKERS_ASKED}),
    "splits": ("/stocks/v1/splits", {"limit": 5000, "sort": "execution_date.asc"}),
    "dividends": ("/stocks/v1/dividends", {"limit": 5000, "sort": "ex_dividend_date.asc"}),
}


class PolygonSource:
    """Polygon.io (now Massive) over REST. All prices are raw: every request for bars says `adjusted=false`."""

    kind: Final[Literal["grouped"]] = "grouped"

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        requests_per_minute: int,
        retry: RetryPolicy = DEFAULT_RETRY,
        in_flight: int = 8,
        timeout_seconds: float = 60.0,
    ) -> None:
        """Check the settings; nothing is asked yet. ConfigError: see `ProviderClient`."""
        self._client = ProviderClient(
            base_url,
            api_key,
            requests_per_minute=requests_per_minute,
            retry=retry,
            in_flight=in_flight,
            timeout_seconds=timeout_seconds,
        )

    def __repr__(self) -> str:
        return f"PolygonSource({self._client!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def requests(self) -> int:
        """How many requests were sent so far, retries included."""
        return self._client.requests

    @property
    def bytes_in(self) -> int:
        """How many bytes of bodies came in so far, as transferred."""
        return self._client.bytes_in

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._client.close()

    def fetch_sessions(self, sessions: Sequence[date]) -> Iterator[SessionAnswer | SessionRefusal]:
        """Yield one outcome a session, in the order given; one request brings the whole market.

        Lazy: never more than `in_flight` sessions ahead of the consumer. ConfigError: the key was refused.
        """
        return fetch_in_order(sessions, self._session, in_flight=self._client.in_flight)

    def fetch_range(self, symbol: str, first: date, last: date) -> tuple[bytes, ParsedBars]:
        """Return one symbol's bars of `first..last` (inclusive), all pages as one body, and the bars read from it.

        The body is `{"ticker", "adjusted", "results"}`. No bars is an answer too (`total` 0): it may not have been
        listed. Raises what `ProviderClient.get` raises; DataError when the answer is for another symbol or other days.
        """
        path = f"/v2/aggs/ticker/{quote(symbol, safe='')}/range/1/day/{first}/{last}"
        pages = list(self._pages(path, {"adjusted": False, "sort": "asc", "limit": 50_000}))
        tickers = [page["ticker"] for page in pages if "ticker" in page]
        merged = {
            "ticker": next((ticker for ticker in tickers if ticker != symbol), symbol),
            "adjusted": any(page.get("adjusted") is True for page in pages),
            "results": [row for page in pages for row in page["results"]],
        }
        body = json.dumps(merged, separators=(",", ":")).encode()
        parsed = parse_range(body, symbol)
        days = [*parsed.bars["date"].to_pylist(), *(reject.session for reject in parsed.rejects)]
        other = next((day for day in days if not first <= day <= last), None)
        if other is not None:
            raise DataError(
                f"range answer for {symbol}: holds a bar of {other}, asked for were {first} to {last}; nothing was taken;"
                " fetch again"
            )
        return body, parsed

    def pages(self, listing: Listing, after: Following | None = None) -> Iterator[ListingPage]:
        """Yield a listing page by page, from its begin, or from where an earlier page said that the next one is.

        Tickers come by symbol (case matters), splits and dividends of all tickers by date.
        """
        path, asked = _LISTINGS[listing]
        for page in self._pages(path, asked, after):
            yield ListingPage(page["results"], page["following"])

    def ticker_details(self, symbol: str) -> Row | None:
        """Return all that the provider knows of one ticker; None when it knows none of that name (case matters)."""
        path = f"{_TICKERS}/{quote(symbol, safe='')}"
        try:
            found = io_loop().run(self._client.get(path, decode=_decode_details)).value
        except NotFoundError:
            return None
        if found.get("ticker", symbol) != symbol:
            raise DataError(
                f"GET {path}: the answer is for {found['ticker']!r}; nothing was taken; report it to the provider"
            )
        return found

    def market_upcoming(self) -> list[Row]:
        """Return the announced closures and early closes, one row an exchange and date."""
        return io_loop().run(self._client.get("/v1/marketstatus/upcoming", decode=_decode_rows)).value

    async def _session(self, session: date) -> SessionAnswer:
        return await with_rows(self._client.retry, partial(self._ask_session, session))

    async def _ask_session(self, session: date) -> SessionAnswer:
        asked: Params = {"adjusted": False, "include_otc": False}
        answer = await self._client.get(f"{_GROUPED}/{session}", asked, decode=partial(_decode_grouped, session))
        return SessionAnswer(session, answer.body, answer.value)

    def _pages(self, path: str, params: Params, after: Following | None = None) -> Iterator[Row]:
        """Yield all pages of a listing, each with where the one after it is (`following`; None: nowhere).

        One that cannot be had raises: a listing never just ends short.
        """
        if after is None:
            page = io_loop().run(self._client.get(path, params, decode=_decode_page)).value
        else:
            page = io_loop().run(self._following(*after))
        seen: set[str] = set()
        while True:
            following = str(page.get("next_url") or "")
            page["following"] = self._client.own_address(following) if following else None
            yield page
            if not following:
                return
            if following in seen:
                raise DataError(
                    f"GET {path}: its pages point back at each other; the listing has no end; run again later"
                )
            seen.add(following)
            page = io_loop().run(self._following(*page["following"]))

    async def _following(self, path: str, params: Params) -> Row:
        """Return a page that the one before it promised.

        If it is empty it is asked for again, as under load a good page may come back so; one that stays empty is the
        end, and is logged.
        """

        async def asked() -> Row:
            page: Row = (await self._client.get(path, params, decode=_decode_page)).value
            if not page["results"]:
                raise EmptyAnswerError(f"GET {path}: a promised page is empty")
            return page

        policy = self._client.retry
        try:
            async with policy.in_time(f"GET {path}"):
                return await policy.caller(policy.empty_attempts)(EmptyAnswerError, asked)
        except EmptyAnswerError:
            warn("last_page_empty", request=f"GET {path}", attempts=policy.empty_attempts)
            return {"results": []}


def _decode_grouped(session: date, body: bytes) -> ParsedBars:
    parsed = parse_grouped(body, session)
    if parsed.total == 0:
        decode_json(body)  # an error that came as 200 has no rows either
    return parsed


def _decode_page(body: bytes) -> Row:
    """Return one page with its `results`, which may be missing only where a count says that there are none."""
    page = decode_json(body)
    if not isinstance(page, dict):
        raise DataError(f"expected a JSON object, found a {type(page).__name__}")
    if "results" not in page and 0 in (page.get("count"), page.get("resultsCount"), page.get("queryCount")):
        page["results"] = []
    _check_rows(page.get("results"))
    return page


def _decode_rows(body: bytes) -> list[Row]:
    rows = decode_json(body)
    _check_rows(rows)
    return list(rows)


def _decode_details(body: bytes) -> Row:
    page = decode_json(body)
    details = page.get("results") if isinstance(page, dict) else None
    if not isinstance(details, dict):
        raise DataError("expected one object in `results`")
    return details


def _check_rows(rows: object) -> None:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError("expected a list of objects in `results`")
