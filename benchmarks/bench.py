"""Measure the jobs beside their floors and their peers, in one run, on one generated market; write RESULTS.md.

    python benchmarks/bench.py [--size full|small] [--only resample,session] [--folder /dev/shm/condvest-bench] [--write]

Jobs are whole processes, as their users run them. Floors and peers are measured without their imports: the ratios are on the
strict side. Absolute seconds depend on the machine and on what else it does; ratios of one run are what counts.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from goals import Goal
from harness import HERE, Board
from report import results, table
from sizes import SIZES, Bench
from subjects import backfill, consolidation, growth, memory, object_store, reading, resampling, session, startup

SUBJECTS: dict[str, Callable[[Bench], list[Goal]]] = {
    "resampling": resampling.measure,
    "consolidation": consolidation.measure,
    "session": session.measure,
    "backfill": backfill.measure,
    "reading": reading.measure,
    "startup": startup.measure,
    "memory": memory.measure,
    "object_store": object_store.measure,
    "growth": growth.measure,
}


def main() -> None:
    """Measure what is asked for, print each goal beside what was reached, and write the results where asked."""
    options = _options()
    folder = Path(options.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # What jobs and peers put aside lies where the lakes lie, so that no disk is measured.
    (folder / "tmp").mkdir()
    os.environ["TMPDIR"] = str(folder / "tmp")
    size = SIZES[options.size]
    bench = Bench(size, folder, Board(size.rounds), draws=options.write and options.size == "full")
    goals: list[Goal] = []
    try:
        for name in options.only or SUBJECTS:
            print(f"{name}:", flush=True)
            try:
                goals += SUBJECTS[name](bench)
            except RuntimeError as error:  # a process failed: the other subjects are measured all the same
                print(error, flush=True)
                bench.remarks.append(f"**{name}: not measured**, a process failed: {str(error).splitlines()[0][:200]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print()
    print(table(("job", "measured as", "goal", "reached", ""), [goal.row() for goal in goals]))
    print(*bench.remarks, sep="\n\n")
    if options.write:
        (HERE / "RESULTS.md").write_text(results(bench, goals))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="full")
    parser.add_argument("--only", type=lambda text: text.split(","), help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--folder", default="/dev/shm/condvest-bench" if Path("/dev/shm").is_dir() else "bench-lake")
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
