"""The README says what is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_table_of_settings_is_up_to_date() -> None:
    """Every setting stands in the README with its default and meaning."""
    done = subprocess.run([sys.executable, ROOT / "tools/build_readme.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_linked_files_exist() -> None:
    """No link in the README leads nowhere."""
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
