"""Which of two values of a bar wins: merging histories, the changes of a later answer, and the rows that break a rule."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from itertools import permutations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condvest.domain.bars import (
    ANSWER_SCHEMA,
    DAILY_SCHEMA,
    changed_history,
    changed_rows,
    contained,
    is_history,
    merge_history,
    overlay,
    split_by_rules,
    stamp,
)
from property.oracle import Daily, History, Values
from property.tables import SEEN, answer_table, daily_table, values

DAYS = [date(2024, 3, 4) + timedelta(days=number) for number in range(12)]
TICK = timedelta(microseconds=1)
BAR = Values(10.0, 12.0, 9.0, 11.0, 100.5, 10.5, 7)


def plain(table: pa.Table) -> dict[tuple[str, date], Daily]:
    """Return a table of daily bars as plain values."""
    assert table.schema == DAILY_SCHEMA
    rows = table.to_pylist()
    found = {
        (row.pop("symbol"), row.pop("date")): Daily(seen=row.pop("ingested_at"), values=Values(**row)) for row in rows
    }
    assert len(found) == len(rows), "a bar stands twice"
    return found


@st.composite
def parts(draw: st.DrawFn) -> list[History]:
    """Draw a symbol's bars in several pieces that overlap, with few values and few instants, so that they often tie."""
    rand = random.Random(draw(st.integers(0, 10**6)))
    pool = [values(rand) for _ in range(2)] + [BAR, BAR._replace(vwap=None), BAR._replace(transactions=None)]
    pieces = []
    for _ in range(draw(st.integers(0, 5))):
        days = sorted(rand.sample(DAYS, rand.choice([1, 1, 2, len(DAYS)])))
        pieces.append({day: Daily(rand.choice(pool), SEEN + TICK * rand.randrange(3)) for day in days})
    return pieces


@settings(deadline=None)
@given(parts())
def test_the_value_seen_last_wins(pieces: list[History]) -> None:
    """One row a session, ascending; each is one of the rows given, and none of its session was seen after it."""
    merged = merge_history([daily_table("A", piece) for piece in pieces])
    assert is_history(merged)
    found = plain(merged)
    assert {day for _, day in found} == {day for piece in pieces for day in piece}
    for (_, day), bar in found.items():
        given_rows = [piece[day] for piece in pieces if day in piece]
        assert bar in given_rows
        assert bar.seen == max(row.seen for row in given_rows)


@settings(deadline=None, max_examples=40)
@given(parts())
def test_merging_asks_for_no_order_and_no_count(pieces: list[History]) -> None:
    """Any order of the pieces, merging some of them first, or merging one twice gives the same rows."""
    tables = [daily_table("A", piece) for piece in pieces]
    merged = merge_history(tables)
    for order in list(permutations(tables))[:24]:
        assert merge_history(list(order)) == merged
    for cut in range(len(tables)):
        assert merge_history([merge_history(tables[:cut]), *tables[cut:], merged]) == merged


def test_nothing_merged_is_an_empty_history() -> None:
    """Without tables, or with empty ones, there are no bars, of the right columns."""
    assert merge_history([]) == merge_history([DAILY_SCHEMA.empty_table()]) == DAILY_SCHEMA.empty_table()


@settings(deadline=None)
@given(parts(), st.integers(0, 4))
def test_what_changed_is_what_is_new_or_other(pieces: list[History], cut: int) -> None:
    """The changed rows of a history are those that the earlier one lacks or has otherwise, ascending; no others."""
    tables = [daily_table("A", piece) for piece in pieces]
    before, after = merge_history(tables[:cut]), merge_history(tables)
    changed = changed_history(before, after)
    was, now = plain(before), plain(after)
    assert plain(changed) == {key: bar for key, bar in now.items() if was.get(key) != bar}
    assert is_history(changed)
    assert merge_history([before, changed]) == after


def answers(rand: random.Random) -> dict[str, Values]:
    """Return what an answer for one session says: a few symbols, few values."""
    pool = [BAR, BAR._replace(vwap=None), BAR._replace(transactions=None), BAR._replace(close=10.5)]
    return {symbol: rand.choice(pool) for symbol in ("A", "B", "Aa", "C") if rand.random() < 0.7}


def answer_of(said: dict[str, Values]) -> pa.Table:
    """Return an answer as a table sorted by symbol."""
    tables = [answer_table(symbol, {DAYS[0]: said[symbol]}) for symbol in sorted(said)]
    return pa.concat_tables(tables).combine_chunks() if tables else ANSWER_SCHEMA.empty_table()


