"""Symbols: which are possible, and how each becomes the name of a folder and comes back exactly.

Case matters (`BCPC` and `BCpC` are two securities), and file systems may not keep it, so small letters are encoded.
"""

from __future__ import annotations

import re
import reprlib
from functools import lru_cache
from urllib.parse import unquote

from condvest.errors import ConfigError

# Printable ASCII but space, quotes, slash and backslash; a letter or digit first; no two dots in a row.
_VALID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][!#-&(-.0-\[\]-_a-~]{0,31}")
_ENCODED = re.compile(r"[^A-Z0-9._-]|\.\Z")
# Names that Windows keeps for devices, alone or before a dot.
_RESERVED = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(?:\.|\Z)")
# A valid symbol of which nothing is encoded, as most are: seen at once, nothing is kept for each of a market's thousands.
_PLAIN = re.compile(rf"(?!{_RESERVED.pattern})[A-Z0-9](?:[A-Z0-9_-]|\.(?!\.|\Z)){{0,31}}")


@lru_cache(maxsize=65_536)  # asked of each row of each answer: millions in a backfill
def is_valid_symbol(text: str) -> bool:
    """Say whether a text can be a symbol.

    It has 1 to 32 printable ASCII characters, a letter or digit first; no space, quote, slash, backslash or `..`.
    """
    return _VALID.fullmatch(text) is not None


def check_symbol(text: str) -> str:
    """Return a symbol unchanged, its case too; ConfigError when it cannot be one."""
    if not isinstance(text, str) or not _VALID.fullmatch(text):
        raise ConfigError(
            f"symbol {_shown(text)} is not possible: it needs 1 to 32 printable ASCII characters, first a letter or"
            " digit, no space, quote, slash, backslash or '..'; write it as the provider does, for example BRK.B"
        )
    return text


def parse_symbols(text: str) -> list[str]:
    """Return the symbols of a list such as `AAPL,BRK.B`, in its order, each once.

    Spaces around a symbol do not count. ConfigError for an impossible or empty one.
    """
    return list(dict.fromkeys(check_symbol(part.strip()) for part in text.split(",")))


def encode_symbol(symbol: str) -> str:
    """Return a symbol as it stands in a key: percent-encoded wherever a file system could change or refuse it.

    Encoded are all characters outside `A-Z 0-9 . _ -`, a dot at the end, and the first letter of a name that Windows
    reserves (CON, PRN, AUX, NUL, COM0-9, LPT0-9, also before a dot). ConfigError for an impossible symbol.
    """
    if isinstance(symbol, str) and _PLAIN.fullmatch(symbol):
        return symbol
    check_symbol(symbol)
    encoded = _ENCODED.sub(lambda found: f"%{ord(found[0]):02X}", symbol)
    return f"%{ord(encoded[0]):02X}{encoded[1:]}" if _RESERVED.match(symbol) else encoded


def decode_symbol(encoded: str) -> str:
    """Return the symbol whose encoding this is, exactly; ConfigError for a text that `encode_symbol` never gives."""
    if _PLAIN.fullmatch(encoded):
        return encoded
    symbol = unquote(encoded, errors="replace")
    if not _VALID.fullmatch(symbol) or encode_symbol(symbol) != encoded:
        raise ConfigError(
            f"{_shown(encoded)} is no encoded symbol: a key holds it exactly as condvest writes it, for example BC%70C"
            " for BCpC; rename the object or move it out of the lake"
        )
    return symbol


def _shown(text: object) -> str:
    if not isinstance(text, str):
        return reprlib.repr(text)
    return repr(text if len(text) <= 48 else f"{text[:45]}...")
