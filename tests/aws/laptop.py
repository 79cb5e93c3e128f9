"""The same days on a laptop: a lake in a folder, run by the command line, with its state in SQLite."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from condvest.state import State
from condvest.storage.opening import open_store


class Laptop:
    """A folder lake and its commands."""

    def __init__(self, folder: Path, *, provider_url: str, api_key: str) -> None:
        """Take a folder that is not there yet."""
        self.folder = folder
        self.store = open_store(str(folder), fsync=False)
        self._settings = {
            "LAKE_URL": str(folder),
            "POLYGON_API_KEY": api_key,
            "POLYGON_BASE_URL": provider_url,
            "POLYGON_REQUESTS_PER_MINUTE": "0",
            "CONDVEST_FSYNC": "false",
        }

    def run(self, now: datetime, *words: str) -> None:
        """Run a command at an instant; AssertionError when it does not end with 0."""
        command = [sys.executable, "-m", "condvest", *words]
        settings = {"PATH": os.environ["PATH"], "CONDVEST_NOW": now.isoformat()} | self._settings
        done = subprocess.run(
            command, cwd=self.folder.parent, env=settings, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"

    def state(self) -> State:
        """Open the state database; the caller closes it."""
        return State.open(f"sqlite:///{self.folder}/.condvest/state.sqlite", migrate=False)

    def keys(self) -> set[str]:
        """Return the keys of all objects."""
        return {info.key for info in self.store.list("")}
