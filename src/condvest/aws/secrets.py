"""Secrets Manager: the provider's key and the database's password, read anew at each call, so that a rotation needs no deploy."""

from __future__ import annotations

import json
import logging
import re
from typing import Any, Final

from pydantic import SecretStr

from condvest.config import Settings
from condvest.errors import CondvestError, ConfigError, TransientError

#: What passes by itself; everything else (no such secret, no permission) does not.
_PASSING: Final = ("ThrottlingException", "InternalServiceError", "ServiceUnavailable", "RequestTimeout")
_LAST_PORT: Final = 65_535


def with_provider_key(settings: Settings) -> Settings:
    """Return the settings with the key behind POLYGON_API_KEY_SECRET_ARN; a POLYGON_API_KEY that is set wins.

    The secret is the key itself, or a JSON object with the field POLYGON_API_KEY.
    """
    arn = settings.polygon_api_key_secret_arn
    if settings.polygon_api_key is not None or arn is None:
        return settings
    text = _read("POLYGON_API_KEY_SECRET_ARN", arn, settings).strip()
    key = _object(text).get("POLYGON_API_KEY", "") if text.startswith("{") else text
    if not isinstance(key, str) or not key.strip():
        raise ConfigError(
            "the secret of POLYGON_API_KEY_SECRET_ARN holds no key; put the provider's key there, as it is or as"
            ' {"POLYGON_API_KEY": "..."}'
        )
    return settings.model_copy(update={"polygon_api_key": SecretStr(key.strip())})


def with_database_password(settings: Settings) -> Settings:
    """Return the settings with user and password behind RDS_SECRET_ARN; an RDS_PASSWORD that is set wins.

    The secret is a JSON object as RDS keeps it: `username`, `password`, and maybe `host`, `port`, `dbname`, which count where
    RDS_HOST and RDS_DATABASE are not set; the port belongs to the host, and an RDS_PORT that is set wins.
    """
    arn = settings.rds_secret_arn
    if settings.rds_password is not None or arn is None:
        return settings
    found = _object(_read("RDS_SECRET_ARN", arn, settings))
    if not isinstance(found.get("password"), str) or not found["password"]:
        raise ConfigError(
            'the secret of RDS_SECRET_ARN holds no password; it is {"username": "...", "password": "..."}'
        )
    given = {
        "rds_user": settings.rds_user or found.get("username"),
        "rds_host": settings.rds_host or found.get("host"),
        "rds_database": settings.rds_database or found.get("dbname"),
        "rds_port": _port(settings, found),
    }
    return settings.model_copy(update={**given, "rds_password": SecretStr(found["password"])})


def _port(settings: Settings, found: dict[str, Any]) -> int:
    """Return the port of the host that counts: RDS_PORT, or where the secret names the host, the secret's."""
    given = found.get("port")
    if settings.rds_host is not None or "rds_port" in settings.model_fields_set or given is None:
        return settings.rds_port
    if not re.fullmatch(r"[1-9][0-9]{0,4}", str(given)) or int(given) > _LAST_PORT:
        raise ConfigError("the port in the secret of RDS_SECRET_ARN is no port; it is a number such as 5432")
    return int(given)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _read(name: str, arn: str, settings: Settings) -> str:
    import boto3  # the runtime has it; only what needs a secret pays for loading it
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        NoRegionError,
        ParamValidationError,
        PartialCredentialsError,
    )

    # At DEBUG they print the answer, and it holds the secret.
    for talkative in ("botocore", "urllib3"):
        logging.getLogger(talkative).setLevel(logging.INFO)
    failure: CondvestError
    try:
        client = boto3.client("secretsmanager", region_name=settings.aws_region, endpoint_url=settings.aws_endpoint_url)
        return str(client.get_secret_value(SecretId=arn)["SecretString"])
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _PASSING:
            failure = TransientError(f"{name}: Secrets Manager answers {code}; try again")
        else:
            failure = ConfigError(
                f"{name}: the secret cannot be read ({code}); check that it is there and that this role may read it"
            )
    except KeyError:
        failure = ConfigError(f"{name}: the secret holds bytes; put the value there as text")
    except (NoCredentialsError, NoRegionError, ParamValidationError, PartialCredentialsError, ValueError) as error:
        failure = ConfigError(
            f"{name}: Secrets Manager cannot be asked ({type(error).__name__}); check the ARN, AWS_REGION, AWS_ENDPOINT_URL and"
            " the keys of AWS"
        )
    except BotoCoreError as error:
        failure = TransientError(f"{name}: Secrets Manager cannot be reached ({type(error).__name__}); try again")
    raise failure  # here, as boto3's error holds the answer and would go along as its context
