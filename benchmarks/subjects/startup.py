"""How long a command and a function of AWS take to begin, warm: the files are in the system's cache."""

from __future__ import annotations

import sys
from functools import partial

from goals import Goal, at_most
from harness import CONDVEST, run
from sizes import Bench

HELP = "condvest --help"
HANDLERS = ("daily_ohlcv_fetcher", "daily_meta_fetcher", "consolidate_bronze", "record_session")
_ROUNDS = 7


def measure(bench: Bench) -> list[Goal]:
    """Measure whole processes."""
    imports = {f"import condvest.aws.{name}": f"import condvest.aws.{name}" for name in HANDLERS}
    bench.board.in_turn(
        {
            HELP: partial(run, [CONDVEST, "--help"]),
            **{name: partial(run, [sys.executable, "-c", code]) for name, code in imports.items()},
        },
        rounds=_ROUNDS,
    )
    slowest = max(bench.board.seconds(name) for name in imports)
    return [
        at_most("CLI --help", "seconds", bench.board.seconds(HELP), 0.4),
        at_most("import of a handler, the slowest", "seconds", slowest, 1.0),
    ]
