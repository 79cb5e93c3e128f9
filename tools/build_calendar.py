"""Write or check the shipped calendar, src/condvest/domain/data/xnys.csv, against pandas_market_calendars.

    make calendar
    .venv-calendar/bin/python tools/build_calendar.py            # write the table
    .venv-calendar/bin/python tools/build_calendar.py --check    # compare, exit 1 with the differences

Runs in an environment of its own: pandas never enters condvest's.
"""

from __future__ import annotations

import argparse
import csv
import sys
from datetime import date, timedelta
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent.parent / "src/condvest/domain/data/xnys.csv"
FIRST = date(1962, 1, 2)
LAST = date(2050, 12, 31)
# Not "XNYS": that name is the library's mirror of exchange_calendars, which knows no close but 16:00 before 1986.
LIBRARY_CALENDAR = "NYSE"
# So many sessions in a row with one close time are the rule of their time; fewer are exceptions, one row each.
REGULAR_RUN = 10

Row = tuple[str, str, str]  # date, kind, close: as the file has them


def library() -> Any:
    """Return the library, which the environment of the type checker does not have."""
    return import_module("pandas_market_calendars")


def library_closes() -> dict[date, str]:
    """Return each session of the library between FIRST and LAST with its close, HH:MM New York time, ascending."""
    calendar = library().get_calendar(LIBRARY_CALENDAR)
    # The opening is asked for as well: with the close alone, release 5.5.0 fails under pandas 3.
    times = ["market_open", "market_close"]
    schedule = calendar.schedule(FIRST.isoformat(), LAST.isoformat(), tz="America/New_York", market_times=times)
    return {day.date(): close.strftime("%H:%M") for day, close in schedule["market_close"].items()}


def rows_of(closes: dict[date, str]) -> list[Row]:
    """Return the table's rows, ascending by date: closures, changes of the regular close, early closes."""
    weekdays = (FIRST + timedelta(days) for days in range((LAST - FIRST).days + 1))
    rows: list[Row] = [(day.isoformat(), "closed", "") for day in weekdays if day.weekday() < 5 and day not in closes]
    regular = ""
    for close, group in groupby(closes.items(), key=lambda item: item[1]):
        days = [day.isoformat() for day, _ in group]
        if close == regular:
            continue
        if len(days) >= REGULAR_RUN:
            regular = close
            rows.append((days[0], "regular", close))
        elif close < regular:
            rows += [(day, "early", close) for day in days]
        else:
            sys.exit(f"{days[0]} closes at {close}, after the regular {regular}: the table has no row for that")
    if weekend := [day for day in closes if day.weekday() > 4]:
        sys.exit(f"{weekend[0]} is a session on a weekend: the table has no row for that")
    return sorted(rows)


def write(rows: list[Row], version: str) -> None:
    """Write the table: a comment with the bounds and the library's version, a header, the rows."""
    with TABLE.open("w", newline="", encoding="ascii") as file:
        file.write(
            f"# XNYS {FIRST} to {LAST}, pandas_market_calendars {version}: "
            "sessions are the weekdays without a closed row; close in New York time\n"
        )
        csv.writer(file, lineterminator="\n").writerows([("date", "kind", "close"), *rows])


def differences(rows: list[Row]) -> list[str]:
    """Return one line for each row that only the table or only the library has, and for bounds that differ."""
    with TABLE.open(newline="", encoding="ascii") as file:
        bounds = next(file)
        shipped = {(row["date"], row["kind"], row["close"]) for row in csv.DictReader(file)}
    lines = [f"{' '.join(row).rstrip()}: only in the table" for row in shipped - set(rows)]
    lines += [f"{' '.join(row).rstrip()}: only in the library" for row in set(rows) - shipped]
    if not bounds.startswith(f"# XNYS {FIRST} to {LAST},"):
        lines.append(f"bounds of the table are not {FIRST} to {LAST}: {bounds.strip()}")
    return sorted(lines)


def main() -> int:
    """Write the table, or with --check compare it. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--check", action="store_true", help="compare the shipped table with the library, write nothing"
    )
    check = parser.parse_args().check
    version = library().__version__
    closes = library_closes()
    rows = rows_of(closes)
    if not check:
        write(rows, version)
        print(f"{TABLE}: {len(rows)} rows, {len(closes)} sessions")
        return 0
    found = differences(rows)
    print("\n".join(found) or f"the table agrees with pandas_market_calendars {version}: {len(closes)} sessions")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