@settings(deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(-3, 3), max_size=6))
def test_answers_fold_into_the_last_value_of_each_bar(seed: int, steps: list[int]) -> None:
    """Whatever the clock does, a later answer's value wins, the same value keeps its instant, and nothing goes."""
    rand, now = random.Random(seed), SEEN
    known, expected = DAILY_SCHEMA.empty_table(), dict[str, Daily]()
    for step in [0, *steps]:
        now += TICK * step
        said = answers(rand)
        differing = {symbol for symbol in said if symbol in expected and expected[symbol].values != said[symbol]}
        for symbol in said:
            if symbol in differing:
                expected[symbol] = Daily(said[symbol], max(now, expected[symbol].seen + TICK))
            expected.setdefault(symbol, Daily(said[symbol], now))
        changed, restated = changed_rows(known, answer_of(said), now)
        assert restated == len(differing)
        known = overlay(known, changed)
        assert plain(known) == {(symbol, DAYS[0]): bar for symbol, bar in expected.items()}
        assert known["symbol"].to_pylist() == sorted(expected)


def test_the_same_answer_again_changes_nothing() -> None:
    """A re-fetch with the same values has no changed row, whenever it comes; null equals null alone."""
    said = answer_of({"A": BAR, "B": BAR._replace(vwap=None, transactions=None)})
    known = stamp(said, SEEN)
    assert changed_rows(known, said, SEEN + TICK)[0].num_rows == 0
    zero = answer_of({"A": BAR, "B": BAR._replace(vwap=0.0, transactions=None)})
    changed, restated = changed_rows(known, zero, SEEN + TICK)
    assert (changed["symbol"].to_pylist(), restated) == (["B"], 1)


@pytest.mark.parametrize("seconds", [-3600, 0])
def test_a_clock_that_stands_or_goes_back_hides_no_restatement(seconds: int) -> None:
    """A changed value is stamped later than the one before it, so that it wins every merge."""
    known = stamp(answer_of({"A": BAR}), SEEN)
    changed, _ = changed_rows(known, answer_of({"A": BAR._replace(close=10.5)}), SEEN + timedelta(seconds=seconds))
    assert changed["ingested_at"].to_pylist() == [SEEN + TICK]
    for tables in ([known, changed], [changed, known]):
        assert merge_history(tables)["close"].to_pylist() == [10.5]


@pytest.mark.parametrize(
    ("file", "held", "is_in"),
    [
        (Daily(BAR, SEEN), Daily(BAR, SEEN), True),
        (Daily(BAR, SEEN), Daily(BAR._replace(close=10.5), SEEN + TICK), True),
        (Daily(BAR, SEEN), Daily(BAR._replace(close=10.5), SEEN), False),
        (Daily(BAR, SEEN), Daily(BAR, SEEN - TICK), False),
        (Daily(BAR._replace(vwap=None), SEEN), Daily(BAR, SEEN), False),
        (Daily(BAR, SEEN), None, False),
    ],
)
def test_containment_is_by_content(file: Daily, held: Daily | None, is_in: bool) -> None:
    """A `date=` file is in `data.parquet` when its value, or one seen after it, is there: never by date alone."""
    others = {DAYS[0]: Daily(BAR, SEEN), DAYS[2]: Daily(BAR, SEEN)}
    history = dict(sorted((others | ({DAYS[1]: held} if held else {})).items()))
    row, first = daily_table("A", {DAYS[1]: file}), daily_table("A", {DAYS[0]: others[DAYS[0]]})
    assert contained(daily_table("A", history), [row, first, row]) == [is_in, True, is_in]
    assert contained(daily_table("A", history), []) == []


def test_a_history_ascends_strictly() -> None:
    """A session twice, or out of order, is no history."""
    table = daily_table("A", dict.fromkeys(DAYS[:3], Daily(BAR, SEEN)))
    assert is_history(table)
    assert is_history(table.slice(0, 1))
    assert not is_history(pa.concat_tables([table, table.slice(2, 1)]))
    assert not is_history(table.sort_by([("date", "descending")]))


def test_rules_are_applied_before_duplicates_are_told_apart() -> None:
    """A broken and a sound row of one symbol differ, so neither is taken; the broken one keeps its own rule."""
    said = pa.concat_tables(
        [answer_table("A", {DAYS[0]: BAR}), answer_table("A", {DAYS[0]: BAR._replace(volume=-1.0)})]
    )
    good, broken = split_by_rules(said.combine_chunks())
    assert good.num_rows == 0
    assert broken == {0: "duplicate", 1: "volume"}


def test_the_first_broken_rule_names_the_row() -> None:
    """A row that breaks several rules is rejected once."""
    worst = BAR._replace(high=float("nan"), volume=-1.0, vwap=-1.0, transactions=-1)
    assert split_by_rules(answer_table("A", {DAYS[0]: worst}))[1] == {0: "price"}
    assert split_by_rules(answer_table("A/B", {DAYS[0]: worst}))[1] == {0: "symbol"}


def test_instants_are_utc() -> None:
    """A stamp is kept to the microsecond, in UTC, whatever its zone."""
    local = datetime.fromisoformat("2024-03-04T16:05:00.000001-05:00")
    assert stamp(answer_of({"A": BAR}), local)["ingested_at"].to_pylist() == [local.astimezone(UTC)]
