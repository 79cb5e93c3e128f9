"""How the command of the Batch image ends: its exit code tells the job's definition whether to try again."""

from __future__ import annotations

from typing import NoReturn

import pytest

from condvest.aws import batch
from condvest.errors import (
    CommitConflict,
    CommitUnknown,
    CondvestError,
    ConfigError,
    DataError,
    TransientError,
    WorkLeft,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TransientError("S3 answers 503"), 75),
        (CommitConflict("another writer was faster"), 75),
        (CommitUnknown("the answer never came"), 75),
        (WorkLeft("1 left"), 1),
        (DataError("corrupt"), 1),
        (ConfigError("no such setting"), 2),
    ],
)
def test_what_may_pass_has_a_code_of_its_own(
    error: CondvestError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """75 where another attempt may succeed, 1 and 2 where it would end the same; the error is told in one line."""

    def fails(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(batch, "resample", fails)
    assert batch.main(["resampler"]) == code
    assert capsys.readouterr().err == f"{error}\n"
