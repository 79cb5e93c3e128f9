"""A stand-in for the data provider: a real HTTP server on loopback that serves a `Market` in the provider's shapes.

It refuses what the provider refuses (unknown keys, sessions before the plan, today before the end of the day) and
spoils answers on demand, so that a client can be tried against all that the provider does without a key or a network.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import partial
from types import TracebackType
from urllib.parse import unquote

from condvest.demo import shapes
from condvest.demo.faults import BODIES, Answer, Body, Fault, FaultQueue, Kind
from condvest.demo.http_server import Request, Server
from condvest.demo.market import NEW_YORK, Bar, Market
from condvest.demo.shapes import Row
from condvest.errors import CondvestError, ConfigError

Provisional = Callable[[date, str, Bar, datetime], Bar]

_GROUPED = re.compile(r"/v2/aggs/grouped/locale/us/market/stocks/([^/]+)")
_RANGE = re.compile(r"/v2/aggs/ticker/([^/]+)/range/1/day/([^/]+)/([^/]+)")
_TICKER = re.compile(r"/v3/reference/tickers/([^/]+)")
# path -> (rows, default limit, largest limit)
_LISTS: dict[str, tuple[Callable[[Market, Mapping[str, str]], list[Row]], int, int]] = {
    "/v3/reference/tickers": (shapes.ticker_rows, 100, 1000),
    "/stocks/v1/splits": (shapes.split_rows, 100, 5000),
    "/stocks/v1/dividends": (shapes.dividend_rows, 100, 5000),
}
_TODAY = {
    "status": "NOT_AUTHORIZED",
    "message": "Attempted to request today's data before end of day. Please upgrade your plan at https://polygon.io/pricing",
}


class _RefusalError(CondvestError):
    """Ends the making of an answer with a status and a body."""

    def __init__(self, status: int, body: Mapping[str, object]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class _Cached:
    """The bytes of a grouped answer and the data that they were made from."""

    bars: dict[str, Bar]
    raw_rows: list[Row]
    status: str
    tail: bytes


class StandIn:
    """Serve a market on 127.0.0.1 for the length of a `with` block; `url` is the provider's base URL then.

    Plain attributes may be set at any time: `delayed` (good answers say `DELAYED` in place of `OK`), `end_of_day` (the
    New York time from which today's session is handed out), `next_url_host` (where `next_url` points) and
    `provisional`: called as `(session, symbol, bar, now)`, it returns the bar that the provider shows at that instant.
    `requests` grows by one with each request, refused and spoiled ones too.
    """

    def __init__(
        self,
        market: Market,
        *,
        now: Callable[[], datetime] | None = None,
        api_key: str = "test-key",
        plan_start: date | None = None,
        page_size: int | None = None,
    ) -> None:
        """Prepare a server. `now` is its clock, `plan_start` the plan's first session, `page_size` caps `limit`."""
        self.market = market
        self.api_key = api_key
        self.plan_start = plan_start
        self.page_size = page_size
        self.now = now or (lambda: datetime.now(UTC))
        self.delayed = False
        self.end_of_day = time(16)
        self.next_url_host = "https://api.polygon.io"
        self.provisional: Provisional | None = None
        self.requests: list[Request] = []
        self._faults = FaultQueue()
        self._counter = itertools.count(1)
        self._cache: dict[tuple[date, bool], _Cached] = {}
        self._server: Server | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> StandIn:
        self._stopping.clear()
        self._server = Server(self._answer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        self._stopping.set()
        if server is not None:
            server.stop()
            if value is None and server.crashes:
                raise server.crashes[0]

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        if self._server is None:
            raise ConfigError("the stand-in provider has no URL while it is not running; use it in a with block")
        return f"http://127.0.0.1:{self._server.server_port}"

    def fail(
        self,
        path_prefix: str,
        *,
        times: int = 1,
        kind: Kind = "status",
        status: int | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Spoil the next `times` answers to paths that begin so; faults queue up in the order of the calls.

        `status` answers with that status (`body` as given, else what the provider says for it; `headers` on top, e.g.
        Retry-After), `truncate` sends half of the body, `reset` drops the connection, `empty` is a good answer without
        rows, `short` one with half of them, `duplicates` one with each twice, `delay` the true one after `seconds`.
        A 200 that is no JSON is `status=200, body="<html>"`.
        """
        kind = "status" if status is not None else kind
        self._faults.add(Fault(path_prefix, kind, status, body, headers or {}, seconds), times)

    def heal(self) -> None:
        """Forget the faults that are still queued."""
        self._faults.clear()

    def _answer(self, request: Request) -> Answer:
        self.requests.append(request)  # list.append is atomic
        request_id = f"{next(self._counter):032x}"
        fault = self._faults.take(request.path)
        if fault is not None:
            if fault.kind == "delay":
                self._stopping.wait(fault.seconds)
            if (replaced := fault.replacement(request_id)) is not None:
                return replaced
        try:
            answer = Answer(200, self._body(request, request_id))
        except _RefusalError as refused:
            answer = Answer(refused.status, json.dumps(dict(refused.body) | {"request_id": request_id}).encode())
        return answer if fault is None else fault.applied(answer)

    def _body(self, request: Request, request_id: str) -> bytes:
        self._check_key(request)
        with self.market.lock:
            if found := _GROUPED.fullmatch(request.path):
                return b'{"request_id":"%s",' % request_id.encode() + self._grouped(found[1], request.query)
            found_rows = self._small(request)
        if isinstance(found_rows, dict):
            found_rows["request_id"] = request_id
        return json.dumps(found_rows).encode()

    def _small(self, request: Request) -> Row | list[Row]:
        """Return the answer of every endpoint but the grouped one, which is kept as bytes."""
        if found := _RANGE.fullmatch(request.path):
            return self._range(unquote(found[1]), found[2], found[3], request)
        if request.path in _LISTS:
            rows, default, largest = _LISTS[request.path]
            _, found_rows, following = self._page(request, partial(rows, self.market), default, largest)
            return {"results": found_rows, "status": "OK", "count": len(found_rows)} | following
        if found := _TICKER.fullmatch(request.path):
            info = shapes.details(self.market, unquote(found[1]))
            if info is None:
                raise _RefusalError(404, {"status": "NOT_FOUND", "message": "Ticker not found."})
            return {"results": info, "status": "OK"}
        if request.path == "/v1/marketstatus/now":
            return shapes.market_now(self.market, self.now())
        if request.path == "/v1/marketstatus/upcoming":
            return shapes.upcoming_rows(self.market, self._today())
        raise _RefusalError(404, {"status": "ERROR", "error": f"no such endpoint: {request.path}"})

    def _grouped(self, text: str, query: Mapping[str, str]) -> bytes:
        """Return a grouped answer without its opening brace; made again only when its data changed."""
        session = _read_day(text, "date")
        self._check_day(session, session)
        adjusted = query.get("adjusted", "true") == "true"
        include_otc = query.get("include_otc", "false") == "true"
        cacheable = not adjusted and self.provisional is None
        raw = self.market.raw_rows.get(session, [])
        kept = self._cache.get((session, include_otc)) if cacheable else None
        # Bars never change in place, so comparing the dictionaries costs little more than a look at each pointer.
        if kept and kept.status == self._ok and kept.bars == self.market.bars.get(session, {}) and kept.raw_rows == raw:
            return kept.tail
        today = self._today()
        rows = shapes.grouped_rows(
            self.market,
            session,
            include_otc=include_otc,
            factor=lambda symbol: self.market.split_factor(symbol, session, today) if adjusted else 1.0,
            seen=self._seen,
        )
        frame = shapes.aggregates(rows, adjusted=adjusted, status=self._ok)
        tail = json.dumps(frame, separators=(",", ":")).encode()[1:]
        if cacheable:
            bars = dict(self.market.bars.get(session, {}))
            self._cache[session, include_otc] = _Cached(bars, [dict(row) for row in raw], self._ok, tail)
        return tail

    def _range(self, symbol: str, first_text: str, last_text: str, request: Request) -> Row:
        first, last = _read_day(first_text, "from"), _read_day(last_text, "to")
        self._check_day(first, last)
        start = max(first, self.plan_start or first)
        end = min(last, self._today())

        def rows(query: Mapping[str, str]) -> list[Row]:
            adjusted = query.get("adjusted", "true") == "true"
            return shapes.range_rows(
                self.market,
                symbol,
                sorted((day for day in self.market.bars if start <= day <= end), reverse=query.get("sort") == "desc"),
                factor=lambda day: self.market.split_factor(symbol, day, end) if adjusted else 1.0,
                seen=self._seen,
            )

        query, found, following = self._page(request, rows, 5000, 50000)
        adjusted = query.get("adjusted", "true") == "true"
        return {"ticker": symbol} | shapes.aggregates(found, adjusted=adjusted, status=self._ok) | following

    def _page(
        self, request: Request, rows: Callable[[Mapping[str, str]], list[Row]], default: int, largest: int
    ) -> tuple[dict[str, str], list[Row], Row]:
        """Return the query that counts (a cursor carries that of the first page), one page of rows, and `next_url`."""
        query = request.query
        if "cursor" in query:
            try:
                query = shapes.unpacked(query["cursor"])
            except ValueError:
                raise _RefusalError(400, {"status": "ERROR", "error": "invalid cursor"}) from None
        limit_text = query.get("limit", str(default))
        if not limit_text.isdigit() or not 1 <= int(limit_text) <= largest:
            raise _RefusalError(400, {"status": "ERROR", "error": f"limit must be between 1 and {largest}"})
        limit = min(int(limit_text), self.page_size or largest)
        found, following = shapes.page(
            rows(query),
            limit=limit,
            offset=int(query.get("page_marker", "0")),
            address=self.next_url_host + request.path,
            query=query,
        )
        return query, found, {} if following is None else {"next_url": following}

    @property
    def _ok(self) -> str:
        return "DELAYED" if self.delayed else "OK"

    def _today(self) -> date:
        return self.now().astimezone(NEW_YORK).date()

    def _seen(self, session: date, symbol: str, bar: Bar) -> Bar:
        return bar if self.provisional is None else self.provisional(session, symbol, bar, self.now())

    def _check_key(self, request: Request) -> None:
        given = request.query.get("apiKey") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if given != self.api_key:
            raise _RefusalError(401, BODIES[401] if given else {"status": "ERROR", "error": "API Key was not provided"})

    def _check_day(self, first: date, last: date) -> None:
        """Refuse days that the plan or the clock does not give away yet.

        A day in the future gets the text of a plan that is too small; users reported so:
        https://github.com/polygon-io/issues/issues/313
        """
        now = self.now().astimezone(NEW_YORK)
        if first > now.date() or (self.plan_start is not None and last < self.plan_start):
            raise _RefusalError(403, BODIES[403])
        if first <= now.date() <= last and now.time() < self.end_of_day:
            raise _RefusalError(403, _TODAY)


def _read_day(text: str, name: str) -> date:
    try:
        return shapes.day_of(text)
    except ValueError:
        error = f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD or Unix MS Timestamps"
        raise _RefusalError(400, {"status": "ERROR", "error": error}) from None
