"""A key is taken out of what a server says, however the server writes it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest.sources.redaction import redaction

KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=40)
WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": lambda key: key,
    "in a URL": lambda key: quote(key, safe=""),
    "in a URL, small": lambda key: "".join(
        f"%{ord(sign):02x}" if quote(sign, safe="") != sign else sign for sign in key
    ),
    "in JSON": lambda key: json.dumps({"key": key}),
    "in a header": lambda key: f"Authorization: Bearer {key}",
}


@pytest.mark.parametrize("way", WRITTEN)
@given(key=KEYS)
def test_no_way_to_write_a_key_is_left(way: str, key: str) -> None:
    """Body and text come back with three stars in its place; JSON stays JSON."""
    written, taken = WRITTEN[way](key), redaction(key)
    body = taken.body(written.encode())
    assert b"***" in body
    assert json.dumps(key)[1:-1].encode() not in body.replace(b"***", b"")
    assert way != "in JSON" or json.loads(body) == {"key": "***"}
    assert taken.text(written).count("***") >= 1


@pytest.mark.parametrize("before", ["", "x", "xx", "Bearer "])
def test_a_key_in_base64_is_found_amid_other_bytes(before: str) -> None:
    """Wherever its first byte falls in a group of three."""
    key = "k3y-That/must+never=show"
    encoded = base64.b64encode(f"{before}{key}xyz".encode())
    left = redaction(key).body(b'{"sent": "' + encoded + b'"}')
    assert b"***" in left
    assert len(left) < len(encoded)


def test_a_key_that_could_be_data_stays_in_bodies() -> None:
    """A key of three letters would spoil answers; it is taken out of words for people all the same."""
    taken = redaction("IBM")
    assert taken.body(b'{"T":"IBM"}') == b'{"T":"IBM"}'
    assert taken.text("bad key IBM") == "bad key ***"


def test_what_takes_a_key_out_does_not_show_it() -> None:
    """Its `repr` names two functions."""
    assert "planted" not in repr(redaction("planted-key"))
