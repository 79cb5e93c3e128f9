"""Secrets that are planted, and where they are looked for: bytes of any kind, whole lakes and databases, objects and errors."""

from __future__ import annotations

import base64
import gzip
import io
import json
import threading
import traceback
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq
from sqlalchemy import create_engine, inspect, text

from condvest.storage.store import Store

#: Characters that encodings change: a secret that is only looked for as it is would not be found in a URL or in JSON.
KEY: Final = "planted-key/7fQ+z=Wx4~b"
WRONG_KEY: Final = "planted-wrong/5gH+k=Pq2~d"
PASSWORD: Final = "planted p@ss/word:%41+x=9"
WRONG_PASSWORD: Final = "planted wr@ng/word:%42+y=8"
WRONG_SECRET: Final = "planted/secret+access=key3Lm8"
TOKEN: Final = "planted/session+token=8Yt6Rv5"
FLAT_SECRET: Final = "planted/flat+files=key1Jk9Nn"


def forms(secret: str) -> set[bytes]:
    """Return how a secret may be written: as it is, in a URL, in JSON, in Base64 alone or within something longer, in hex."""
    raw = secret.encode()
    found = {raw, quote(secret).encode(), quote(secret, safe="").encode(), quote_plus(secret).encode()}
    found |= {form.lower() for form in found} | {json.dumps(secret)[1:-1].encode(), raw.hex().encode()}
    found.add(secret.replace("/", "\\/").encode())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in (b"", b"x", b"xx"):
            encoded = encode(before + raw)
            found.add(encoded[4 if before else 0 : len(encoded) - 4])  # what stands before and behind changes the ends
    return found


class Search:
    """Looks for some secrets; `found` says where each turned up."""

    def __init__(self, *secrets: str) -> None:
        """Take the secrets."""
        self._forms = {secret: forms(secret) for secret in secrets}
        self.found: list[str] = []
        self.looked_at = 0

    def look(self, where: str, data: bytes | str) -> None:
        """Look into some bytes or text."""
        given = data.encode(errors="surrogateescape") if isinstance(data, str) else data
        self.looked_at += 1
        self.found += [
            f"{secret!r} in {where}, as {form!r}"
            for secret, written in self._forms.items()
            for form in written
            if form in given
        ]

    def look_at_objects(self, store: Store) -> int:
        """Look into keys and objects of a lake, unpacked and read where they are gzip or Parquet; return how many."""
        infos = list(store.list(""))
        for info in infos:
            data = store.get(info.key).data
            self.look(f"key {info.key}", info.key)
            for kind, read in _read(data):
                self.look(f"object {info.key} ({kind})", read)
        return len(infos)

    def look_at_files(self, folder: Path) -> None:
        """Look into the names and bytes of all files below a folder, hidden ones too."""
        for path in sorted(folder.rglob("*")):
            self.look(f"name {path}", str(path))
            if path.is_file():
                self.look(f"file {path}", path.read_bytes())

    def look_at_database(self, url: str) -> int:
        """Look into every row of every table; return how many rows there are."""
        engine, count = create_engine(url), 0
        with engine.connect() as connection:
            for table in inspect(engine).get_table_names():
                for row in connection.execute(text(f'SELECT * FROM "{table}"')):
                    count += 1
                    self.look(f"table {table}", str(tuple(row)))
        engine.dispose()
        return count

    def look_at(self, *roots: object) -> int:
        """Look into `repr` and `str` of objects and all that they hold; return how many there were.

        What is of this package is opened, and containers are; of what other libraries made the outside is looked at.
        """
        waiting, seen = [*roots], dict[int, object]()
        while waiting:
            thing = waiting.pop()
            if id(thing) in seen:
                continue
            seen[id(thing)] = thing
            self.look(f"repr of a {type(thing).__qualname__}", repr(thing))
            if not isinstance(thing, bytes):
                self.look(f"str of a {type(thing).__qualname__}", str(thing))
            waiting += _held(thing)
        return len(seen)

    def look_at_error(self, error: BaseException) -> None:
        """Look at an error, at all that it was raised from or during, shown or not, and at its traceback as printed."""
        waiting, seen = [error], set[int]()
        while waiting:
            one = waiting.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            self.look(f"traceback of {type(one).__name__}", "".join(traceback.format_exception(one)))
            self.look_at(one, *one.args, *vars(one).values())
            waiting += [other for other in (one.__cause__, one.__context__) if other is not None]


def _read(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "as stored", data
    with suppress(OSError, EOFError, zlib.error):
        yield "unpacked", gzip.decompress(data)
    if data.startswith(b"PAR1"):
        table = pq.read_table(io.BytesIO(data))
        yield "rows", repr(table.to_pylist()).encode()
        yield "schema", repr((table.schema.metadata, pq.read_metadata(io.BytesIO(data)).metadata)).encode()


def _held(thing: object) -> Iterable[object]:
    if isinstance(thing, Mapping):
        return [*thing.keys(), *thing.values()]
    if type(thing) in (list, tuple, set, frozenset):  # a named tuple is a thing of its own
        return list(cast(Iterable[object], thing))
    if not type(thing).__module__.startswith("condvest") or isinstance(thing, type):
        return []
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return [*getattr(thing, "__dict__", {}).values(), *(getattr(thing, name) for name in slots if hasattr(thing, name))]


class CommandLines:
    """Reads the command line of every process on this machine, again and again, for the length of a `with` block (Linux)."""

    def __init__(self) -> None:
        """Prepare; nothing is read yet."""
        self.seen: set[bytes] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # that process has ended
                    self.seen.add(path.read_bytes())
