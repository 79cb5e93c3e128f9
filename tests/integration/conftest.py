"""The kit of the job tests, as a fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.jobs_kit import Kit


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """An empty lake in a folder, beside a provider that knows nine symbols from 2025-11-03 on."""
    with Kit(tmp_path) as made:
        yield made
