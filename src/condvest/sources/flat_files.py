"""The provider's flat files: one gzipped CSV a session, on an S3 endpoint with keys of its own."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from condvest.domain.answers import ParsedBars, SessionAnswer, SessionRefusal, gunzip, parse_flat_file
from condvest.errors import ConfigError, DataError, NotEntitled, NotYetAvailable, TransientError
from condvest.sources.http import checked_base_url
from condvest.sources.retry import DEFAULT_RETRY, RetryPolicy, retried
from condvest.sources.sessions import fetch_in_order, with_rows

if TYPE_CHECKING:
    from obstore.store import S3Credential

#: The first session that the provider has a file for.
FIRST_SESSION: Final = date(2003, 9, 10)
_PREFIX: Final = "POLYGON_FLAT_FILES"
# S3's names for keys that are wrong, in contrast to keys that may not read this object.
_WRONG_KEYS: Final = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "AuthorizationHeaderMalformed",
)

_CERTIFICATE: Final = re.compile(r"InvalidCertificate\(\s*(\w+)")


class FlatFileSource:
    """Whole sessions from the provider's flat files: unadjusted, there from about 11:00 New York time the next day."""

    kind: Final[Literal["flat_files"]] = "flat_files"

    def __init__(
        self,
        *,
        access_key_id: str,
        secret_access_key: str,
        endpoint: str = "https://files.massive.com",
        bucket: str = "flatfiles",
        retry: RetryPolicy = DEFAULT_RETRY,
        in_flight: int = 8,
        timeout_seconds: float = 60.0,
    ) -> None:
        """Check the settings; nothing is asked yet. ConfigError: a key is missing, the endpoint unsafe."""
        needed = {"ACCESS_KEY_ID": access_key_id, "SECRET_ACCESS_KEY": secret_access_key, "BUCKET": bucket}
        for name, value in needed.items():
            if not value.strip():
                raise ConfigError(
                    f"{_PREFIX}_{name} is not set; flat files need it; take it from the provider's dashboard"
                )
        self._bucket = bucket
        self._endpoint = checked_base_url(endpoint, setting=f"{_PREFIX}_ENDPOINT")
        self._retry = retry
        self._in_flight = in_flight
        self._requests = 0
        self._bytes_in = 0
        credential: S3Credential = {
            "access_key_id": access_key_id.strip(),
            "secret_access_key": secret_access_key.strip(),
            "token": None,
            "expires_at": None,
        }
        self._store = _opened(bucket, self._endpoint, credential, timeout_seconds=timeout_seconds)

    def __repr__(self) -> str:
        return f"FlatFileSource({self._endpoint!r}, bucket={self._bucket!r})"

    @property
    def requests(self) -> int:
        """How many requests were sent so far, retries included."""
        return self._requests

    @property
    def bytes_in(self) -> int:
        """How many bytes of objects came in so far, as stored (gzipped)."""
        return self._bytes_in

    def fetch_sessions(self, sessions: Sequence[date]) -> Iterator[SessionAnswer | SessionRefusal]:
        """Yield one outcome a session, in the order given; `body` is the CSV, no longer gzipped.

        A file that is not there yet is `pending`, one before the plan or before 2003-09-10 `not_entitled`. Lazy: never
        more than `in_flight` sessions ahead of the consumer. ConfigError: the keys or the bucket were refused.
        """
        return fetch_in_order(sessions, self._session, in_flight=self._in_flight)

    async def _session(self, session: date) -> SessionAnswer:
        if session < FIRST_SESSION:
            raise NotEntitled(
                f"{session}: the provider's flat files begin on {FIRST_SESSION}; fetch it over the REST API"
            )
        return await with_rows(self._retry, partial(self._ask_session, session))

    async def _ask_session(self, session: date) -> SessionAnswer:
        key = object_key(session)
        return await retried(self._retry, f"GET s3://{self._bucket}/{key}", partial(self._once, key, session))

    async def _once(self, key: str, session: date) -> SessionAnswer:
        packed = await self._packed(key, session)
        self._bytes_in += len(packed)
        body, parsed = await asyncio.to_thread(_unpacked, packed, session)
        return SessionAnswer(session, body, parsed)

    async def _packed(self, key: str, session: date) -> bytes:
        self._requests += 1
        try:
            return bytes(await (await self._store.get_async(key)).bytes_async())
        except FileNotFoundError as error:
            failure = self._absent(str(error), key, session)
        except (PermissionDeniedError, UnauthenticatedError) as error:
            failure = self._forbidden(error, key, session)
        except BaseError as error:
            failure = self._failed(str(error))
        raise failure  # here, as obstore's error holds the server's words and would go along as its context

    def _failed(self, text: str) -> Exception:
        if found := _CERTIFICATE.search(text):
            return ConfigError(
                f"{_PREFIX}_ENDPOINT: the certificate of {self._endpoint} was refused ({found[1]}); check the address, and name"
                " the CA of a proxy in between, if there is one, in SSL_CERT_FILE"
            )
        return TransientError(_said(text))

    def _absent(self, text: str, key: str, session: date) -> Exception:
        if "NoSuchBucket" in text:
            return ConfigError(
                f"{_PREFIX}_BUCKET: {self._endpoint} has no bucket {self._bucket!r}; set it to the provider's"
            )
        return NotYetAvailable(
            f"{key} is not there yet: a file is ready about 11:00 New York time on the day after {session};"
            " run the command again then"
        )

    def _forbidden(self, error: Exception, key: str, session: date) -> Exception:
        """Return what a 403 means: keys that are wrong, or a session before the (rolling) window of the plan."""
        wrong = next((code for code in _WRONG_KEYS if code in str(error)), None)
        if wrong is not None or isinstance(error, UnauthenticatedError):
            return ConfigError(
                f"{_PREFIX}_ACCESS_KEY_ID or {_PREFIX}_SECRET_ACCESS_KEY was refused by {self._endpoint}"
                f" ({wrong or 'unauthorized'}); set both to the S3 keys of your dashboard, not to the API key"
            )
        return NotEntitled(
            f"{key}: the plan does not include flat files of {session} (403); upgrade it or ask for later ones"
        )


