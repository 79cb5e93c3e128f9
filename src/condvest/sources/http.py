"""The provider over HTTP: one client that guards the key, keeps to the rate limit and asks again where it helps."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

import httpx
from aiolimiter import AsyncLimiter

from condvest.aio import io_loop
from condvest.domain.answer_rows import check_levels
from condvest.domain.answers import MOST_BODY_BYTES
from condvest.errors import ConfigError, DataError, NotEntitled, NotYetAvailable, TransientError
from condvest.sources.redaction import redaction
from condvest.sources.retry import DEFAULT_RETRY, BusyError, RetryPolicy, retried

T = TypeVar("T")
Params = Mapping[str, str | int | bool] | tuple[tuple[str, str], ...]

_KEY_SETTING: Final = "POLYGON_API_KEY"
_BASE_SETTING: Final = "POLYGON_BASE_URL"
# Statuses that a good body never has; DELAYED is a good answer on delayed plans.
_BAD_STATUSES: Final = ("ERROR", "NOT_AUTHORIZED", "NOT_FOUND")
_BIG_BODY_BYTES: Final = 32_768
_OF_TRANSFER: Final = ("content-encoding", "content-length", "transfer-encoding")
#: What a client can ask for: printable ASCII, and no longer than servers take.
_ADDRESS: Final = re.compile(r"[!-~]{1,16384}")

# At DEBUG it prints the headers of answers, and a server may repeat the key in them.
logging.getLogger("httpcore").setLevel(logging.INFO)


class NotFoundError(DataError):
    """The provider knows nothing under that path."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A good answer: its body as received (content decoding undone) and what was read out of it."""

    body: bytes
    value: T


class ProviderClient:
    """A rate-limited, retrying HTTP client for one host and one key. Its methods run on the I/O loop.

    The key goes out in the Authorization header only, and only to `base_url`: redirects are not followed, and pages
    that point at other hosts are asked for here. Requests leave evenly spaced, so that no minute ever sees more than
    `requests_per_minute` of them (0: no limit), retries included; at most `in_flight` are under way at once.
    """

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
        """Check the settings and prepare; nothing is sent. ConfigError: a wrong URL, key or number."""
        self._base = httpx.URL(checked_base_url(base_url, setting=_BASE_SETTING))
        key = _checked_key(api_key)
        self._redaction = redaction(key)
        if requests_per_minute < 0:
            raise ConfigError(
                f"POLYGON_REQUESTS_PER_MINUTE is {requests_per_minute}; it must be 0 (no limit) or more;"
                " set what your plan allows"
            )
        self.retry = retry
        self.in_flight = in_flight
        self._timeout_seconds = timeout_seconds
        # One at a time, spaced: a bucket of N tokens would let through 2 N in its first minute.
        self._limiter = AsyncLimiter(1, 60 / requests_per_minute) if requests_per_minute else None
        self._slots = asyncio.Semaphore(in_flight)
        self._requests = 0
        self._bytes_in = 0
        secure = self._base.scheme == "https"
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_seconds,
            limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight),
            follow_redirects=False,
            # On loopback: no proxy from the environment, which would see the key in clear; certificates are not needed.
            trust_env=secure,
            verify=True if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    def __repr__(self) -> str:
        return f"ProviderClient({str(self._base)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def requests(self) -> int:
        """How many requests were sent so far, retries included."""
        return self._requests

    @property
    def bytes_in(self) -> int:
        """How many bytes of bodies came in so far, as transferred."""
        return self._bytes_in

    def close(self) -> None:
        """Close the connections. May be called twice."""
        io_loop().run(self._http.aclose())

    async def get_json(self, path: str, params: Params | None = None) -> Answer[Any]:
        """Return the JSON under a path; see `get`."""
        return await self.get(path, params, decode=decode_json)

    async def get(self, path: str, params: Params | None = None, *, decode: Callable[[bytes], T]) -> Answer[T]:
        """Return the answer for a path (percent-encoded, starting with `/`), read by `decode`.

        Retried, then TransientError: 408, 425, 429, 5xx, time-outs, broken connections, bodies that `decode` refuses
        with DataError. Not retried: ConfigError (401, a redirect), NotEntitled and NotYetAvailable (403), NotFoundError
        (404), DataError (any other refusal).
        """
        return await retried(self.retry, f"GET {path}", lambda: self._once(path, params, decode))

    def own_address(self, url: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Return path and query of a `next_url`, to be asked for here whatever host it names, without `apiKey`.

        A key elsewhere in it was taken out with the answer that gave it.

        DataError: it is no absolute URL or path.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if not parts.path.startswith("/") or not _ADDRESS.fullmatch(url):
            raise DataError(
                "next_url of the provider is no URL; a listing would end short; run the command again later"
            )
        prefix = self._base.path.rstrip("/")
        path = parts.path.removeprefix(prefix) if parts.path.startswith(f"{prefix}/") else parts.path
        query = parse_qsl(parts.query, keep_blank_values=True)
        return path, tuple((name, value) for name, value in query if name.lower() != "apikey")

    async def _once(self, path: str, params: Params | None, decode: Callable[[bytes], T]) -> Answer[T]:
        response = await self._send(path, params)
        # A server may repeat what it was sent: without the key, whatever is made of the answer is without it.
        body = self._redaction.body(response.content)
        if response.status_code != 200:
            raise self._refusal(path, response, body)
        try:
            value = await asyncio.to_thread(decode, body) if len(body) > _BIG_BODY_BYTES else decode(body)
        except DataError as error:
            failure = TransientError(self._redaction.text(str(error)))
        else:
            return Answer(body, value)
        raise failure

    async def _send(self, path: str, params: Params | None) -> httpx.Response:
        url = self._base.copy_with(raw_path=(self._base.path.rstrip("/") + path).encode("ascii"))
        async with self._slots:
            if self._limiter is not None:
                await self._limiter.acquire()
            self._requests += 1
            try:
                # httpx bounds each read; this bounds the whole: a server that drips bytes must not hold us for ever.
                async with asyncio.timeout(self._timeout_seconds):
                    async with self._http.stream("GET", url, params=params or None) as response:
                        return await self._read(response)
            except TimeoutError:
                failure = f"no whole answer within {self._timeout_seconds:g} s"
            except httpx.HTTPError as error:
                detail = self._redaction.text(str(error))
                failure = f"{type(error).__name__}{': ' if detail else ''}{detail}"
        # Raised here, unchained: httpx quotes a header that it cannot read, and its errors hold the request.
        if "CERTIFICATE_VERIFY_FAILED" in failure:
            raise ConfigError(
                f"{_BASE_SETTING}: the certificate of {self._base.host} was refused ({failure}); check the address, and name the"
                " CA of a proxy in between, if there is one, in SSL_CERT_FILE"
            )
        raise TransientError(failure)

    async def _read(self, response: httpx.Response) -> httpx.Response:
        """Return the whole answer, unpacked, as long as it is of a size that an answer may have."""
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > MOST_BODY_BYTES:
                raise TransientError(f"an answer of more than {MOST_BODY_BYTES >> 20} MiB, as none is")
        self._bytes_in += response.num_bytes_downloaded
        headers = [(name, value) for name, value in response.headers.items() if name not in _OF_TRANSFER]
        return httpx.Response(response.status_code, headers=headers, content=bytes(body))

    def _refusal(self, path: str, response: httpx.Response, body: bytes) -> Exception:
        """Return the error that an answer other than 200 stands for."""
        status, host = response.status_code, self._base.host
        said = self._said(body)
        if status == 401:
            return ConfigError(f"{_KEY_SETTING} was refused by {host} (401: {said}); set it to a key of your account")
        if status == 403:
            return _not_handed_out(path, said, entitlement=b"NOT_AUTHORIZED" in body)
        if 300 <= status < 400:
            return ConfigError(
                f"{_BASE_SETTING}: {host} redirects GET {path} ({status}); the key must not go elsewhere, so it"
                f" is not followed; set {_BASE_SETTING} to the provider's own address"
            )
        if status == 404:
            return NotFoundError(f"GET {path}: not found (404: {said}); check the symbol and {_BASE_SETTING}")
        if status in (408, 425, 429) or status < 400 or status >= 500:
            return BusyError(f"{status}: {said}", _retry_after_seconds(response))
        return DataError(
            f"GET {path}: refused ({status}: {said}); the request breaks a rule of the provider; report it"
        )

    def _said(self, body: bytes) -> str:
        """Return the provider's own words, for a person."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return "no JSON"
        words = (answer.get("message") or answer.get("error")) if isinstance(answer, dict) else None
        return self._redaction.text(str(words or "no reason given"))


def decode_json(body: bytes) -> Any:
    """Return the JSON in a body; DataError when it is none, or when its status says that it is an error."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the body ({len(body)} bytes) is not JSON") from error
    check_levels(answer, f"the body ({len(body)} bytes)")
    if isinstance(answer, dict) and answer.get("status") in _BAD_STATUSES:
        said = answer.get("message") or answer.get("error") or "no reason given"
        raise DataError(f"status {answer['status']} in a 200 answer: {said}")
    return answer


