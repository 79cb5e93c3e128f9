"""Which tests there are, read from the sources: a table that names tests can be held against them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]


@cache
def known_tests() -> frozenset[str]:
    """Return every test as `folder/module.py::name`; a method's class is left out."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {
            f"{path.relative_to(TESTS).as_posix()}::{node.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        }
    return frozenset(found)
