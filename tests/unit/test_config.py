"""Settings: where they come from, which wins, and what a wrong one is told."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from condvest.config import Settings, load_settings, read_instant, settings_table
from condvest.errors import ConfigError

NAMES = [setting.name for setting in settings_table()]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test begins in an empty folder, with no setting in the environment."""
    for name in [*os.environ]:
        if name.upper() in NAMES or name.upper().startswith(("CONDVEST_", "MASSIVE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_without_any_setting_the_lake_is_a_folder_here() -> None:
    """Nothing has to be set to begin: a lake in ./lake, state in SQLite, the real clock."""
    settings = load_settings()
    assert settings.lake == "./lake"
    assert settings.rds_host is None
    assert settings.now is None
    assert settings.polygon_requests_per_minute == 5
    assert settings.polygon_base_url == "https://api.polygon.io"
    assert settings.condvest_fsync is True


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`.env` fills what the environment leaves open; an empty value is not set, in either place."""
    (tmp_path / ".env").write_text("LAKE_URL=from-file\nS3_BUCKET=kept\nRDS_HOST=\n# a comment\nOTHER_TOOL=1\n")
    monkeypatch.setenv("LAKE_URL", "from-environment")
    monkeypatch.setenv("S3_BUCKET", "")
    settings = load_settings()
    assert (settings.lake_url, settings.s3_bucket, settings.rds_host) == ("from-environment", "kept", None)


@pytest.mark.parametrize(
    ("in_file", "in_environment", "wins"),
    [
        ("POLYGON_API_KEY=a", {"MASSIVE_API_KEY": "b"}, "b"),
        ("MASSIVE_API_KEY=a", {}, "a"),
        ("MASSIVE_API_KEY=a", {"POLYGON_API_KEY": "b"}, "b"),
        ("", {"MASSIVE_API_KEY": "a", "POLYGON_API_KEY": "b"}, "b"),
    ],
)
def test_both_names_of_the_provider_name_one_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_file: str, in_environment: dict[str, str], wins: str
) -> None:
    """POLYGON_* and MASSIVE_* are one setting: the environment's wins over the file's whatever its name."""
    (tmp_path / ".env").write_text(in_file)
    for name, value in in_environment.items():
        monkeypatch.setenv(name, value)
    key = load_settings().polygon_api_key
    assert key is not None
    assert key.get_secret_value() == wins


@pytest.mark.parametrize(
    ("values", "lake"),
    [
        ({"S3_BUCKET": "b"}, "s3://b"),
        ({"S3_BUCKET": "b", "S3_PREFIX": "bronze/raw_ohlcv"}, "s3://b"),
        ({"S3_BUCKET": "b", "S3_PREFIX": "/bronze/raw_ohlcv/"}, "s3://b"),
        ({"S3_BUCKET": "b", "S3_PREFIX": "x/y/bronze/raw_ohlcv"}, "s3://b/x/y"),
        ({"S3_BUCKET": "b", "LAKE_URL": "s3://c/d"}, "s3://c/d"),
        ({"S3_PREFIX": "x/bronze/raw_ohlcv"}, "./lake"),
    ],
)
def test_bucket_and_prefix_name_a_lake(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], lake: str) -> None:
    """S3_BUCKET alone is a lake, S3_PREFIX moves it, LAKE_URL wins over both."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert load_settings().lake == lake


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ({}, "prefer"),
        ({"RDS_HOST": "localhost"}, "prefer"),
        ({"RDS_HOST": "db.example.com"}, "require"),
        ({"RDS_HOST": "db.example.com", "RDS_CA_FILE": "system"}, "verify-full"),
        ({"RDS_HOST": "db.example.com", "RDS_CA_FILE": "ca.pem"}, "verify-full"),
        ({"RDS_HOST": "db.example.com", "RDS_CA_FILE": "ca.pem", "RDS_SSLMODE": "verify-ca"}, "verify-ca"),
    ],
)
def test_a_database_elsewhere_is_never_spoken_to_in_clear(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: dict[str, str], mode: str
) -> None:
    """TLS is required unless the server is on this machine; a CA file means that its certificate is checked."""
    (tmp_path / "ca.pem").write_text("-")
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert load_settings().sslmode == mode


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_rds_is_never_spoken_to_in_clear(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """The least for RDS is `require`, whatever RDS_SSLMODE says; a server of one's own may be asked otherwise."""
    monkeypatch.setenv("RDS_SSLMODE", mode)
    monkeypatch.setenv("RDS_HOST", "lake.abc.ca-west-1.rds.amazonaws.com")
    with pytest.raises(ConfigError, match=f"RDS_SSLMODE is '{mode}'.*require at least"):
        _ = load_settings().sslmode
    monkeypatch.setenv("RDS_HOST", "postgres.internal")
    assert load_settings().sslmode == mode


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RDS_PORT", "abc", "RDS_PORT is 'abc'"),
        ("RDS_PORT", "0", "default: 5432"),
        ("RDS_PORT", "65536", "RDS_PORT is '65536'"),
        ("RDS_SSLMODE", "on", "'verify-full'"),
        ("RDS_CA_FILE", "/no/such.pem", "no such file"),
        ("S3_PREFIX", "elsewhere", "LAKE_URL"),
        ("S3_PREFIX", "xbronze/raw_ohlcv", "LAKE_URL"),
        ("S3_BUCKET", "s3://bucket", "no slash"),
        ("POLYGON_REQUESTS_PER_MINUTE", "-1", "POLYGON_REQUESTS_PER_MINUTE is '-1'"),
        ("POLYGON_REQUESTS_PER_MINUTE", "5.5", "POLYGON_REQUESTS_PER_MINUTE is '5.5'"),
        ("CONDVEST_NOW", "yesterday", "2025-11-20T21:30:00Z"),
        ("CONDVEST_NOW", "2025-11-20T21:30:00", "no time zone"),
        ("CONDVEST_NOW", "0001-01-01T00:00:00+23:00", "outside"),
        ("CONDVEST_CONCURRENCY", "0", "CONDVEST_CONCURRENCY"),
        ("CONDVEST_FSYNC", "perhaps", "CONDVEST_FSYNC is 'perhaps'"),
        ("CONDVEST_UNIVERS", "AAPL", "did you mean CONDVEST_UNIVERSE"),
        ("CONDVEST_ZZZZZZZZZ", "1", "README"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule_and_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """One line says which variable, what it holds and what it may hold."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    text = str(caught.value)
    assert name in text
    assert said in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "content",
    [b"LAKE_URL=ok\nsecret 's3cr3t\n", b"LAKE_URL=\xff\xfe s3cr3t\n"],
)
def test_a_broken_file_of_settings_is_told_without_its_content(tmp_path: Path, content: bytes) -> None:
    """A line that is no NAME=value is named by its number: it may hold a secret."""
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigError, match=r"\.env") as caught:
        load_settings()
    assert "s3cr3t" not in str(caught.value)


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    """What cannot be read is not passed over."""
    (tmp_path / ".env").mkdir()
    with pytest.raises(ConfigError, match=r"\.env cannot be read"):
        load_settings()


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `repr` nor `str` nor a dump of the settings holds a secret's value."""
    secrets = [field.upper() for field, info in Settings.model_fields.items() if "SecretStr" in str(info.annotation)]
    assert len(secrets) == 7
    for name in secrets:
        monkeypatch.setenv(name, "s3cr3t-value")
    settings = load_settings()
    assert "s3cr3t" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_the_table_lists_every_setting() -> None:
    """Each setting has a name, a meaning that is a sentence, and its default."""
    table = settings_table()
    assert len(table) == len(Settings.model_fields)
    for setting in table:
        assert setting.name.isupper()
        assert setting.meaning.endswith(".")
    found = {setting.name: setting for setting in table}
    assert found["RDS_PORT"].default == "5432"
    assert found["POLYGON_API_KEY"].default == ""
    assert "MASSIVE_API_KEY" in found["POLYGON_API_KEY"].meaning


def test_an_instant_comes_back_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any offset may be written."""
    monkeypatch.setenv("CONDVEST_NOW", "2025-11-20T16:30:00-05:00")
    assert load_settings().now == datetime(2025, 11, 20, 21, 30, tzinfo=UTC)
    assert read_instant(" 2025-11-20T21:30:00Z ", name="--now") == datetime(2025, 11, 20, 21, 30, tzinfo=UTC)


@pytest.mark.parametrize("path", ["~no-such-user/ca.pem", "x" * 5000])
def test_a_certificate_that_no_path_names(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A home that nobody has, a name too long: no such file, in one line."""
    monkeypatch.setenv("RDS_CA_FILE", path)
    with pytest.raises(ConfigError, match="RDS_CA_FILE"):
        load_settings()


def test_a_wait_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a number, and infinite, are floats too."""
    for text in ("inf", "nan"):
        monkeypatch.setenv("POLYGON_RETRY_SECONDS", text)
        with pytest.raises(ConfigError, match="POLYGON_RETRY_SECONDS"):
            load_settings()