def checked_base_url(url: str, *, setting: str) -> str:
    """Return a base URL without a slash at its end; ConfigError (naming `setting`) unless keys are safe on it.

    That is https, or http on loopback; a host; no user, password, query or fragment.
    """
    remedy = f"set {setting} to something like https://api.massive.com"
    try:
        parts = urlsplit(url.strip())
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_fine = urlsplit(""), False
    if not parts.hostname or not port_is_fine or parts.scheme not in ("http", "https"):
        raise ConfigError(f"{setting} is no http(s) URL with a host; {remedy}")
    shown = f"{parts.scheme}://{parts.hostname}"
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{setting} ({shown}) must hold no user, password, query or fragment; {remedy}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigError(f"{setting} ({shown}) must be https: over http a key would go in clear; {remedy}")
    return url.strip().rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _checked_key(key: str) -> str:
    key = key.strip()
    if not key:
        raise ConfigError(f"{_KEY_SETTING} is not set; the provider needs a key; set it in the environment or in .env")
    if not all("!" <= char <= "~" for char in key):
        raise ConfigError(f"{_KEY_SETTING} holds a space or a character that is not ASCII; copy the key again")
    return key


def _not_handed_out(path: str, said: str, *, entitlement: bool) -> Exception:
    """Return what a 403 means: the plan, the time of day, or something in between us and the provider."""
    if not entitlement:
        return TransientError(f"403 without the provider's reason ({said}): a proxy or firewall may have answered")
    # A plan without today's data says so in words only.
    if "today's data" in said or "before end of day" in said:
        return NotYetAvailable(f"GET {path}: not handed out yet ({said}); run the command again later")
    return NotEntitled(f"GET {path}: the plan does not include it ({said}); upgrade the plan or ask for later sessions")


def _retry_after_seconds(response: httpx.Response) -> float | None:
    """Return the wait of a Retry-After header (seconds or a date, RFC 9110 10.2.3); None without a usable one."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        # Against the server's own clock, which needs none of ours.
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(response.headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())
