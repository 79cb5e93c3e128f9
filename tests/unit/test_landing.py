"""Landing: which answers came, in which order they count, and what they say of each session together."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from condvest.domain.answers import parse_grouped
from condvest.errors import DataError
from condvest.storage import landing, layout
from condvest.storage.landing import Folded, fold, fold_answers, next_instant, only, pack, read_index, receipt, unpack
from condvest.storage.opening import open_store
from condvest.storage.store import Store

MON, TUE, WED = (date(2025, 11, day) for day in (3, 4, 5))
AT = datetime(2025, 11, 3, 21, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
DIGEST = "0123456789abcdef"


@pytest.fixture
def memory() -> Store:
    """An empty store."""
    return open_store(f"memory://{uuid.uuid4().hex}")


def rows(**closes: float) -> list[dict[str, object]]:
    """Return a row for each symbol."""
    return [
        {"T": symbol, "o": close, "h": close + 1, "l": close / 2, "c": close, "v": 10.0, "vw": close, "n": 3}
        for symbol, close in closes.items()
    ]


def land(store: Store, session: date, at: datetime, digest: str = DIGEST, **closes: float) -> str:
    """Land a whole session's answer."""
    key = layout.landing_key("grouped", session, at, digest)
    store.put(key, pack(json.dumps({"results": rows(**closes)}).encode()))
    return key


def land_range(store: Store, symbol: str, first: date, closes: Sequence[float], at: datetime) -> str:
    """Land one symbol's answer for as many days from `first` on as there are closes."""
    days = [first + timedelta(days=number) for number in range(len(closes))]
    starts = [int(datetime(day.year, day.month, day.day, 5, tzinfo=UTC).timestamp()) * 1000 for day in days]
    listed = [rows(**{symbol: close})[0] | {"t": start} for close, start in zip(closes, starts, strict=True)]
    key = layout.range_landing_key(symbol, at, DIGEST, first, days[-1])
    store.put(key, pack(json.dumps({"ticker": symbol, "results": listed}).encode()))
    return key


def folded(store: Store, *sessions: date, symbols: Sequence[str] | None = None) -> list[Folded]:
    """Fold sessions, or all."""
    asked = list(sessions) or None
    return list(fold(store, asked, read_index(store, asked), symbols))


def told(found: Folded) -> dict[str, tuple[float, datetime]]:
    """Return close and `ingested_at` by symbol."""
    return {row["symbol"]: (row["close"], row["ingested_at"]) for row in found.bars.to_pylist()}


# --- bodies -----------------------------------------------------------------------------------------------------


def test_a_body_is_packed_the_same_each_time_and_comes_back() -> None:
    """Same body, same bytes: no clock time inside."""
    body = b'{"results": []}' * 100
    assert pack(body) == pack(body)
    assert (unpack(pack(body), "key"), gzip.decompress(pack(body))) == (body, body)


@pytest.mark.parametrize("data", [b"", b"plain", pack(b"x" * 100)[:-9], pack(b"x" * 100)[:12] + b"\0\0\0\0"])
def test_a_body_that_is_corrupt_is_named(data: bytes) -> None:
    """One line with the key and the remedy."""
    with pytest.raises(DataError, match=r"^the/key: the landed answer is corrupt .*restore it"):
        unpack(data, "the/key")


def test_a_receipt_says_what_it_confirms(memory: Store) -> None:
    """A person can read which answer was confirmed when."""
    key = layout.parse_landing_key(land(memory, MON, AT))
    assert key is not None
    content = json.loads(receipt(key, AT + HOUR))
    assert content == {"confirms": DIGEST, "landed_at": AT.isoformat(), "at": (AT + HOUR).isoformat()}


# --- the index --------------------------------------------------------------------------------------------------


def test_answers_count_in_the_order_in_which_they_came(memory: Store) -> None:
    """By instant, then kind, then digest: any listing order gives the same."""
    land(memory, MON, AT + HOUR, "bbbbbbbbbbbbbbbb", A=2.0)
    land(memory, MON, AT, "ffffffffffffffff", A=1.0)
    index = read_index(memory)
    assert [key.digest[0] for _, key in index.answers[MON]] == ["f", "b"]
    last = index.last(MON)
    assert last is not None
    assert last.digest == "bbbbbbbbbbbbbbbb"
    assert index.last(TUE) is None


