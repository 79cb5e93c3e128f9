"""The folder of the demonstration: claimed by a marker, so that nothing but an earlier demonstration is ever replaced."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from condvest.errors import ConfigError
from condvest.storage.disk import whole_path

PAGE: Final = "AAPL-13-sessions.html"
_OWN: Final = ".condvest"
_MARKER: Final = "demo"
#: What a demonstration makes; the folder that holds the marker goes last, so that a removal cut short can be repeated.
_MADE: Final = ("bronze", "silver", "processing_metadata", PAGE, _OWN)


def claim(folder: Path) -> Path:
    """Make a folder ready for a new lake and return its whole path: an earlier demonstration in it goes, all else stays.

    Raises:
        ConfigError: it is a file, holds something and no demonstration, or cannot be used. Nothing was changed.
    """
    folder = whole_path(folder, "demo folder")
    with _clear_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"demo folder {str(folder)!r} is a file; name a folder with --folder")
        marker = folder / _OWN / _MARKER
        # The page alone is what a demo without `keep` left.
        if not marker.exists() and folder.exists() and any(path.name != PAGE for path in folder.iterdir()):
            raise ConfigError(
                f"demo folder {str(folder)!r} holds something that no demo made, and a demo replaces only an earlier"
                " demo; name a new or empty folder with --folder"
            )
        _remove(folder, _MADE)
        marker.parent.mkdir(parents=True)
        marker.write_text("This lake was made by `condvest demo`; the next demo in this folder replaces it.\n")
    return folder


def leave_page(folder: Path) -> None:
    """Remove the lake and leave the page. Idempotent."""
    with _clear_errors(folder):
        _remove(folder, [name for name in _MADE if name != PAGE])


def _remove(folder: Path, names: tuple[str, ...] | list[str]) -> None:
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"demo folder {str(folder)!r} cannot be used ({error.strerror}: {error.filename}); name another with --folder"
        ) from None
