"""Which URLs and options open a store, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from condvest.errors import ConfigError
from condvest.storage.opening import open_store


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("ftp://host/x", "unknown scheme 'ftp'"),
        ("s3://", "between"),
        ("memory://", "between"),
        ("file://host/x", "no host"),
        ("s3://[bucket", "URL"),
        ("s3://bucket/../x", "key '../x'"),
        ("s3://bucket/x?region=y", "not repeated"),
    ],
)
def test_a_wrong_url_is_refused(url: str, says: str) -> None:
    """A URL of another form gives one line that says what is wrong."""
    with pytest.raises(ConfigError, match=r"^[^\n]+$") as raised:
        open_store(url)
    assert says in str(raised.value)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    """A URL or endpoint that holds a secret is refused in words that do not hold it."""
    with pytest.raises(ConfigError) as in_url:
        open_store("s3://AKIAX:hunter2@bucket/x")
    with pytest.raises(ConfigError) as in_endpoint:
        open_store("s3://bucket/x", endpoint_url="https://AKIAX:hunter2@host")
    assert "hunter2" not in str(in_url.value) + str(in_endpoint.value)
    assert "AKIAX" not in str(in_url.value) + str(in_endpoint.value)


def test_wrong_options_are_refused() -> None:
    """An endpoint without scheme, a concurrency of none, and a bucket that lists in no order are refused."""
    with pytest.raises(ConfigError, match="directory bucket"):
        open_store("s3://lake--usw2-az1--x-s3/prefix")
    with pytest.raises(ConfigError, match="http"):
        open_store("s3://bucket", endpoint_url="localhost:9000")
    with pytest.raises(ConfigError, match="concurrency 0"):
        open_store("memory://x", concurrency=0)


def test_folder_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain path, one with `~`, a relative one and a file URL with escapes name the same folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my lake"
    urls = {open_store(url).url for url in (str(folder), "~/my lake", "my lake", f"file://{tmp_path}/my%20lake")}
    assert urls == {folder.as_uri()}
    assert not folder.exists()


def test_no_home_folder_is_said() -> None:
    """A `~` that stands for no known user's folder is refused."""
    with pytest.raises(ConfigError, match="absolute path"):
        open_store("~nobody-of-this-name/lake")
