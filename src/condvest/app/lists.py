"""Settings and options that are lists: intervals, and symbols or the file that names them."""

from __future__ import annotations

from pathlib import Path

from condvest.domain.calendar import INTERVALS
from condvest.domain.symbols import parse_symbols
from condvest.errors import ConfigError


def read_intervals(text: str, *, name: str) -> list[int]:
    """Return the intervals of a list such as `3,5,8`, ascending, each once; ConfigError, naming `name`, for another text."""
    allowed = {str(interval): interval for interval in INTERVALS}
    found = set()
    for part in (part.strip() for part in text.split(",")):
        if part not in allowed:
            raise ConfigError(
                f"{name} holds {part!r}: silver has the intervals {','.join(allowed)}; name some of these, other lengths are"
                " computed when read: condvest bars AAPL --interval 10d"
            )
        found.add(allowed[part])
    return sorted(found)


def read_symbols(text: str, *, name: str) -> list[str]:
    """Return the symbols of a list such as `AAPL,BRK.B`, or of a file of such lines; ConfigError, naming `name`."""
    try:
        return parse_symbols(_listed(text) if _is_path(text) else text)
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
