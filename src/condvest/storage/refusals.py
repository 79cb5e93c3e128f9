"""What obstore raises, turned into the errors of this project.

Texts of a server's answers are cut down to status and error code: some hold the access key, or what was signed with it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from condvest.errors import CommitConflict, CondvestError, ConfigError, ObjectNotFound, TransientError

T = TypeVar("T")

_RAISED = (BaseError, FileNotFoundError, ValueError)
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)")
_INSTANCE_METADATA = "/latest/"  # where obstore looks for credentials last; no key of a lake is that path
_REFUSED = frozenset(
    {
        "AccessDenied",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "RequestTimeTooSkewed",
    }
)
_ELSEWHERE = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"})
_BARE_REDIRECT = "redirect without LOCATION"  # what obstore says of S3's answer to a request in the wrong region
_BUSY = frozenset({"SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "TooManyRequests"})


class RequestFailed(TransientError):
    """One request failed in a way that another try may not meet: no connection, a time-out, 5xx, an answer cut short."""


class Throttled(RequestFailed):
    """The server gets more requests than it takes: 503 or 429, `SlowDown`."""


class NoCredentials(ConfigError):
    """No credentials were found, or whoever hands them out could not be reached just now."""


async def cleared(url: str, work: Awaitable[T]) -> T:
    """Return what `work` returns, and let no error of obstore out.

    Raises:
        ObjectNotFound: the server said that there is no such object (404, and the bucket is there).
        CommitConflict: a write's condition did not hold.
        ConfigError: access refused, no credentials (`NoCredentials`), no such bucket, another region, an impossible option or
            key.
        TransientError: anything else. `Throttled` where the server is busy, `RequestFailed` where another try may help: no
            connection, a time-out, 5xx, an answer cut short.
    """
    try:
        return await work
    except _RAISED as error:
        failure = _clear(error, url)
    raise failure  # here, as obstore's error holds the server's words and would go along as its context


def cleared_call(url: str, work: Callable[[], T]) -> T:
    """Return what a plain function returns; see `cleared`."""
    try:
        return work()
    except _RAISED as error:
        failure = _clear(error, url)
    raise failure


def _clear(error: Exception, url: str) -> CondvestError:
    text, _, dump = str(error).partition("Debug source:")
    status = found[1] if (found := _STATUS.search(text)) else ""
    code = found[1] or found[2] if (found := _CODE.search(text)) else ""
    said = " ".join(filter(None, (status, code)))
    if code == "NoSuchBucket":
        return ConfigError(f"lake {url}: there is no such bucket; make it, or give another one in LAKE_URL")
    if isinstance(error, AlreadyExistsError | PreconditionError):
        return CommitConflict(f"lake {url}: the object changed since it was read ({said}); read again")
    if isinstance(error, FileNotFoundError):
        return ObjectNotFound(f"lake {url}: no such object ({said}); list what is there")
    if found := _CERTIFICATE.search(dump):
        return ConfigError(
            f"lake {url}: the server's certificate was refused ({found[1]}); check AWS_ENDPOINT_URL, and name the server's"
            " own CA, if it has one, in SSL_CERT_FILE"
        )
    if _INSTANCE_METADATA in text.partition(" in ")[0]:
        return NoCredentials(f"lake {url}: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if status in ("401", "403") or code in _REFUSED:
        return ConfigError(
            f"lake {url}: access refused ({said}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they "
            "may list the bucket and read, write and delete in it"
        )
    if status == "301" or code in _ELSEWHERE or _BARE_REDIRECT in text:
        return ConfigError(f"lake {url}: the bucket is in another region ({said}); set AWS_REGION to the bucket's")
    first = " ".join(text.partition("<")[0].split())[:300].rstrip(" :")
    if isinstance(error, ValueError):
        return ConfigError(f"lake {url}: {first}; correct the key or the setting that it names")
    return _failure(status, code)(f"lake {url}: {first} {code}".rstrip() + "; try again")


def _failure(status: str, code: str) -> type[TransientError]:
    if status in ("429", "503") or code in _BUSY:
        return Throttled
    return RequestFailed if not status or status[0] == "5" else TransientError
