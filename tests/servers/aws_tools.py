"""The project's scripts, the programs that they call, and stand-ins for those that are not here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Programs for AWS have an environment of their own, which `make .venv-aws/.ready` fills.
BIN = ROOT / ".venv-aws" / "bin"


def aws_tool(name: str) -> Path:
    """Return the path of a program; RuntimeError when it is not there."""
    program = BIN / name
    if not program.exists():
        raise RuntimeError(f"{program} is not there: run `make .venv-aws/.ready`")
    return program


def run_script(
    script: str, *words: str, environment: Mapping[str, str] | None = None, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script of the project with this Python, to its end whatever it is; `path` comes first on PATH."""
    parts = [path, Path(sys.executable).parent, BIN, os.environ["PATH"]]
    variables = {"PATH": os.pathsep.join(str(part) for part in parts if part), "PYTHON": sys.executable}
    return subprocess.run(
        [ROOT / script, *words],
        env={**os.environ, **variables, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def fake_program(path: Path, body: str) -> None:
    """Write a program that notes its words in `calls` beside it, then does what the body says (shell)."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "$@" >>"{path.parent}/calls"\n{body}\n')
    path.chmod(0o755)
