"""The events that the handlers take: every field named and typed; what is unknown or wrong is refused before any work."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Collection
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from condvest.app.dates import DateOptions
from condvest.app.zones import FetchPlan
from condvest.domain.answers import SessionRefusal
from condvest.domain.metadata import LISTINGS, ListingName
from condvest.domain.symbols import parse_symbols
from condvest.errors import ConfigError

Model = TypeVar("Model", bound="Event")

#: Most symbols whose details one execution asks for: their names travel from state to state, which may carry 256 KiB.
MOST_DETAILS = 5_000


def _one_symbol(text: str) -> str:
    """Return a symbol unchanged; a list of several in one text is none."""
    try:
        found = parse_symbols(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if found != [text]:
        raise ValueError("this is no single symbol; give each as an item of the list, without spaces around it")
    return text


def _each_once(symbols: list[str]) -> list[str]:
    return list(dict.fromkeys(symbols))


Mode = Literal["incremental", "full"]
Days = Annotated[int, Field(ge=0, le=36_500)]
Symbol = Annotated[str, AfterValidator(_one_symbol)]
Symbols = Annotated[list[Symbol], AfterValidator(_each_once)]
#: Where no symbols would mean all of them, and that is not what an empty list says.
SomeSymbols = Annotated[list[Symbol], Field(min_length=1), AfterValidator(_each_once)]

_PLAN = TypeAdapter(FetchPlan)
_REFUSED = TypeAdapter(list[SessionRefusal])


class Event(BaseModel):
    """An event of known fields and exact types. Fields go by their documented names alone."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    def refuse_together(self, one: str, others: Collection[str]) -> None:
        """Refuse fields that are given beside one that makes them mean nothing."""
        if one not in self.model_fields_set:
            return
        names = {name: field.alias or name for name, field in type(self).model_fields.items()}
        given = sorted(names[name] for name in others if name in self.model_fields_set)
        if given:
            raise ValueError(f"{names[one]} does not go with {', '.join(given)}; leave one out")


class Left(Event):
    """What earlier calls of one run could not do: how much, and the first of it. The last call raises it."""

    count: Annotated[int, Field(ge=1)]
    first: str


class Dates(Event):
    """Which sessions: `date` alone, or `from` with or without `to`, as `2025-11-19`; none: all that are due."""

    day: str | None = Field(None, alias="date")
    first: str | None = Field(None, alias="from")
    last: str | None = Field(None, alias="to")

    @property
    def dates(self) -> DateOptions:
        """The dates as a command has them."""
        return DateOptions(day=self.day, first=self.first, last=self.last, sign="")

    def dates_as_json(self) -> dict[str, str]:
        """Return those that are given, as they travel in an event."""
        return self.model_dump(include={"day", "first", "last"}, by_alias=True, exclude_none=True)


_DATES = ("day", "first", "last")


class FetchEvent(Dates):
    """For `daily_ohlcv_fetcher`. With `symbols` (and dates): just those, by the range endpoint.

    `plan` comes from `record_session`; `orchestrated` says that a state machine goes on from here; `left` comes from an
    earlier call.
    """

    symbols: SomeSymbols = Field(default_factory=list)
    accept_short: bool = False
    orchestrated: bool = False
    plan: dict[str, Any] | None = None
    left: Left | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.refuse_together("symbols", ["plan", "accept_short"])
        self.refuse_together("plan", _DATES)
        return self

    def planned(self) -> FetchPlan | None:
        """Return the plan, None where nobody planned; ConfigError for one that is none."""
        return None if self.plan is None else _checked(_PLAN, self.plan, "plan", within="plan")


class MetaEvent(Event):
    """For `daily_meta_fetcher`: which listings to ask for, and the symbols whose details to ask for.

    `resume` and `left` come from an earlier call: when the listing began whose rest is to be asked for, and what is left.
    """

    listings: list[ListingName] = Field(default_factory=lambda: [*LISTINGS])
    details: Annotated[Symbols, Field(max_length=MOST_DETAILS)] = Field(default_factory=list)
    orchestrated: bool = False
    resume: AwareDatetime | None = None
    left: Left | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.listings and not self.details:
            raise ValueError(
                "neither listings nor details are asked for; name some of them, or send {} for all listings"
            )
        return self


