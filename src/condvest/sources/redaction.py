"""A key in what a server says: taken out before anything is read, landed, logged or raised."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

_SHOWN: Final = "***"
# A shorter key could be a part of what is meant: taken out of a body it would spoil data. The provider's have 32.
_LEAST: Final = 8


@dataclass(frozen=True, slots=True)
class Redaction:
    """Two functions that know one key; they hold it in a closure, so that no `repr` shows it."""

    body: Callable[[bytes], bytes]
    text: Callable[[str], str]


def redaction(key: str) -> Redaction:
    """Return what takes a key out: as it is, percent-encoded, escaped as in JSON, or in Base64, alone or amid other bytes.

    `body` leaves keys of fewer than 8 characters where they are; `text` takes out any, and what it returns is one line of
    200 characters at most.
    """
    forms = sorted({*_forms(key)} if len(key) >= _LEAST else {key}, key=len, reverse=True)
    in_bodies = [form.encode() for form in forms] if len(key) >= _LEAST else []

    def body(data: bytes) -> bytes:
        for form in in_bodies:  # plain searches: a pattern of them all takes a hundred times as long
            if form in data:
                data = data.replace(form, _SHOWN.encode())
        return data

    def text(words: str) -> str:
        for form in forms:
            words = words.replace(form, _SHOWN)
        return " ".join(words.split())[:200]

    return Redaction(body, text)


def _forms(key: str) -> Iterator[str]:
    for encoded in (quote(key, safe=""), quote(key)):
        yield from (encoded, re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), encoded))
    yield from (key, json.dumps(key)[1:-1], key.replace("/", "\\/"))
    for encode in (b64encode, urlsafe_b64encode):
        for before in range(3):  # where a group of three bytes begins depends on what stands before the key
            encoded = encode(b"\0" * before + key.encode()).decode().rstrip("=")
            whole = 4 * ((before + len(key)) // 3)
            yield encoded[4 if before else 0 : whole]
