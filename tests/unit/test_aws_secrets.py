"""What comes from Secrets Manager: the database's address beside its password, and settings with which it cannot be asked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from condvest.aws import secrets
from condvest.config import load_settings, settings_table
from condvest.errors import ConfigError

ARN = "arn:aws:secretsmanager:ca-west-1:123456789012:secret:condvest"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name in {setting.name for setting in settings_table()} or name.startswith(("CONDVEST_", "MASSIVE_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("RDS_SECRET_ARN", ARN)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it would keep the keys with which it was first used


@pytest.mark.parametrize(
    ("given", "kept", "port"),
    [
        ({}, {"port": 6432}, 6432),
        ({}, {"port": "6432"}, 6432),
        ({}, {}, 5432),
        ({"RDS_PORT": "7000"}, {"port": 6432}, 7000),
        ({"RDS_HOST": "elsewhere"}, {"port": 6432}, 5432),
    ],
)
def test_the_port_of_the_secret_goes_with_its_host(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], kept: dict[str, object], port: int
) -> None:
    """A secret as RDS keeps it names host, port and database; a port beside another host is none of it."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    text = json.dumps({"username": "u", "password": "p", "host": "db.example", "dbname": "d", **kept})
    monkeypatch.setattr(secrets, "_read", lambda *_: text)
    assert secrets.with_database_password(load_settings()).rds_port == port


def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the secret is repeated."""
    monkeypatch.setattr(secrets, "_read", lambda *_: '{"password": "p", "host": "h", "port": "s3cret"}')
    with pytest.raises(ConfigError, match="is no port") as refused:
        secrets.with_database_password(load_settings())
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "given", [{}, {"AWS_REGION": "ca-west-1"}, {"AWS_REGION": "ca-west-1", "AWS_ENDPOINT_URL": "127.0.0.1:1"}]
)
def test_wrong_settings_of_aws_are_no_trouble_that_passes(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    """Without a region, without keys, with an address that is none: trying again would be the same again."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="RDS_SECRET_ARN: Secrets Manager cannot be asked"):
        secrets.with_database_password(load_settings())
