"""Structured events: one line a decision, text for people on stderr."""

from __future__ import annotations

import logging
import sys

_logger = logging.getLogger("condvest")


def event(name: str, /, *, level: int = logging.INFO, **fields: object) -> None:
    """Log one decision with its fields, e.g. `event("session_landed", session=date, rows=5)`.

    Fields are written as `key=value` in the order given; a value with a space is quoted. Never pass a secret.
    """
    if _logger.isEnabledFor(level):
        given = {key: value for key, value in fields.items() if value is not None}
        parts = [f"{key}={_shown(value)}" for key, value in given.items()]
        # A handler that writes JSON finds the fields apart; one that writes text takes the line.
        told = {"event": name, "fields": {key: _plain(value) for key, value in given.items()}}
        _logger.log(level, "%s", " ".join([name, *parts]), extra=told)


def warn(name: str, /, **fields: object) -> None:
    """Log a decision that a person should look at."""
    event(name, level=logging.WARNING, **fields)


def to_stderr(level: int = logging.INFO) -> None:
    """Send condvest's events to stderr as text lines. Called once by an entry point, never by the library."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname).1s %(message)s"))
    _logger.handlers[:] = [handler]
    _logger.setLevel(level)
    _logger.propagate = False


def _plain(value: object) -> str | int | float | bool:
    return value if isinstance(value, str | int | float) else str(value)


def _shown(value: object) -> str:
    text = str(value)
    return f'"{text}"' if " " in text or not text else text
