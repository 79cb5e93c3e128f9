"""The machine's temporary folder, where jobs put aside what memory should not hold: what it refuses becomes an error of ours."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from condvest.errors import TransientError


@contextmanager
def scratch_errors() -> Iterator[None]:
    """Turn a failure of temporary files into a `TransientError`. Also a decorator, of plain functions."""
    try:
        yield
    except OSError as error:
        raise TransientError(
            f"temporary folder {tempfile.gettempdir()}: {error.strerror or error}; free space there, or name another one in"
            " TMPDIR, then run again"
        ) from error
