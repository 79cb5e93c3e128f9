"""The command of the Batch image: `python -m condvest.aws.batch resampler | consolidate | vacuum`.

A child of an array job takes its part of the work: of the symbols (consolidate, vacuum) or of the intervals (resampler). A
part does not depend on the others, and doing it twice changes nothing.

The exit code says whether to try again: 0 all is done; 75 (EX_TEMPFAIL of sysexits.h) what failed may pass, and the job's
definition lets it be tried again; 1 data are wrong or something is left, 2 a setting or option is wrong, and both would be again.
"""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Sequence
from typing import Final

from condvest import process
from condvest.app import App
from condvest.app.commands import consolidate, resample, vacuum
from condvest.app.runs import JobResult
from condvest.aws.runtime import start_log, tell_asked, told
from condvest.config import load_settings
from condvest.domain.shard import WHOLE, Shard
from condvest.errors import CommitConflict, CommitUnknown, CondvestError, ConfigError, TransientError

NAME: Final = "condvest-batch"
_FAILED, _WRONG, _MAY_PASS = 1, 2, 75
_INDEX: Final = "AWS_BATCH_JOB_ARRAY_INDEX"
_SIZE: Final = "AWS_BATCH_JOB_ARRAY_SIZE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one job and return the exit code, as the head of this module has them."""
    process.tune()
    options = _parser().parse_args(arguments)
    logger = start_log(NAME, os.environ.get("AWS_BATCH_JOB_ID") or f"here-{uuid.uuid4()}")
    try:
        settings = load_settings()
        with App(settings, records_runs=settings.rds_host is not None) as app:
            try:
                result = _do(app, options, _shard())
            finally:
                tell_asked(logger, app.traffic)
            if result is None:
                logger.info("nothing to do for this part")
            else:
                told(NAME, result)
    except CondvestError as error:
        logger.error("failed", extra={"kind": type(error).__name__, "error": str(error)})
        sys.stderr.write(f"{error}\n")
        return _exit_code(error)
    return 0


def _do(app: App, options: argparse.Namespace, shard: Shard) -> JobResult | None:
    """Do this part of a job; None where there are more parts than there is work."""
    if options.job == "resampler":
        intervals = app.intervals[shard.index :: shard.count]
        return resample(app, intervals=intervals, force_full=options.force_full) if intervals else None
    if options.job == "consolidate":
        return consolidate(
            app,
            symbols=options.symbols,
            force_full=options.force_full,
            retention_days=options.retention_days,
            skip_cleanup=options.skip_cleanup,
            shard=shard,
        )
    return vacuum(
        app,
        symbols=options.symbols,
        retention_days=options.retention_days,
        dry_run=options.dry_run,
        shard=shard,
    )


def _exit_code(error: CondvestError) -> int:
    if isinstance(error, TransientError | CommitConflict | CommitUnknown):
        return _MAY_PASS
    return _WRONG if isinstance(error, ConfigError) else _FAILED


def _shard() -> Shard:
    """Return which part of an array job this is; outside of one, the whole."""
    index, size = os.environ.get(_INDEX), os.environ.get(_SIZE)
    if index is None:
        return WHOLE
    if size is None or not index.isdigit() or not size.isdigit():
        raise ConfigError(
            f"{_INDEX} is {index!r} and {_SIZE} is {size!r}: an array job has both, as whole numbers; set both or none"
        )
    return Shard(int(index), int(size))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m condvest.aws.batch", description=__doc__, allow_abbrev=False)
    jobs = parser.add_subparsers(dest="job", required=True, metavar="resampler | consolidate | vacuum")
    resampler = jobs.add_parser("resampler", help="build silver of the intervals in RESAMPLING_INTERVALS")
    merging = jobs.add_parser("consolidate", help="merge date= files into each data.parquet")
    cleanup = jobs.add_parser("vacuum", help="remove date= files past retention that are proven to be merged")
    for job in (resampler, merging):
        job.add_argument("--force-full", action="store_true", help="trust no manifest or checkpoint: build all anew")
    for job in (merging, cleanup):
        job.add_argument("--symbols", metavar="A,B", help="only these")
        job.add_argument("--retention-days", type=int, default=30, metavar="N", help="keep date= files of N days (30)")
    merging.add_argument("--skip-cleanup", action="store_true", help="remove no date= file")
    cleanup.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
