"""Lambda events: each is exactly what its model says, or is refused in one line; nothing is guessed at."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest.aws.events import ConsolidateEvent, Event, FetchEvent, MetaEvent, RecordEvent, read_event
from condvest.errors import ConfigError
from fuzz.strategies import HOSTILE, fuzzed, spoiled

ROW = {"session_date": "2025-11-19", "state": "pending"}
VALID: dict[type[Event], dict[str, Any]] = {
    FetchEvent: {
        "date": "2025-11-19",
        "from": None,
        "to": None,
        "symbols": ["AAPL"],
        "accept_short": True,
        "orchestrated": False,
        "plan": {"sessions": ["2025-11-19"], "refused": [], "next_from": "2025-11-20"},
    },
    MetaEvent: {"listings": False, "details": ["AAPL"], "orchestrated": True},
    ConsolidateEvent: {"mode": "full", "symbols": ["AAPL"], "retention_days": 45, "skip_cleanup": True},
    RecordEvent: {
        "mode": "plan",
        "request": {"from": "2025-11-19", "symbols": [], "schedule": "close", "details": 3, "retention_days": 30},
        "bars": {"landed": {"refused": [], "symbols": ["A"], "date": "2025-11-19"}},
        "meta": {"landed": {"listings": ["x"], "listed_at": "2025-11-19T21:05:00Z"}},
    },
}
#: Values that a tolerant reader would take for something else.
LOOKALIKES: dict[str, list[Any]] = {
    "retention_days": ["30", 30.5, True, None, [30], "", -1, 1e300, 36_501, "٣٠"],
    "skip_cleanup": ["false", "true", 0, 1, None, "", []],
    "accept_short": ["false", 0, None],
    "orchestrated": ["no", 1],
    "listings": ["false", 0, None, []],
    "symbols": ["AAPL", "AAPL,MSFT", None, {"AAPL": 1}, [1], [None], [["AAPL"]]],
    "details": ["AAPL", 5, None],
    "mode": ["FULL", "full ", True, None, 1, ["full"]],
    "date": [20251119, True, ["2025-11-19"], {}],
    "plan": ["{}", [], 1],
}


def _taken(model: type[Event], event: object) -> Event | None:
    try:
        return read_event(model, event)
    except ConfigError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 600
        return None


@pytest.mark.parametrize("model", VALID)
@fuzzed(250)
@given(st.data())
def test_events_are_taken_as_they_are(model: type[Event], data: st.DataObject) -> None:
    """What an event names comes back unchanged, and what it does not name has its default: nothing is converted."""
    event = data.draw(
        st.one_of(
            spoiled(VALID[model]),
            st.dictionaries(st.sampled_from([*model.model_fields, "day", "first", "x"]), HOSTILE, max_size=3),
            HOSTILE,
        )
    )
    taken = _taken(model, event)
    if taken is None:
        return
    assert event is None or isinstance(event, dict)
    shown = json.loads(taken.model_dump_json(by_alias=True))
    named: dict[str, Any] = event if isinstance(event, dict) else {}
    for name, value in named.items():
        if name in ("bars", "meta", "request"):
            continue  # parts of an answer may hold more
        if name == "plan":
            continue  # any object; `planned` is the one that reads it
        # A symbol that is named twice is meant once.
        assert shown[name] == (list(dict.fromkeys(value)) if name == "symbols" and value else value), name
        assert type(shown[name]) is type(value), name
    if isinstance(taken, FetchEvent):
        try:
            taken.planned()
        except ConfigError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in LOOKALIKES.items() for value in values])
def test_lookalikes_are_refused(name: str, value: object) -> None:
    """`"false"` is not false, `"30"` no number, one symbol no list: the event is refused by name of the field."""
    for model in VALID:
        if name in {field.alias or key for key, field in model.model_fields.items()}:
            with pytest.raises(ConfigError, match=name):
                read_event(model, {name: value})


@pytest.mark.parametrize("model", VALID)
@pytest.mark.parametrize("name", ["day", "first", "last", "retention", "Mode", "symbol", "", "__class__", "dates"])
def test_unknown_fields_are_refused(model: type[Event], name: str) -> None:
    """Only the names of the contract are taken: not those that the code has for them, nor any other."""
    with pytest.raises(ConfigError, match="is not known"):
        read_event(model, {name: None})


@pytest.mark.parametrize(
    "plan",
    [
        {"sessions": ["2025-11-19"], "x": 1},
        {"sessions": [20251119]},
        {"sessions": "2025-11-19"},
        {"sessions": [0]},
        {},
        {"sessions": [1763510400]},
        {"sessions": [], "ledger": [{"session_date": "2025-11-19", "state": "done"}]},
        {"sessions": ["2025-11-19T00:00:00"]},
    ],
)
def test_plans_are_exact(plan: dict[str, Any]) -> None:
    """A plan with a field too many, or a date that is none, is refused, not put right."""
    with pytest.raises(ConfigError):
        read_event(FetchEvent, {"plan": plan}).planned()


def test_what_is_no_json() -> None:
    """What no Lambda would send, but a caller in Python may."""
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    for event in (b"{}", {1, 2}, {"symbols": {"A"}}, deep, {"symbols": deep}, float("nan"), {"symbols": ["\ud800"]}):
        with pytest.raises(ConfigError):
            read_event(FetchEvent, event)
