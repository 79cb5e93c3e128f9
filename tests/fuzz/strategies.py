"""What the suites are fed with: hostile values, answers spoiled in their structure or in their bytes; and how many examples."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

Test = TypeVar("Test", bound=Callable[..., object])

#: The number of examples is multiplied by it: a long run looks further along the same, fixed, way.
TIMES: Final = float(os.environ.get("CONDVEST_FUZZ_TIMES", "1"))

# Texts that stand for what `json.dumps` would not write; `as_bytes` puts the real thing in their place.
_RAW: Final = {
    "@deep@": "[" * 400 + "]" * 400,
    "@deeper@": '{"a":' * 930 + "1" + "}" * 930,
    "@deepest@": "[" * 20_000 + "]" * 20_000,
    "@long@": "9" * 400,
    "@longer@": "9" * 4301,
    "@nan@": "NaN",
    "@infinity@": "-Infinity",
    "@exponent@": "1e999999",
    "@surrogate@": r'"\ud83d"',
    "@twice@": '{"T":"AAPL","T":"MSFT","o":1,"o":2}',
}
_TEXTS: Final = (
    "",
    " ",
    "..",
    "../../x",
    "/etc/passwd",
    "A\x00B",
    "\ufeff",
    "NaN",
    "true",
    "A" * 40,
    "aapl",
    "AAPL",
    "C:",
    "é",
    "\u202e",
)
TEXTS: Final = st.sampled_from(_TEXTS)
_NUMBERS: Final = (
    0, -0.0, -1, 0.5, 1, 1.5, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 1e18, 1e-320, 1.7e308, -1e308,
)  # fmt: skip
NUMBERS: Final = st.sampled_from(_NUMBERS)
#: Dates that are dates, and that no calendar has.
_DATES: Final = ("0001-01-01", "9999-12-31", "3024-03-05", "0001-01-01T00:00:00+05:00", "2025-02-30", "20250102")
HOSTILE: Final = st.one_of(
    st.sampled_from(sorted(_RAW)),
    st.sampled_from(sorted(_RAW)),
    st.none(),
    st.booleans(),
    NUMBERS,
    TEXTS,
    st.text(max_size=6),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=2),
    st.floats(allow_nan=True),
    st.dates().map(str),
    st.integers(),
    st.just([[]]),
    st.just({"T": {}}),
)


def fuzzed(examples: int) -> Callable[[Test], Test]:
    """Decorate a test: the same examples every time, `CONDVEST_FUZZ_TIMES` times as many, none kept on disk."""
    return settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=max(1, int(examples * TIMES)),
        suppress_health_check=list(HealthCheck),
        # Not shrunk: a failure is one file or one call already, and a lake for each attempt would take minutes.
        phases=(Phase.explicit, Phase.generate),
        print_blob=True,
    )


def as_bytes(value: object) -> bytes:
    """Return a value as the JSON that a broken or hostile server may send: also what no encoder would write."""
    text = json.dumps(value)
    for mark, raw in _RAW.items():
        text = text.replace(json.dumps(mark), raw)
    return text.encode()


@st.composite
def spoiled(draw: st.DrawFn, valid: Any) -> Any:
    """Return a valid value after one to three changes of its structure: values replaced, taken out, renamed, repeated."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            return value
        holder, name = draw(st.sampled_from(places))
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "repeat", "wrap"]))
        if how == "remove":
            del holder[name]
        elif how == "wrap":
            holder[name] = [holder[name]]
        elif how == "repeat" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[name]))
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(TEXTS)] = holder.pop(name)
        else:
            holder[name] = copy.deepcopy(draw(HOSTILE))  # the drawn one is shared between examples
    return value


def _places(value: Any) -> Any:
    """Yield each place in nested lists and objects as its holder and name."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in list(pairs):
        yield value, name
        yield from _places(inner)


def everywhere(valid: Any) -> Iterator[bytes]:
    """Yield a valid answer with each hostile value in each of its places, and without each of its places."""
    values: list[Any] = [*sorted(_RAW), *_NUMBERS, *_TEXTS, *_DATES, None, True, False, [], {}, [[]], {"T": {}}, ...]
    for number in range(len(list(_places(valid)))):
        for hostile in values:
            value = copy.deepcopy(valid)
            holder, name = list(_places(value))[number]
            if hostile is ...:
                del holder[name]
            else:
                holder[name] = hostile
            yield as_bytes(value)


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """Return bytes after one or two accidents: cut, flipped, overwritten, repeated, with something before or behind."""
    data = bytearray(body)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["cut", "flip", "flip", "overwrite", "insert", "before", "behind", "head", "zero"]))
        if how == "cut":
            del data[at:]
        elif how == "head":
            del data[:at]
        elif how == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "overwrite":
            piece = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(piece)] = piece
        elif how == "zero":
            data[at : at + 16] = bytes(len(data[at : at + 16]))
        elif how == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=4))
        elif how == "before":
            data[:0] = draw(st.sampled_from([b"\xef\xbb\xbf", b"\x00", b" \n", b"\xff\xfe"]))
        elif how == "behind":
            data += draw(st.sampled_from([b"\x00", b"}", b"\n\n", b"garbage", b"\xff"]))
    return bytes(data)


def bodies(valid: Any) -> st.SearchStrategy[bytes]:
    """Return answers that a client must survive: any bytes, any JSON, and a valid answer in all states of disrepair."""
    sound = as_bytes(valid)
    anything = st.recursive(
        HOSTILE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
    )
    return st.one_of(
        spoiled(valid).map(as_bytes),
        spoiled(valid).map(as_bytes),
        damaged(sound),
        anything.map(as_bytes),
        st.binary(max_size=40),
        st.sampled_from(
            [b"", b"null", b"[]", b"{}", b"\x00", sound + sound, b"[" * 100_000, sound.decode().encode("utf-16")]
        ),
    )
