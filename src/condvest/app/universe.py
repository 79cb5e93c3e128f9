"""The symbols that a lake is limited to: a list, or a file that holds one."""

from __future__ import annotations

from pathlib import Path

from condvest.domain.symbols import parse_symbols
from condvest.errors import ConfigError


def read_universe(text: str, *, name: str) -> frozenset[str]:
    """Return the symbols of a list such as `AAPL,BRK.B` or of a file (its path holds a / or ends in .txt or .csv).

    Raises:
        ConfigError: naming `name`, for a symbol that cannot be, a file that cannot be read, or one without a symbol.
    """
    try:
        return frozenset(parse_symbols(_listed(text) if _is_path(text) else text))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def _is_path(text: str) -> bool:
    return "/" in text or "\\" in text or text.endswith((".txt", ".csv"))


def _listed(text: str) -> str:
    """Return the symbols of a file as a list with commas; lines that are empty or begin with `#` do not count."""
    path = Path(text).expanduser()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"file {text!r} cannot be read ({reason}); give a list such as AAPL,BRK.B, or another file"
        ) from None
    parts = [part for line in lines if not line.startswith("#") for part in line.split(",") if part.strip()]
    if not parts:
        raise ConfigError(f"file {text!r} names no symbol; write one a line, or unset the setting to take all symbols")
    return ",".join(parts)
