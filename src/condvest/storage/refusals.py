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


async def cleared(url: str, work: Awaitable[T]) -> T:
    """Return what `work` returns, and let no error of obstore out.

    Raises:
        ObjectNotFound: the server said that there is no such object (404, and the bucket is there).
        CommitConflict: a write's condition did not hold.
        ConfigError: access refused, no credentials, no such bucket, another region, an impossible option or key.
        TransientError: anything else: no connection, a time-out, 5xx, an answer cut short.
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
        return ConfigError(f"lake {url}: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if status in ("401", "403") or code in _REFUSED:
        return ConfigError(
            f"lake {url}: access refused ({said}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they "
            "may list the bucket and read, write and delete in it"
        )
    if status == "301" or code in _ELSEWHERE:
        return ConfigError(f"lake {url}: the bucket is in another region ({said}); set AWS_REGION to the bucket's")
    first = " ".join(text.partition("<")[0].split())[:300].rstrip(" :")
    if isinstance(error, ValueError):
        return ConfigError(f"lake {url}: {first}; correct the key or the setting that it names")
    return TransientError(f"lake {url}: {first} {code}".rstrip() + "; try again")