class ConsolidateEvent(Event):
    """For `consolidate_bronze`. `symbols` empty: all. `full` trusts no manifest and merges all that landed.

    `left` comes from an earlier call.
    """

    mode: Mode = "incremental"
    symbols: Symbols = Field(default_factory=list)
    retention_days: Days = 30
    skip_cleanup: bool = False
    left: Left | None = None


class Request(Dates):
    """What an execution of the state machine is asked for: nothing (whatever is due), or some of this.

    `schedule`: `close` ends at once on a day without a session, `final` when nothing is due. `details`: how many symbols'
    details to refresh.
    """

    symbols: SomeSymbols = Field(default_factory=list)
    accept_short: bool = False
    schedule: Literal["close", "final"] | None = None
    details: Annotated[int, Field(ge=0, le=MOST_DETAILS)] = 0
    mode: Mode = "incremental"
    retention_days: Days = 30
    skip_cleanup: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.refuse_together("symbols", ["accept_short"])
        self.refuse_together("schedule", [*_DATES, "symbols"])
        return self


class RecordEvent(Event):
    """For `record_session`: `plan` a request, `record` what landed, `upgrade` the database's tables, or tell the `status`.

    `refused`: sessions of which a fetch got no answer.
    """

    mode: Literal["plan", "record", "upgrade", "status"] = "record"
    request: Request = Request()
    refused: list[dict[str, Any]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for field, mode in (("request", "plan"), ("refused", "record")):
            if field in self.model_fields_set and self.mode != mode:
                raise ValueError(f"{field} goes with mode {mode} alone, and this is {self.mode}; leave it out")
        return self

    def refusals(self) -> list[SessionRefusal]:
        """Return the sessions without an answer; ConfigError for what is none."""
        return _checked(_REFUSED, self.refused, "refused", within="refused")


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


def _checked(adapter: TypeAdapter[Value], given: object, name: str, *, within: str = "") -> Value:
    # A dataclass takes its strictness from here, a model has its own. A field has its name in events, and no other.
    exact: dict[str, Any] = {"strict": True, "extra": "forbid"} if adapter is _PLAN or adapter is _REFUSED else {}
    try:
        return adapter.validate_json(json.dumps(given), by_alias=True, by_name=False, **exact)
    except ValidationError as error:
        raise _refusal(error, adapter, name, within) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is no JSON ({error}); give an object of known fields") from None


def _refusal(error: ValidationError, adapter: TypeAdapter[Any], name: str, within: str) -> ConfigError:
    first = error.errors(include_url=False, include_input=True)[0]
    where = ".".join(str(part) for part in ([within] if within else []) + [*first["loc"]]) or name
    if first["type"] == "extra_forbidden":
        known = ", ".join(_fields(adapter, first["loc"]))
        return ConfigError(f"event field {where!r} is not known; the fields are {known}; correct or remove it")
    said = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        return ConfigError(f"event{'' if where == name else f' field {where!r}'}: {said}")
    told = f"event field {where!r} is {reprlib.repr(first['input'])}: {said[:1].lower() + said[1:]}"
    return ConfigError(f"{told}; correct or remove it")


def _fields(adapter: TypeAdapter[Any], where: tuple[int | str, ...]) -> list[str]:
    """Return the names of the fields beside the one at a place."""
    schema = adapter.json_schema(by_alias=True)
    found: dict[str, Any] = schema
    for part in where[:-1]:
        found = found.get("properties", {}).get(part, {})
        name = str(found.get("$ref", "")).rpartition("/")[2]
        found = schema.get("$defs", {}).get(name, found)
    return sorted(found.get("properties", {}))
