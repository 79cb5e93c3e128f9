"""Open the store that a URL names: the one place that knows which implementation serves it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from condvest.errors import ConfigError
from condvest.storage import layout
from condvest.storage.store import Store

DEFAULT_REGION = "ca-west-1"


def open_store(
    url: str | os.PathLike[str],
    *,
    region: str | None = None,
    endpoint_url: str | None = None,
    concurrency: int = 64,
    fsync: bool = True,
) -> Store:
    """Open the store that a URL names; touches neither disk nor network, except to sweep a folder's leftovers.

    Args:
        url: `s3://bucket/prefix`, `file:///path`, a plain path (`~` is expanded), or `memory://name`, shared by all
            who open that name in this process.
        region: of the bucket; else AWS_REGION, then AWS_DEFAULT_REGION, then ca-west-1. Only for S3.
        endpoint_url: of a server that speaks S3; else AWS_ENDPOINT_URL_S3, then AWS_ENDPOINT_URL. Only for S3.
        concurrency: most requests in flight, 1 or more. Not for folders.
        fsync: False does not wait for the disk: faster, but a power failure may lose writes. Only for folders.

    Raises:
        ConfigError: the URL has another form, or carries a credential (which is not repeated).
    """
    if isinstance(url, os.PathLike):
        return _open_folder(Path(url), fsync=fsync)
    if not isinstance(url, str) or not url.strip():
        raise ConfigError("lake URL is empty or no text: give a path, file:///path or s3://bucket/prefix")
    if "://" not in url:
        return _open_folder(Path(url), fsync=fsync)
    parts = _checked_url(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ConfigError(f"lake URL {url!r}: file URLs name no host; write file:///absolute/path")
        return _open_folder(Path(unquote(parts.path)), fsync=fsync)
    if parts.scheme == "memory":
        from condvest.storage.objects import memory_store

        return memory_store(parts.netloc + parts.path, concurrency=concurrency)
    return _open_s3(parts, region=region, endpoint_url=endpoint_url, concurrency=concurrency)


def holds_a_lake(store: Store) -> bool:
    """Say whether anything that a lake consists of lies there; files of others do not make one."""
    return any(store.holds(prefix) for prefix in (layout.LANDING, layout.METADATA, layout.BRONZE))


def _open_s3(parts: SplitResult, *, region: str | None, endpoint_url: str | None, concurrency: int) -> Store:
    # A folder lake never loads the client library of S3.
    from condvest.storage.objects import s3_store

    given = os.environ.get
    return s3_store(
        parts.netloc,
        parts.path.strip("/"),
        region=region or given("AWS_REGION") or given("AWS_DEFAULT_REGION") or DEFAULT_REGION,
        endpoint_url=endpoint_url or given("AWS_ENDPOINT_URL_S3") or given("AWS_ENDPOINT_URL") or None,
        concurrency=concurrency,
    )


def _checked_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"lake URL: {error}; give a path, file:///path or s3://bucket/prefix") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"lake URL of scheme {parts.scheme!r} holds a user, password, query or fragment (not repeated here): "
            "give credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.scheme not in ("file", "s3", "memory"):
        raise ConfigError(
            f"lake URL {url!r}: unknown scheme {parts.scheme!r}; give a path, file:///path or s3://bucket/prefix"
        )
    if parts.scheme != "file" and not parts.netloc:
        raise ConfigError(f"lake URL {url!r}: nothing between '//' and '/'; write {parts.scheme}://name/prefix")
    return parts


def _open_folder(path: Path, *, fsync: bool) -> Store:
    from condvest.storage.folder import FolderStore

    try:
        return FolderStore(path.expanduser(), fsync=fsync)
    except RuntimeError:
        raise ConfigError(f"lake path {str(path)!r}: no home folder is known; give an absolute path") from None
