"""Write the table of settings in the README from the settings themselves; with --check say whether it is as it should be."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from condvest.config import settings_table

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"


def main() -> int:
    """Return 0 when the table is up to date or was written, 1 when --check finds it is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    fresh = head + BEGIN + table() + END + tail
    if fresh == text:
        return 0
    if check:
        print("README.md: the table of settings is not up to date; run `make readme`", file=sys.stderr)
        return 1
    README.write_text(fresh, encoding="utf-8")
    return 0


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for setting in settings_table():
        default = f"`{setting.default}`" if setting.default else ""
        lines.append(f"| `{setting.name}` | {default} | {setting.meaning} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
