"""Make a zip whose bytes depend on names, contents and executable bits alone, or say which zip holds the most unzipped.

python3 zip_folder.py pack FOLDER ZIP   # zip what is in FOLDER, and print its unzipped size in bytes
python3 zip_folder.py largest ZIP...    # print unzipped size in bytes and path of the largest

Needs nothing but Python 3.9. Order, times and modes are fixed, so the same files give the same bytes, whoever owns them.
"""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first instant that a zip can tell
_UNIX = 3
_REGULAR_FILE = 0o100000


def pack(folder: Path, target: Path) -> int:
    """Zip the files below a folder, sorted by name, and return their total size in bytes. Symbolic links are refused."""
    total = 0
    beside = target.with_name(f"{target.name}.part")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
            if path.is_symlink():
                raise SystemExit(f"{path} is a symbolic link: a package holds files alone; put the file itself there")
            if path.is_file():
                data = path.read_bytes()
                total += len(data)
                archive.writestr(_entry(path, folder), data)
    beside.replace(target)
    return total


def unzipped_bytes(path: Path) -> int:
    """Return how many bytes a zip holds when it is unzipped."""
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _entry(path: Path, folder: Path) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
    entry.create_system = _UNIX
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (_REGULAR_FILE | (0o755 if os.access(path, os.X_OK) else 0o644)) << 16
    return entry


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("folder", type=Path)
    packing.add_argument("zip", type=Path)
    finding = commands.add_parser("largest")
    finding.add_argument("zips", type=Path, nargs="+", metavar="zip")
    options = parser.parse_args()
    if options.command == "pack":
        sys.stdout.write(f"{pack(options.folder, options.zip)}\n")
        return
    size, path = max((unzipped_bytes(path), path) for path in options.zips)
    sys.stdout.write(f"{size}\t{path}\n")


if __name__ == "__main__":
    _main()
