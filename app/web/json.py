"""JSON from clients: strict RFC 8259, within limits, and with memory in proportion to its length."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from app.utils.json import parse_json as parse
from app.web.values import NumberList

PIECE = 2**18
LONGEST_REST = 2**23
LONG_LIST = 1000
"""Minimum length in characters of a list of numbers that stays unparsed text, in a :class:`NumberList`."""
MOST_VALUES = 100_000
"""Maximum number of values outside long lists of numbers. Each takes up to 100 bytes."""
MOST_ESCAPES = 100_000
"""Maximum number of quotes after a backslash, which are checked one by one."""
LONGEST_UNICODE = 2**21
"""Maximum length of a non-ASCII text, which Python stores with four bytes per character."""
_NUMERIC = b"-+0123456789.eE,[] \t\r\n"
_RUN = re.compile(rb"[-+0-9.eE,\[\] \t\r\n]+")
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(b"[{,:"))


def parse_json(data: bytes, most_depth: int) -> Any:
    """Parse JSON in UTF-8, with or without a byte order mark. A long list of numbers becomes a :class:`NumberList`.

    :param most_depth: maximum nesting depth of lists and objects.
    :raises ValueError: if the data is not JSON (NaN is not, either), or exceeds a limit.
    """
    if data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
    cut = _Cut(memoryview(data))
    for start, end in _outside_strings(data):
        cut.take(data, start, end)
    rest = cut.rest(data)
    if len(rest) > LONGEST_UNICODE and not (rest.isascii() and b"\\u" not in rest):
        raise ValueError(f"of a text of more than {LONGEST_UNICODE:,} bytes, every character must be one of ASCII")
    lists = iter(cut.lists)
    return parse(
        rest.decode(),
        most_depth,
        allow_surrogates=True,
        parse_constant=lambda name: next(lists, None) or _no_number(name),
    )


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


@dataclass
class _Cut:
    """Text outside the strings: long lists of numbers, which are cut out, and the rest."""

    data: memoryview
    lists: list[NumberList] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    values: int = 0

    def take(self, data: bytes, start: int, end: int) -> None:
        """Process the bytes between two strings."""
        self.values += 1
        if end - start < LONG_LIST:
            self._count(data[start:end])
            return
        other = 0
        for at in range(start, end, PIECE):
            left = data[at : min(at + PIECE, end)].translate(None, _NUMERIC)
            other += len(left)
            if b"N" in left or b"I" in left:
                _no_number("NaN" if b"N" in left else "Infinity")
            if other > 5 * MOST_VALUES:
                _too_many()
        at = start
        for run in _RUN.finditer(data, start, end):
            if run.end() - run.start() < LONG_LIST:
                continue
            first, last = _balanced(data, *run.span())
            if last - first >= LONG_LIST:
                self._count(data[at:first])
                self.lists.append(NumberList(self.data[first:last]))
                self.places.append((first, last))
                at = last
        self._count(data[at:end])

    def _count(self, text: bytes) -> None:
        if len(text) > LONGEST_REST:
            _too_many()
        if b"N" in text or b"I" in text:
            _no_number("NaN" if b"N" in text else "Infinity")
        self.values += len(text.translate(None, _ALL_BUT_STRUCTURE))
        if self.values > MOST_VALUES:
            _too_many()

    def rest(self, data: bytes) -> bytes:
        """Return the JSON with NaN in place of each list."""
        if not self.places:
            return data
        pieces: list[bytes | memoryview] = []
        at = 0
        for first, last in self.places:
            pieces.append(self.data[at:first])
            pieces.append(b"NaN")
            at = last
        return b"".join([*pieces, self.data[at:]])


def _too_many() -> NoReturn:
    raise ValueError(f"it has more than {MOST_VALUES:,} values besides lists of numbers")


def _outside_strings(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each text between strings."""
    at, escapes = 0, 0
    while (quote := data.find(b'"', at)) >= 0:
        yield at, quote
        at = quote + 1
        while True:
            end = data.find(b'"', at)
            if end < 0:
                return  # the parser reports the unterminated string
            at = end + 1
            if data[end - 1] != 0x5C or _is_even(data, quote, end):
                break
            escapes += 1
            if escapes > MOST_ESCAPES:
                raise ValueError(f"it has more than {MOST_ESCAPES:,} quotes within strings")
    yield at, len(data)


def _is_even(data: bytes, start: int, end: int) -> bool:
    """Return whether the number of backslashes before a quote is even, so that they escape each other."""
    if data[end - 2] != 0x5C:
        return False
    at, size = end, 16
    while True:
        tail = data[max(start, at - size) : at]
        left = len(tail.rstrip(b"\\"))
        if left or at - size <= start:
            return (end - at + len(tail) - left) % 2 == 0
        at, size = at - size, size * 2


def _balanced(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return the start and end of the first complete list in a run of numbers, commas and brackets.

    Start and end are equal if there is none.
    """
    first = data.find(b"[", start, end)
    if first < 0:
        return start, start
    depth = 0
    for at in range(first, end, PIECE):
        piece = np.frombuffer(data, np.uint8, min(PIECE, end - at), at)
        steps = (piece == 0x5B).astype(np.int32)
        steps -= piece == 0x5D
        depths = np.cumsum(steps, dtype=np.int32)
        depths += depth
        closed = np.flatnonzero((depths == 0) & (piece == 0x5D))
        if len(closed):
            return first, at + int(closed[0]) + 1
        depth = int(depths[-1])
    return start, start
