"""What landed, session by session, for jobs that must not stop at a corrupt answer: bars, counts and what cannot be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Final

import pyarrow as pa

from condvest.domain.answers import ParsedBars, parse_range, parse_session
from condvest.domain.bars import ANSWER_SCHEMA, DAILY_SCHEMA
from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow
from condvest.errors import CondvestError, DataError
from condvest.jobs.write_bars import count_not_in, wanted_rejects
from condvest.storage.landing import LandingIndex, RangeRows, fold_answers, only, range_rows, read_index, unpack
from condvest.storage.layout import LandingKey, parse_landing_key
from condvest.storage.parquet import concat
from condvest.storage.second_look import look
from condvest.storage.store import Store, Stored

_GONE: Final = "the landed answer is gone since it was listed; landing is never deleted: restore it from a copy"


#: Why a session that landed is not done: each such reason begins alike.
_NOT_WHOLE: Final = "landed, but "
INCOMPLETE: Final = f"{_NOT_WHOLE}not all of its bars are in bronze; the next fetch completes it"


def unread(problems: Sequence[str]) -> str:
    """Return why a session is not done of which answers landed that cannot be read."""
    return f"{_NOT_WHOLE}not all can be read: {'; '.join(problems)}"


def is_not_whole(row: LedgerRow) -> bool:
    """Say whether a session was found not whole: bars were missing, or something could not be read then, and may be by now."""
    return row.state == "pending" and (row.reason or "").startswith(_NOT_WHOLE)


@dataclass(frozen=True, slots=True)
class LandedSession:
    """One session as all its landed answers tell it; where one of them cannot be read, `problems` says why and `bars` is empty.

    `bars`: the last value of each bar, `DAILY_SCHEMA`, sorted by symbol. `whole`: how many of them an answer with the whole
    market holds, the others came by ranges. `restated`: bars that a later answer changed. `withdrawn`: bars that a later
    whole answer does not hold, summed over the answers. `answer_rows` and `quarantined` are those of the last whole answer.
    """

    session: date
    bars: pa.Table
    whole: int = 0
    restated: int = 0
    withdrawn: int = 0
    answer_rows: int = 0
    quarantined: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LandedRanges:
    """The rows of all landed range answers, by session, and the symbols whose answers cannot be read, with the reasons."""

    problems: dict[str, list[str]]
    rows: RangeRows


def read_ranges(store: Store, index: LandingIndex, symbols: Collection[str] | None = None) -> LandedRanges:
    """Read every landed range answer (of some symbols; None: of all). They are held in memory, about 100 bytes a bar."""
    problems: dict[str, list[str]] = defaultdict(list)
    wanted = [(key, found) for key, found in index.ranges if symbols is None or found.symbol in symbols]

    def readable() -> Iterator[tuple[LandingKey, pa.Table]]:
        for (_, found), parsed in zip(wanted, _read_each(store, [key for key, _ in wanted], read_range), strict=True):
            if isinstance(parsed, str):
                problems[found.symbol or ""].append(parsed)
            else:
                yield found, parsed.bars

    return LandedRanges(problems, range_rows(readable()))


def read_landed(
    store: Store,
    sessions: Sequence[date],
    index: LandingIndex,
    ranges: LandedRanges,
    symbols: Collection[str] | None = None,
) -> Iterator[LandedSession]:
    """Yield each session as its answers tell it, in the order given, a few read ahead; equal to `storage.landing.fold`.

    `symbols` limits the bars; None takes all. What cannot be read stands in `problems` and stops nothing.
    """
    keys = [key for session in sessions for key, _ in index.answers.get(session, ())]
    read = _read_each(store, keys, _read_session)
    for session in sessions:
        answers = index.answers.get(session, ())
        parsed = [(key, next(read)) for _, key in answers]
        problems = tuple(problem for _, problem in parsed if isinstance(problem, str))
        if problems:
            yield LandedSession(session, DAILY_SCHEMA.empty_table(), problems=problems)
        else:
            whole = [(key, found) for key, found in parsed if not isinstance(found, str)]
            yield _folded(session, whole, ranges.rows.of(session), symbols)


def traded(store: Store, days: Sequence[date]) -> list[date]:
    """Return those of some days of which bars landed, or an answer that cannot be read: days without trading are no sessions."""
    if not days:
        return []
    index = read_index(store, days)
    ranges = read_ranges(store, index)
    found = read_landed(store, days, index, ranges)
    return [session.session for session in found if session.bars.num_rows or session.problems]


def ledger_row(found: LandedSession, index: LandingIndex, calendar: Calendar) -> LedgerRow:
    """Return the ledger row that a session's landed answers justify, if all their bars are in bronze.

    It is final when its answer was seen from 11:00 New York time of the next day on, else provisional, and pending where an
    answer cannot be read.
    """
    last, seen = index.last(found.session), index.seen_through(found.session)
    is_final = seen is not None and seen >= calendar.final_due(found.session)
    return LedgerRow(
        session_date=found.session,
        state="pending" if found.problems else "final" if is_final else "provisional",
        source=last.kind if last is not None else None,
        rows=found.bars.num_rows,
        answer_rows=found.answer_rows,
        quarantined=found.quarantined,
        restated=found.restated,
        withdrawn=found.withdrawn,
        answer_digest=last.digest if last is not None else None,
        fetched_at=seen,
        reason=unread(found.problems) if found.problems else None,
    )


def _folded(
    session: date,
    whole: Sequence[tuple[LandingKey, ParsedBars]],
    ranged: Sequence[tuple[LandingKey, pa.Table]],
    symbols: Collection[str] | None,
) -> LandedSession:
    tables = [(key, only(parsed.bars, symbols)) for key, parsed in whole]
    rows = sorted([*tables, *ranged], key=lambda answer: (answer[0].instant, answer[0].kind, answer[0].digest))
    folded = fold_answers(session, rows)
    last = whole[-1][1] if whole else None
    return LandedSession(
        session,
        folded.bars,
        whole=_count_symbols([bars for _, bars in tables]),
        restated=folded.restated,
        withdrawn=sum(
            count_not_in(fold_answers(session, rows[: rows.index(answer)]).bars, answer[1]) for answer in tables[1:]
        ),
        answer_rows=last.total if last else 0,
        quarantined=len(wanted_rejects(last.rejects, symbols)) if last else 0,
    )


def _count_symbols(tables: Sequence[pa.Table]) -> int:
    if len(tables) == 1:
        return int(tables[0].num_rows)
    held = concat([bars.select(["symbol"]) for bars in tables], pa.schema([ANSWER_SCHEMA.field("symbol")]))
    symbols: list[str] = held["symbol"].to_pylist()
    return len(set(symbols))


def _read_each(
    store: Store, keys: Sequence[str], read: Callable[[str, Stored | None], ParsedBars | str]
) -> Iterator[ParsedBars | str]:
    """Read answers in the order of the keys; one that cannot be read gets a second look."""

    def sound(key: str, stored: Stored) -> None:
        parsed = read(key, stored)
        if isinstance(parsed, str):
            raise DataError(parsed)

    for key, parsed in zip(keys, store.map(keys, read), strict=True):
        yield read(key, look(store, key, partial(sound, key)).stored) if isinstance(parsed, str) else parsed


def _read_session(key: str, stored: Stored | None) -> ParsedBars | str:
    found = parse_landing_key(key)
    if stored is None or found is None or found.session is None:
        return f"{key}: {_GONE}"
    try:
        return parse_session(found.kind, unpack(stored.data, key), found.session)
    except CondvestError as error:
        return str(error) if key in str(error) else f"{key}: {error}"


def read_range(key: str, stored: Stored | None) -> ParsedBars | str:
    """Read a landed range answer; return why where it cannot be."""
    found = parse_landing_key(key)
    if stored is None or found is None or found.symbol is None:
        return f"{key}: {_GONE}"
    try:
        return parse_range(unpack(stored.data, key), found.symbol)
    except CondvestError as error:
        return str(error) if key in str(error) else f"{key}: {error}"
