"""The landing zone: the provider's answers as they came, and what they say about each session when read in order.

Landing is the truth that everything else follows from. An answer is never rewritten; a later one stands beside it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.answers import gunzip, parse_range, parse_session
from condvest.domain.bars import ANSWER_SCHEMA, DAILY_SCHEMA, changed_rows, overlay, stamp
from condvest.errors import DataError
from condvest.storage import layout
from condvest.storage.layout import LandingKey
from condvest.storage.parquet import concat
from condvest.storage.store import Store, Stored

#: Up to so many sessions their folders are listed, beyond it the whole landing zone is listed.
_LIST_EACH: Final = 20
_NUMBER: Final = pa.field("answer", pa.int32())
_OF_SESSIONS: Final[tuple[Literal["grouped", "flat_files", "confirmed"], ...]] = ("grouped", "flat_files", "confirmed")


@dataclass(frozen=True, slots=True)
class Folded:
    """One session as all its landed answers tell it.

    `bars`: the last value of each bar, `DAILY_SCHEMA`, sorted by symbol. `restated`: how many bars an answer changed;
    `changes`: the same by when that answer came.
    `problems`: why an answer cannot be read; then nothing is known of the session, and `bars` is empty.
    """

    session: date
    bars: pa.Table
    restated: int
    problems: tuple[str, ...] = ()
    changes: tuple[tuple[datetime, int], ...] = ()

    def restated_by(self, instants: Collection[datetime]) -> int:
        """Return how many bars the answers of some instants changed."""
        return sum(bars for at, bars in self.changes if at in instants)


@dataclass(frozen=True, slots=True)
class LandingIndex:
    """Which answers landed, by session, each list in the order in which they came."""

    answers: dict[date, list[tuple[str, LandingKey]]]
    confirmed: dict[date, datetime]
    ranges: list[tuple[str, LandingKey]]

    def note(self, key: str) -> None:
        """Take an answer or a receipt that is landed now; a foreign key and a range answer are passed over."""
        found = layout.parse_landing_key(key)
        if found is None or found.session is None:
            return
        if found.kind == "confirmed":
            at = self.confirmed.get(found.session, found.instant)
            self.confirmed[found.session] = max(found.instant, at)
        else:
            landed = self.answers.setdefault(found.session, [])
            landed.append((key, found))
            landed.sort(key=lambda answer: _order(answer[1]))

    def take(self, newer: LandingIndex, sessions: Sequence[date]) -> None:
        """Take what a later listing of some sessions tells of them."""
        for session in sessions:
            if session in newer.answers:
                self.answers[session] = newer.answers[session]
            if session in newer.confirmed:
                self.confirmed[session] = newer.confirmed[session]
        ranges = {*self.ranges, *newer.ranges}
        self.ranges[:] = sorted(ranges, key=lambda answer: _order(answer[1]))

    def last(self, session: date) -> LandingKey | None:
        """Return the last answer with the whole market of a session."""
        return self.answers[session][-1][1] if self.answers.get(session) else None

    def latest(self, first: date, last: date, symbol: str | None = None) -> LandingKey | None:
        """Return the last answer about any session from first to last: whole sessions, and ranges of a symbol (None: of all)."""
        days = [first] if first == last else [day for day in self.answers if first <= day <= last]
        about = [self.answers[day][-1][1] for day in days if self.answers.get(day)]
        for _, key in self.ranges:
            if symbol in (None, key.symbol) and key.first and key.last and key.first <= last and first <= key.last:
                about.append(key)
        return max(about, key=_order, default=None)

    def seen_through(self, session: date) -> datetime | None:
        """Return when the provider was last known to say what is landed: its last answer, or a receipt after it."""
        last = self.last(session)
        return max(last.instant, self.confirmed.get(session, last.instant)) if last else None


def read_index(store: Store, sessions: Sequence[date] | None = None) -> LandingIndex:
    """List what landed for some sessions, or with None for all."""
    index, ranges = LandingIndex({}, {}, []), list[tuple[str, LandingKey | None]]()
    of_ranges = layout.landing_prefix("range")
    for info in store.list_many([*_prefixes(sessions), of_ranges]):
        if info.key.startswith(of_ranges):
            ranges.append((info.key, layout.parse_landing_key(info.key)))
        else:
            index.note(info.key)
    kept = [
        (key, found) for key, found in ranges if found is not None and (sessions is None or _touches(found, sessions))
    ]
    index.ranges.extend(sorted(kept, key=lambda answer: _order(answer[1])))
    return index


def _prefixes(sessions: Sequence[date] | None) -> Iterator[str]:
    for kind in _OF_SESSIONS:
        if sessions is None or len(sessions) > _LIST_EACH:
            yield layout.landing_prefix(kind)
        else:
            yield from (layout.landing_prefix(kind, session) for session in sessions)


def _order(key: LandingKey) -> tuple[datetime, str, str, str]:
    return (key.instant, key.kind, key.symbol or "", key.digest)


def _touches(key: LandingKey, sessions: Sequence[date]) -> bool:
    return key.first is not None and key.last is not None and any(key.first <= day <= key.last for day in sessions)


def next_instant(now: datetime, last: LandingKey | None) -> datetime:
    """Return the instant for a new answer: now, or just after the last one where the clock stands still or went back."""
    return max(now, last.instant + timedelta(microseconds=1)) if last else now


def pack(body: bytes) -> bytes:
    """Compress a body; the same body gives the same bytes."""
    return gzip.compress(body, compresslevel=3, mtime=0)


def unpack(data: bytes, key: str) -> bytes:
    """Decompress a landed body; DataError names the key of a corrupt one."""
    try:
        return gunzip(data)
    except (DataError, EOFError, zlib.error) as error:
        raise DataError(
            f"{key}: the landed answer is corrupt ({error}); restore it from a copy, or delete it and fetch that"
            " session again"
        ) from error


def receipt(answer: LandingKey, now: datetime) -> bytes:
    """Return the body of a `confirmed` object: which answer a re-fetch confirmed, and when."""
    return json.dumps(
        {"confirms": answer.digest, "landed_at": answer.instant.isoformat(), "at": now.isoformat()}
    ).encode()


def fold(
    store: Store, sessions: Sequence[date] | None, index: LandingIndex, symbols: Collection[str] | None = None
) -> Iterator[Folded]:
    """Yield each session of which anything landed as its answers tell it, in the order given, a few read ahead.

    `sessions` None takes all, ascending; then a range answer's rows on days that are no session come too.

    Answers count in the order in which they came: the last value of a bar wins, a value that comes again keeps its
    `ingested_at`, and a bar that a later answer no longer holds stays. `symbols` limits the bars; None takes all.
    Range answers take part; those that touch the sessions are held in memory.
    """
    ranged, unread = _range_rows(store, index, symbols)
    if sessions is None:
        sessions = sorted(index.answers.keys() | ranged.sessions)
    wanted = [session for session in sessions if index.answers.get(session) or session in ranged.sessions]
    keys = [key for session in wanted for key, _ in index.answers.get(session, [])]
    answers = store.map(keys, partial(_read_answer, symbols))
    for session in wanted:
        rows = [next(answers) for _ in index.answers.get(session, [])]
        problems = [row for row in rows if isinstance(row, str)]
        problems += [why for key, why in unread if key.first and key.last and key.first <= session <= key.last]
        if problems:
            yield Folded(session, DAILY_SCHEMA.empty_table(), 0, tuple(problems))
        else:
            read = [row for row in rows if not isinstance(row, str)] + ranged.of(session)
            yield fold_answers(session, sorted(read, key=lambda row: _order(row[0])))


def fold_answers(session: date, answers: Sequence[tuple[LandingKey, pa.Table]]) -> Folded:
    """Fold the answers about one session, given in the order in which they came."""
    known, changes = DAILY_SCHEMA.empty_table(), list[tuple[datetime, int]]()
    for key, bars in answers:
        if known.num_rows == 0:
            known = stamp(bars, key.instant)
            continue
        changed, differing = changed_rows(known, bars, key.instant)
        known = overlay(known, changed)
        if differing:
            changes.append((key.instant, differing))
    return Folded(session, known, sum(bars for _, bars in changes), changes=tuple(changes))


@dataclass(frozen=True, slots=True)
class RangeRows:
    """The rows of range answers, by session; about 100 bytes a bar."""

    _answers: Sequence[LandingKey]
    _rows: pa.Table
    _places: dict[date, tuple[int, int]]

    @property
    def sessions(self) -> Collection[date]:
        """The days of which there are rows."""
        return self._places.keys()

    def of(self, session: date) -> list[tuple[LandingKey, pa.Table]]:
        """Return the rows about one session in the order in which they came; answers of one instant are taken together."""
        if session not in self._places:
            return []
        start, count = self._places[session]
        rows = self._rows.slice(start, count)
        numbers, taken = rows["answer"].to_pylist(), 0
        found = []
        for _, group in groupby(numbers, key=lambda number: self._answers[number].instant):
            size = len(list(group))
            found.append((self._answers[numbers[taken]], rows.slice(taken, size).select(ANSWER_SCHEMA.names)))
            taken += size
        return found


def range_rows(answers: Iterable[tuple[LandingKey, pa.Table]]) -> RangeRows:
    """Sort the rows of range answers, given in the order in which these came, by session."""
    keys, tables = list[LandingKey](), list[pa.Table]()
    for number, (key, bars) in enumerate(answers):
        keys.append(key)
        tables.append(bars.append_column(_NUMBER, pa.repeat(number, bars.num_rows).cast(pa.int32())))
    rows = concat(tables, ANSWER_SCHEMA.append(_NUMBER)).sort_by([("date", "ascending"), ("answer", "ascending")])
    places, start = {}, 0
    counts = rows["date"].combine_chunks().value_counts()
    for day, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
        places[day] = (start, count)
        start += count
    return RangeRows(keys, rows, places)


def _range_rows(
    store: Store, index: LandingIndex, symbols: Collection[str] | None
) -> tuple[RangeRows, list[tuple[LandingKey, str]]]:
    """Return the rows of range answers, and the answers that cannot be read, with the reason."""
    unread: list[tuple[LandingKey, str]] = []
    wanted = [(key, found) for key, found in index.ranges if symbols is None or found.symbol in symbols]

    def readable() -> Iterator[tuple[LandingKey, pa.Table]]:
        answers = store.map([key for key, _ in wanted], partial(_read_answer, None))
        for (_, found), answer in zip(wanted, answers, strict=True):
            if isinstance(answer, str):
                unread.append((found, answer))
            else:
                yield answer

    return range_rows(readable()), unread


def _read_answer(symbols: Collection[str] | None, key: str, stored: Stored | None) -> tuple[LandingKey, pa.Table] | str:
    """Read one landed answer; return why where it cannot be."""
    found = layout.parse_landing_key(key)
    if stored is None or found is None:
        return f"{key}: the landed answer is gone; landing is never deleted: restore it from a copy"
    try:
        body = unpack(stored.data, key)
        if found.session is not None:
            return found, only(parse_session(found.kind, body, found.session).bars, symbols)
        return found, parse_range(body, found.symbol or "").bars
    except DataError as error:
        return str(error)


def only(bars: pa.Table, symbols: Collection[str] | None) -> pa.Table:
    """Return the rows of some symbols; None takes all."""
    if symbols is None:
        return bars
    return bars.filter(pc.is_in(bars["symbol"], value_set=pa.array(sorted(symbols), pa.string()))).combine_chunks()
