"""Settings: read from the environment and from `.env` in the working folder, typed and checked, secrets masked.

The environment wins over `.env`; an empty value counts as not set. Of two names for one setting (`POLYGON_*`,
`MASSIVE_*`) the first listed wins within the same place.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from dotenv.parser import parse_stream
from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from condvest.errors import ConfigError

BRONZE_PREFIX: Final = "bronze/raw_ohlcv"
DEFAULT_LAKE: Final = "./lake"
_OWN: Final = "CONDVEST_"
_MAYBE_CLEAR: Final = ("disable", "allow", "prefer")
_RDS: Final = re.compile(r"\.rds\.amazonaws\.com(\.cn)?\.?\s*(,|$)", re.IGNORECASE)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def read_instant(text: str, *, name: str) -> datetime:
    """Return the UTC instant in a text such as `2025-11-20T21:30:00Z`; ConfigError, naming `name`, for another text."""
    try:
        return _instant(text)
    except ValueError as error:
        raise ConfigError(f"{name} is {text!r}: {error}") from None


def _instant(text: str) -> datetime:
    remedy = "write an instant with its zone, for example 2025-11-20T21:30:00Z"
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"this is no instant; {remedy}") from None
    if instant.tzinfo is None:
        raise ValueError(f"this instant has no time zone; {remedy}")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"this instant is outside the years 1 to 9999; {remedy}") from None


def _checked_now(text: str) -> str:
    _instant(text)
    return text


def _bucket(text: str) -> str:
    if "/" in text or ":" in text:
        raise ValueError(
            "a bucket's name holds no slash and no colon; give the name alone, or the whole URL in LAKE_URL"
        )
    return text


def _prefix(text: str) -> str:
    text = text.strip("/")
    if text != BRONZE_PREFIX and not text.endswith(f"/{BRONZE_PREFIX}"):
        raise ValueError(
            f"the layout below a lake is fixed, so this must be {BRONZE_PREFIX} or end in /{BRONZE_PREFIX};"
            " to put the lake elsewhere, set LAKE_URL=s3://bucket/prefix"
        )
    return text


def _file(text: str) -> str:
    try:
        there = text == "system" or Path(text).expanduser().is_file()
    except (RuntimeError, OSError, ValueError):  # no such user, too long, a NUL
        there = False
    if not there:
        raise ValueError("there is no such file; give the path of the server's CA certificate (PEM)")
    return text


_SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class Settings(BaseSettings):
    """All settings, as given. Make one with `load_settings`; what each means is in `settings_table`."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True, str_strip_whitespace=True
    )

    lake_url: str | None = Field(
        None, description=f"Where the lake is: a path, file:///path or s3://bucket/prefix. Default: {DEFAULT_LAKE}."
    )
    s3_bucket: Annotated[str, AfterValidator(_bucket)] | None = Field(
        None, description="The lake's bucket, when LAKE_URL is not set: the lake is s3://S3_BUCKET."
    )
    s3_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        BRONZE_PREFIX,
        description=f"Where daily bars lie in S3_BUCKET. x/{BRONZE_PREFIX} means that the lake is s3://S3_BUCKET/x.",
    )
    aws_region: str | None = Field(
        None, description="Region of the bucket. Default: AWS_DEFAULT_REGION, then ca-west-1."
    )
    aws_endpoint_url: str | None = Field(None, description="A server that speaks S3, in place of AWS.")
    aws_access_key_id: SecretStr | None = Field(
        None, description="Key of the lake's bucket. Without: the role of the machine, as AWS gives it."
    )
    aws_secret_access_key: SecretStr | None = Field(None, description="Belongs to AWS_ACCESS_KEY_ID.")
    aws_session_token: SecretStr | None = Field(
        None, description="Belongs to AWS_ACCESS_KEY_ID when that is temporary."
    )
    rds_host: str | None = Field(
        None,
        description="PostgreSQL server of the state database, or the folder of its socket. Without: a SQLite file beside"
        " the lake.",
    )
    rds_port: int = Field(5432, ge=1, le=65535, description="Its port.")
    rds_database: str | None = Field(None, description="Its database. Needed with RDS_HOST.")
    rds_user: str | None = Field(None, description="Its user. Needed with RDS_HOST.")
    rds_password: SecretStr | None = Field(None, description="The user's password.")
    rds_sslmode: _SslMode | None = Field(
        None,
        description="As libpq has it. Default: verify-full with RDS_CA_FILE, else prefer on this machine, else require,"
        " which is the least for *.rds.amazonaws.com.",
    )
    rds_ca_file: Annotated[str, AfterValidator(_file)] | None = Field(
        None, description="CA certificate (PEM) that the server's is checked against, or `system`."
    )
    rds_secret_arn: str | None = Field(
        None,
        description="Secrets Manager ARN with user and password. Read by the AWS handlers only; elsewhere set RDS_PASSWORD.",
    )
    polygon_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("POLYGON_API_KEY", "MASSIVE_API_KEY"),
        description="The data provider's key. Needed to fetch.",
    )
    polygon_api_key_secret_arn: str | None = Field(
        None,
        description="Secrets Manager ARN with the key. Read by the AWS handlers only; elsewhere set POLYGON_API_KEY.",
    )
    polygon_base_url: str = Field(
        "https://api.polygon.io",
        validation_alias=AliasChoices("POLYGON_BASE_URL", "MASSIVE_BASE_URL"),
        description="The data provider's address: https, or http on this machine.",
    )
    polygon_requests_per_minute: int = Field(
        5, ge=0, description="Most requests to the provider in any minute; what the plan allows. 0: no limit."
    )
    polygon_retry_seconds: float = Field(
        600,
        ge=0,
        allow_inf_nan=False,
        description="How long a request to the provider that fails is tried again, 6 times at most. 0: once.",
    )
    polygon_flat_files_endpoint: str = Field("https://files.massive.com", description="Where the flat files are.")
    polygon_flat_files_bucket: str = Field("flatfiles", description="Their bucket.")
    polygon_flat_files_access_key_id: SecretStr | None = Field(
        None, description="S3 key of the provider's dashboard. Needed for --source flat-files."
    )
    polygon_flat_files_secret_access_key: SecretStr | None = Field(None, description="Belongs to it.")
    event_bus_name: str | None = Field(
        None, description="EventBridge bus that a fetch on AWS tells that bars have landed. Without: nobody is told."
    )
    resampling_intervals: str = Field("3,5,8,13,21,34", description="Which intervals `resample` builds, in sessions.")
    condvest_universe: str | None = Field(
        None,
        description="Limits the lake to some symbols: AAPL,BRK.B, or a file (its path holds a / or ends in .txt or .csv)"
        " with symbols on lines or between commas. After widening it run `condvest consolidate --force-full`."
        " Default: all symbols.",
    )
    condvest_now: Annotated[str, AfterValidator(_checked_now)] | None = Field(
        None, description="The instant that counts as now, for example 2025-11-20T21:30:00Z. Default: the clock."
    )
    condvest_concurrency: int = Field(
        64, ge=1, le=1024, description="Most requests to S3 in flight; fewer while it is busy."
    )
    condvest_fsync: bool = Field(
        True,
        description="false does not wait for the disk: faster, but a power failure may lose writes, and each command warns."
        " Folders only, for lakes that may be thrown away.",
    )

    @property
    def lake(self) -> str:
        """The lake's URL: LAKE_URL, else S3_BUCKET with what S3_PREFIX says, else `./lake`."""
        if self.lake_url is not None:
            return self.lake_url
        if self.s3_bucket is None:
            return DEFAULT_LAKE
        above = self.s3_prefix.removesuffix(BRONZE_PREFIX).strip("/")
        return f"s3://{self.s3_bucket}/{above}" if above else f"s3://{self.s3_bucket}"

    @property
    def now(self) -> datetime | None:
        """The instant of CONDVEST_NOW in UTC; None: the clock counts."""
        return None if self.condvest_now is None else read_instant(self.condvest_now, name="CONDVEST_NOW")

    @property
    def sslmode(self) -> str:
        """How the connection to RDS_HOST is secured, in libpq's words. ConfigError: one that may be in clear to RDS."""
        if self.rds_sslmode is not None:
            if self.rds_sslmode in _MAYBE_CLEAR and _RDS.search(self.rds_host or ""):
                raise ConfigError(
                    f"RDS_SSLMODE is {self.rds_sslmode!r}: with it the password may go to {self.rds_host} in clear; set it to"
                    " require at least, or to verify-full with RDS_CA_FILE"
                )
            return self.rds_sslmode
        if self.rds_ca_file is not None:
            return "verify-full"
        return "prefer" if self.rds_host is None or self.rds_host in _LOOPBACK else "require"


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table of settings, for people."""

    name: str
    default: str
    meaning: str


def settings_table() -> list[Setting]:
    """Return every setting with its default (empty: none) and meaning, in the order of the README."""
    table = []
    for field, info in Settings.model_fields.items():
        default = "" if info.default is None else str(info.default)
        meaning = info.description or ""
        others = ", ".join(_names(field)[1:])
        table.append(Setting(_names(field)[0], default, f"{meaning} Also {others}." if others else meaning))
    return table


def load_settings(folder: Path | None = None) -> Settings:
    """Read the settings; `folder` (default: the working folder) is where `.env` may lie.

    Raises:
        ConfigError: a value breaks its rule, a name that begins with CONDVEST_ is unknown, or `.env` cannot be read.
            One line, and no secret in it.
    """
    path = (folder or Path()) / ".env"
    in_file = _names_in(path)
    _check_names([*os.environ, *in_file])
    try:
        # pydantic's signature does not show the underscored parameters to a type checker without its plugin.
        values: dict[str, Any] = {"_env_file": path if in_file else None, "_env_file_encoding": "utf-8"}
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError(_line(error)) from None


def _names_in(path: Path) -> list[str]:
    """Return the names that a `.env` file sets, none where there is no file; ConfigError for one that cannot be read."""
    try:
        with path.open(encoding="utf-8") as lines:
            statements = list(parse_stream(lines))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path} cannot be read: {reason}; it holds NAME=value lines; correct or remove it") from None
    for statement in statements:
        if statement.error:
            raise ConfigError(
                f"{path}, line {statement.original.line}: this is no NAME=value (not repeated here, it may hold a secret);"
                " correct it, a value with a quote or a # goes into quotes"
            )
    return [statement.key for statement in statements if statement.key]


def _check_names(names: Iterable[str]) -> None:
    known = [name for field in Settings.model_fields for name in _names(field)]
    for name in names:
        if name.upper().startswith(_OWN) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
            hint = f"did you mean {near[0]}" if near else "condvest --help and the README list them all"
            raise ConfigError(f"{name} is no setting of condvest; {hint}; correct or unset it")


def _names(field: str) -> list[str]:
    alias = Settings.model_fields[field].validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [field.upper()]


def _line(error: ValidationError) -> str:
    """Return the first thing that is wrong: name, value unless secret, rule and remedy."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]).upper()
    fields: Mapping[str, str] = {known: field for field in Settings.model_fields for known in _names(field)}
    info = Settings.model_fields[fields[name]]
    rule = str(first["msg"]).removeprefix("Value error, ")
    rule = rule[0].lower() + rule[1:]
    shown = "" if "SecretStr" in str(info.annotation) else f" {first['input']!r}"
    remedy = "" if first["type"] == "value_error" else f"; correct or unset it (default: {info.default})"
    return f"{name} is{shown}: {rule}{remedy}"
