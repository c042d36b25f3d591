"""Values in client data: Base64, and long texts of numbers, which are parsed into arrays in pieces."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.types import FloatArray

BASE64_CHUNK = 2**16
LONGEST_PREFIX = 200
_REPLACED = bytes.maketrans(b"-_ ", b"+/+")
_DROPPED = b"\r\n\t"


def decode_base64(text: str | bytes) -> bytes:
    """Decode Base64 in the standard or the URL-safe alphabet, with or without line breaks and padding, or in a
    ``data:`` URL.

    A space counts as a plus sign, which form decoding turns into a space.

    :raises ValueError: if the text is not Base64.
    """
    head = _ascii(text[:LONGEST_PREFIX]).lower()
    start, end = 0, len(text)
    if head.startswith(b"data:"):
        start = head.find(b",") + 1
        if not head[: start - 1].endswith(b";base64"):
            raise ValueError("the data: URL is not one of base64")
    while end > start and not (tail := _ascii(text[max(start, end - BASE64_CHUNK) : end]).rstrip(b"= \r\n\t")):
        end = max(start, end - BASE64_CHUNK)
    if end > start:
        end = max(start, end - BASE64_CHUNK) + len(tail)
    decoded, rest = bytearray(), b""
    for at in range(start, end, BASE64_CHUNK):
        rest += _ascii(text[at : min(at + BASE64_CHUNK, end)]).translate(_REPLACED, _DROPPED)
        whole = len(rest) & ~3
        decoded += base64.b64decode(rest[:whole], validate=True)
        rest = rest[whole:]
    decoded += base64.b64decode(rest + b"=" * (-len(rest) % 4), validate=True)
    return bytes(decoded)


def _ascii(text: str | bytes) -> bytes:
    return text.encode("ascii") if isinstance(text, str) else text


NUMBER_CHUNK = 2**16
EXCERPT_BYTES = 60
MOST_AXES = 16
_OPEN, _COMMA = b"[,"
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[],"))
_NO_BRACKETS = bytes.maketrans(b"[]", b"  ")

Values = Sequence[Any] | NDArray[Any]
Convert = Callable[[Any, int], NDArray[Any]]
"""Conversion of some values to an array; the number is the index of the first value."""


@dataclass(frozen=True)
class NumberList:
    """A JSON list of numbers, or of equally long lists of numbers, that is not parsed yet.

    :param text: text from the first bracket to the last.
    """

    text: memoryview

    def __str__(self) -> str:
        return bytes(self.text[:EXCERPT_BYTES]).decode(errors="replace")

    def shape(self) -> tuple[int, ...]:
        """Return the shape of the list without parsing the numbers.

        :raises ValueError: if its lists have different lengths.
        """
        brackets = np.frombuffer(
            b"".join(bytes(piece).translate(None, _ALL_BUT_BRACKETS) for piece in _pieces(self.text)), np.uint8
        )
        axes = int(np.argmax(brackets != _OPEN))
        if axes > MOST_AXES:
            raise ValueError(f"its lists are nested more than {MOST_AXES} deep")
        shape: list[int] = []
        inner = 0  # length of the inner list, in brackets and commas
        for depth in range(1, axes + 1):
            end = brackets.tobytes().find(b"]" * depth) + depth
            own = brackets[axes - depth : end]
            if (len(own) - 1) % (inner + 1) or not _repeats(own[1:-1], inner + 1):
                raise ValueError("its lists have different lengths")
            shape.insert(0, (len(own) - 1) // (inner + 1))
            inner = len(own)
        if inner != len(brackets):
            raise ValueError("its lists have different lengths")
        return tuple(shape)

    def read(self, shape: tuple[int, ...], convert: Convert) -> FloatArray:
        """Parse the numbers.

        :param convert: conversion from Python's numbers to float32.
        :raises ValueError: if they are not numbers in JSON, or their count does not match the shape.
        """
        numbers = np.empty(prod(shape), np.float32)
        read(self.text, numbers, _from_json, convert)
        return numbers.reshape(shape)


def read(text: memoryview, numbers: FloatArray, parse: Callable[[bytes], Values], convert: Convert) -> None:
    """Parse comma-separated numbers into an array.

    :param numbers: array with one axis and the expected length.
    :param parse: parser of one piece of the text.
    :raises ValueError: if there are more or fewer numbers, or ``parse`` or ``convert`` rejects them.
    """
    count, at = len(numbers), 0
    for piece in _whole_numbers(text):
        values = parse(piece)
        if at + len(values) > count:
            raise ValueError(f"it has more than {count} values")
        numbers[at : at + len(values)] = convert(values, at)
        at += len(values)
    if at != count:
        raise ValueError(f"it has {at} values instead of {count}")


def _from_json(piece: bytes) -> Values:
    values: Values = json.loads(b"[" + piece.translate(_NO_BRACKETS) + b"]")
    return values


def _repeats(content: NDArray[np.uint8], period: int) -> bool:
    """Return whether the brackets repeat with the given period, separated by commas."""
    commas = content[period - 1 :: period]
    return bool((commas == _COMMA).all()) and bool((content[:-period] == content[period:]).all())


def _pieces(text: memoryview) -> Iterator[memoryview]:
    for at in range(0, len(text), NUMBER_CHUNK):
        yield text[at : at + NUMBER_CHUNK]


def _whole_numbers(text: memoryview) -> Iterator[bytes]:
    """Split a text at commas into pieces of whole numbers.

    :raises ValueError: if a piece of ``NUMBER_CHUNK`` bytes has no comma.
    """
    at = 0
    while at < len(text):
        piece = bytes(text[at : at + NUMBER_CHUNK])
        if at + NUMBER_CHUNK < len(text):
            comma = piece.rfind(b",")
            if comma < 0:
                raise ValueError(f"it has no comma in {NUMBER_CHUNK} bytes")
            piece = piece[:comma]
        yield piece
        at += len(piece) + 1