def test_a_receipt_moves_until_when_the_provider_was_heard(memory: Store) -> None:
    """The last answer or a later receipt for it; nothing where no answer landed."""
    assert read_index(memory).seen_through(MON) is None
    memory.put(layout.confirmed_key(TUE, AT, DIGEST), b"{}")
    assert read_index(memory).seen_through(TUE) is None
    land(memory, MON, AT)
    assert read_index(memory, [MON]).seen_through(MON) == AT
    for hours in (20, 3):
        memory.put(layout.confirmed_key(MON, AT + hours * HOUR, DIGEST), b"{}")
    assert read_index(memory, [MON]).seen_through(MON) == AT + 20 * HOUR
    land(memory, MON, AT + 30 * HOUR)
    assert read_index(memory, [MON]).seen_through(MON) == AT + 30 * HOUR


def test_an_answer_can_be_noted_without_listing_again(memory: Store) -> None:
    """What a run lands counts at once; foreign keys are passed over."""
    index = read_index(memory)
    for key in (land(memory, MON, AT), layout.confirmed_key(MON, AT + HOUR, DIGEST), "bronze/landing/notes.txt"):
        index.note(key)
    assert (index.seen_through(MON), index.answers) == (AT + HOUR, read_index(memory).answers)


def test_the_latest_answer_about_some_sessions(memory: Store) -> None:
    """Whole sessions and ranges that touch them, of one symbol or of all."""
    assert read_index(memory).latest(MON, WED) is None
    land(memory, MON, AT, A=1.0)
    land_range(memory, "A", TUE, [2.0, 3.0], AT + HOUR)
    land_range(memory, "B", WED, [2.0], AT + 2 * HOUR)
    index = read_index(memory)

    def latest(first: date, last: date, symbol: str | None = None) -> datetime | None:
        found = index.latest(first, last, symbol)
        return found.instant if found else None

    assert latest(MON, MON) == AT
    assert latest(MON, TUE) == AT + HOUR
    assert latest(MON, WED) == AT + 2 * HOUR
    assert latest(MON, WED, "A") == AT + HOUR
    assert latest(TUE, TUE, "B") is None


@pytest.mark.parametrize("number", [3, 25])
def test_some_sessions_are_listed_as_all_would_be(memory: Store, number: int) -> None:
    """Few sessions are listed one by one, many by one listing: the answers are the same; foreign files never count."""
    days = [MON + timedelta(days=day) for day in range(number)]
    for day in days:
        land(memory, day, AT)
    memory.put("bronze/landing/grouped/date=2025-11-03/notes.txt", b"mine")
    assert read_index(memory, days).answers == read_index(memory).answers
    assert read_index(memory, days[:2]).last(days[0]) == read_index(memory).last(days[0])


def test_ranges_that_touch_no_asked_session_are_left_out(memory: Store) -> None:
    """A range counts where one of the sessions lies in its bounds."""
    land_range(memory, "A", MON, [1.0, 2.0], AT)
    assert len(read_index(memory, [TUE]).ranges) == 1
    assert read_index(memory, [WED]).ranges == []
    assert len(read_index(memory).ranges) == 1


def test_instants_never_go_back() -> None:
    """A clock that stands still or goes back still puts the new answer after the last one."""
    key = layout.parse_landing_key(layout.landing_key("grouped", MON, AT, DIGEST))
    assert next_instant(AT, None) == AT
    assert next_instant(AT + HOUR, key) == AT + HOUR
    assert next_instant(AT, key) == next_instant(AT - HOUR, key) == AT + timedelta(microseconds=1)


# --- the fold ---------------------------------------------------------------------------------------------------


def test_one_answer_is_what_it_says(memory: Store) -> None:
    """All its bars, `ingested_at` the instant of the answer."""
    land(memory, MON, AT, B=2.0, A=1.0)
    (found,) = folded(memory, MON)
    assert (found.session, found.restated) == (MON, 0)
    assert found.bars["symbol"].to_pylist() == ["A", "B"]
    assert told(found) == {"A": (1.0, AT), "B": (2.0, AT)}


def test_the_last_value_wins_and_a_value_that_stays_keeps_its_instant(memory: Store) -> None:
    """A restated bar has the instant of the answer that changed it, an unchanged one that of the first."""
    land(memory, MON, AT, A=1.0, B=2.0)
    land(memory, MON, AT + HOUR, A=1.0, B=3.0, C=4.0)
    (found,) = folded(memory, MON)
    assert told(found) == {"A": (1.0, AT), "B": (3.0, AT + HOUR), "C": (4.0, AT + HOUR)}
    assert found.restated == 1