def object_key(session: date) -> str:
    """Return where the provider keeps the day aggregates of all stocks of a session."""
    return f"us_stocks_sip/day_aggs_v1/{session:%Y/%m}/{session}.csv.gz"


def _opened(bucket: str, endpoint: str, credential: S3Credential, *, timeout_seconds: float) -> S3Store:
    # obstore fills what is not given from AWS_*: those belong to the lake; its session token must not be sent here.
    return S3Store(
        bucket,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        region="us-east-1",
        credential_provider=lambda: credential,
        skip_signature=False,
        virtual_hosted_style_request=False,
        request_payer=False,
        s3_express=False,
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "allow_invalid_certificates": False,
            "timeout": timedelta(seconds=timeout_seconds),
        },
        retry_config={"max_retries": 0},  # `RetryPolicy` is the one that retries
    )


def _unpacked(packed: bytes, session: date) -> tuple[bytes, ParsedBars]:
    try:
        body = gunzip(packed)
        return body, parse_flat_file(body, session)
    except (EOFError, zlib.error) as error:
        raise TransientError(f"{len(packed)} bytes that are no whole gzip file ({error})") from error
    except DataError as error:
        raise TransientError(
            str(error)
        ) from error  # half-written or replaced meanwhile: another look may find it whole


def _said(text: str) -> str:
    """Return the status or the S3 error code in what obstore says, without addresses, keys and its debug dump."""
    found = re.search(r"status code: (\d{3}[\w ]*)", text) or re.search(r" - ([^\n]{1,120})", text)
    return found[1].strip() if found else "the request failed"
