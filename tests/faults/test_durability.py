"""Durability of whole jobs on a folder: what is acknowledged, in a ledger or by a deletion, is on the disk before."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from condvest.storage import layout
from integration.jobs_kit import DAYS, SYMBOLS, Kit

DAY = DAYS[0]


class Disk:
    """Notes what was synced, and what a power cut would still take: files, and names in folders."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        """Watch the calls that change or sync what lies below a folder."""
        self.root = root
        self.at_risk: set[str] = set()
        self.deleted: list[str] = []
        self._patch = patch
        patch.setattr(sys, "platform", "darwin")  # each file is waited for by itself
        for name, note in (("write", self._written), ("fsync", self._synced)):
            self._watch(name, note)
        self._watch("replace", lambda _, target: self._named(target))
        self._watch("mkdir", lambda path, *_: self._named(path))
        self._watch("unlink", lambda path, *_: self._gone(path))

    def _watch(self, name: str, note: Callable[..., object]) -> None:
        real = getattr(os, name)

        def watched(*given: Any, **options: Any) -> Any:
            result = real(*given, **options)
            note(*given)
            return result

        self._patch.setattr(os, name, watched)

    def _written(self, handle: int, _: object) -> None:
        self.at_risk.add(f"bytes of {os.fstat(handle).st_ino}")

    def _synced(self, handle: int) -> None:
        number = os.fstat(handle).st_ino
        self.at_risk -= {f"bytes of {number}", f"names in {number}"}

    def _named(self, path: str) -> None:
        if str(path).startswith(f"{self.root}/") and not str(path).endswith(".lock"):
            self.at_risk.add(f"names in {Path(path).parent.stat().st_ino}")

    def _gone(self, path: str) -> None:
        if str(path).startswith(f"{self.root}/{layout.BRONZE}"):
            self.deleted.append(str(path))
            self._named(path)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """A lake in a folder that does not exist yet, and that waits for the disk."""
    with Kit(tmp_path, lake_url=str(tmp_path / "lake")) as made:
        yield made


def test_a_session_is_on_the_disk_before_the_ledger_acknowledges_it(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the ledger's row is written no byte, no name and no new folder of the lake is at risk any more."""
    disk = Disk(tmp_path / "lake", monkeypatch)
    record, seen = kit.state.record, list[set[str]]()

    def noted(*given: Any, **options: Any) -> None:
        seen.append(set(disk.at_risk))
        assert len([key for key in kit.listed(layout.BRONZE) if "/date=" in key]) == len(SYMBOLS)
        record(*given, **options)

    monkeypatch.setattr(kit.state, "record", noted)
    kit.evening(DAY).fetch(DAY)
    assert seen == [set()]
    assert kit.states() == {DAY: "provisional"}


def test_a_bar_is_on_the_disk_twice_before_its_daily_file_goes(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`data.parquet`, and the record of what goes, are durable before the first deletion, and each deletion at the end."""
    kit.evening(DAY).fetch(DAY)
    disk = Disk(tmp_path / "lake", monkeypatch)
    kit.after(days=40)
    at_first: list[set[str]] = []
    gone = disk._gone

    def noted(path: str) -> None:
        if str(path).startswith(f"{tmp_path}/lake/{layout.BRONZE}") and not disk.deleted:
            at_first.append(set(disk.at_risk))
        gone(path)

    monkeypatch.setattr(disk, "_gone", noted)
    report = kit.consolidate()
    assert (report.left, len(disk.deleted)) == ([], len(SYMBOLS))
    assert at_first == [set()]
    assert disk.at_risk == set()