def test_a_value_that_comes_back_counts_twice(memory: Store) -> None:
    """A, B, A: two restatements, and the instant of the last."""
    for number, close in enumerate((1.0, 2.0, 1.0)):
        land(memory, MON, AT + number * HOUR, A=close)
    (found,) = folded(memory, MON)
    assert (told(found), found.restated) == ({"A": (1.0, AT + 2 * HOUR)}, 2)


def test_a_bar_that_a_later_answer_no_longer_holds_stays(memory: Store) -> None:
    """What the provider said once is not forgotten."""
    land(memory, MON, AT, A=1.0, B=2.0)
    land(memory, MON, AT + HOUR, A=1.0)
    assert told(folded(memory, MON)[0]) == {"A": (1.0, AT), "B": (2.0, AT)}


def test_ranges_take_part_in_order(memory: Store) -> None:
    """A range answer restates like any other, and a whole session after it again."""
    land(memory, MON, AT, A=1.0, B=2.0)
    land_range(memory, "A", MON, [5.0, 6.0], AT + HOUR)
    land(memory, MON, AT + 2 * HOUR, A=5.0, B=7.0)
    monday, tuesday = folded(memory)
    assert told(monday) == {"A": (5.0, AT + HOUR), "B": (7.0, AT + 2 * HOUR)}
    assert (monday.restated, told(tuesday)) == (2, {"A": (6.0, AT + HOUR)})


def test_ranges_of_one_instant_are_folded_in_one_step(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step an instant, not one a symbol: each costs the rows that are known, and a fetch brings hundreds of symbols."""
    symbols = [f"S{number:02}" for number in range(20)]
    for symbol in symbols:
        land_range(memory, symbol, MON, [1.0, 2.0], AT)
    land_range(memory, "S07", MON, [3.0], AT + HOUR)
    steps: list[int] = []

    def counted(session: date, answers: Sequence[tuple[layout.LandingKey, pa.Table]]) -> Folded:
        steps.append(len(answers))
        return fold_answers(session, answers)

    monkeypatch.setattr(landing, "fold_answers", counted)
    monday, tuesday = folded(memory)
    assert steps == [2, 1]
    assert told(monday) == dict.fromkeys(symbols, (1.0, AT)) | {"S07": (3.0, AT + HOUR)}
    assert (monday.restated, told(tuesday)) == (1, dict.fromkeys(symbols, (2.0, AT)))


def test_sessions_come_in_the_order_asked_for_and_those_without_an_answer_not_at_all(memory: Store) -> None:
    """All of landing comes ascending."""
    for day in (WED, MON):
        land(memory, day, AT, A=1.0)
    assert [found.session for found in folded(memory, WED, TUE, MON)] == [WED, MON]
    assert [found.session for found in folded(memory)] == [MON, WED]


def test_the_fold_can_be_limited_to_symbols(memory: Store) -> None:
    """Ranges of other symbols are not even read."""
    land(memory, MON, AT, A=1.0, B=2.0)
    memory.put(layout.range_landing_key("B", AT, DIGEST, MON, MON), b"not gzip")
    assert told(folded(memory, MON, symbols=["A"])[0]) == {"A": (1.0, AT)}
    problems = folded(memory, MON)[0].problems
    assert len(problems) == 1
    assert "symbol=B" in problems[0]


def test_an_answer_that_is_gone_since_it_was_listed_is_an_error(memory: Store) -> None:
    """Landing is never deleted; a fold without one of its answers would be another truth."""
    keys = [land(memory, MON, AT, A=1.0), land_range(memory, "A", MON, [1.0], AT)]
    for key in keys:
        index = read_index(memory)
        data = memory.get(key).data
        memory.delete_many([key])
        problems = next(iter(fold(memory, [MON], index))).problems
        assert [why.partition(";")[0] for why in problems] == [f"{key}: the landed answer is gone"]
        memory.put(key, data)


def test_a_selection_of_symbols_keeps_their_rows() -> None:
    """None takes all; an empty selection none."""
    bars = parse_grouped(json.dumps({"results": rows(A=1.0, B=2.0, BCpC=3.0)}).encode(), MON).bars
    assert only(bars, None) is bars
    assert only(bars, {"BCpC", "A", "X"})["symbol"].to_pylist() == ["A", "BCpC"]
    assert only(bars, ()).num_rows == 0
