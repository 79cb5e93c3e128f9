"""The events that the handlers take: every field named and typed; what is unknown or wrong is refused before any work."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from condvest.app.dates import DateOptions
from condvest.app.zones import FetchPlan
from condvest.domain.answers import SessionRefusal
from condvest.errors import ConfigError

Model = TypeVar("Model", bound="Event")
Mode = Literal["incremental", "full"]
Days = Annotated[int, Field(ge=0, le=36_500)]
Symbols = list[str]

_PLAN = TypeAdapter(FetchPlan)
_REFUSED = TypeAdapter(list[SessionRefusal])


class Event(BaseModel):
    """An event of known fields and exact types."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, populate_by_name=True, hide_input_in_errors=True
    )


class Dates(Event):
    """Which sessions: `date` alone, or `from` with or without `to`, as `2025-11-19`; none: all that are due."""

    day: str | None = Field(None, alias="date")
    first: str | None = Field(None, alias="from")
    last: str | None = Field(None, alias="to")

    @property
    def dates(self) -> DateOptions:
        """The dates as a command has them."""
        return DateOptions(day=self.day, first=self.first, last=self.last, sign="")


class FetchEvent(Dates):
    """For `daily_ohlcv_fetcher`. With `symbols` (and dates): just those, by the range endpoint.

    `plan` comes from `record_session`; `orchestrated` says that a state machine goes on from here.
    """

    symbols: Symbols = Field(default_factory=list)
    accept_short: bool = False
    orchestrated: bool = False
    plan: dict[str, Any] | None = None

    def planned(self) -> FetchPlan | None:
        """Return the plan, None where nobody planned; ConfigError for one that is none."""
        return None if self.plan is None else _checked(_PLAN, self.plan, "plan")


class MetaEvent(Event):
    """For `daily_meta_fetcher`: whether to ask for the listings, and the symbols whose details to ask for."""

    listings: bool = True
    details: Symbols = Field(default_factory=list)
    orchestrated: bool = False


class ConsolidateEvent(Event):
    """For `consolidate_bronze`. `symbols` empty: all. `full` trusts no manifest and merges all that landed."""

    mode: Mode = "incremental"
    symbols: Symbols = Field(default_factory=list)
    retention_days: Days = 30
    skip_cleanup: bool = False


class Request(Dates):
    """What an execution of the state machine is asked for: nothing (whatever is due), or some of this.

    `schedule`: `close` ends at once on a day without a session, `final` when nothing is due. `details`: how many symbols'
    details to refresh.
    """

    symbols: Symbols = Field(default_factory=list)
    accept_short: bool = False
    schedule: Literal["close", "final"] | None = None
    details: Annotated[int, Field(ge=0, le=100_000)] = 0
    mode: Mode = "incremental"
    retention_days: Days = 30
    skip_cleanup: bool = False


class LandedBars(Dates):
    """What a fetch of bars says that it landed; looked up, not believed."""

    refused: list[dict[str, Any]] = Field(default_factory=list)
    symbols: Symbols = Field(default_factory=list)

    def refusals(self) -> list[SessionRefusal]:
        """Return the sessions without an answer."""
        return _checked(_REFUSED, self.refused, "refused")


class LandedListings(Event):
    """What a fetch of metadata says that it landed; looked up, not believed."""

    listings: list[str] = Field(default_factory=list)
    listed_at: AwareDatetime | None = None


class BarsAnswer(BaseModel):
    """The part of a fetcher's answer that recording needs; what failed has none."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    landed: LandedBars = LandedBars()


class MetaAnswer(BaseModel):
    """The part of a metadata fetcher's answer that recording needs; what failed has none."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    landed: LandedListings = LandedListings()


class RecordEvent(Event):
    """For `record_session`: `plan` a request, `record` what landed, `upgrade` the database's tables, or tell the `status`."""

    mode: Literal["plan", "record", "upgrade", "status"] = "record"
    request: Request = Request()
    bars: BarsAnswer = BarsAnswer()
    meta: MetaAnswer = MetaAnswer()


def read_event(model: type[Model], event: object) -> Model:
    """Return an event as its model; ConfigError names the first field that is wrong, and the fields that there are."""
    return _checked(TypeAdapter(model), {} if event is None else event, "event")


def plan_as_json(plan: FetchPlan) -> dict[str, Any]:
    """Return a plan as it travels in an event."""
    made: dict[str, Any] = _PLAN.dump_python(plan, mode="json", exclude_defaults=True)
    return made


def refused_as_json(refused: list[SessionRefusal]) -> list[dict[str, Any]]:
    """Return refusals as they travel in an event."""
    made: list[dict[str, Any]] = _REFUSED.dump_python(refused, mode="json")
    return made


Value = TypeVar("Value")


def _checked(adapter: TypeAdapter[Value], given: object, name: str) -> Value:
    try:
        return adapter.validate_json(json.dumps(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=True)[0]
        where = ".".join(map(str, first["loc"])) or name
        if first["type"] == "extra_forbidden":
            raise ConfigError(
                f"event field {where!r} is not known; the fields are {', '.join(_fields(adapter))}; correct or remove it"
            ) from None
        shown = repr(first["input"])[:60]
        raise ConfigError(f"event field {where!r} is {shown}: {first['msg'].lower()}; correct or remove it") from None


def _fields(adapter: TypeAdapter[Any]) -> list[str]:
    schema = adapter.json_schema(by_alias=True)
    return sorted(schema.get("properties", {}))
