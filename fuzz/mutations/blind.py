"""Mutations that know nothing of the format."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fuzz.mutations.values import integer


def mutate(data: bytes, random: Random) -> bytes:
    """Damage a few random places."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        data = random.choice((_flip, _set, _number, _truncate, _remove, _repeat, _insert, _overwrite))(data, random)
    return data


def overwrite_number(data: bytes, offset: int, random: Random) -> bytes:
    """Write a limit of a number type at an offset."""
    size, order = random.choice((1, 2, 2, 4, 4, 4, 8)), random.choice(("little", "little", "big"))
    number = (integer(random) % 2 ** (8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
    return (data[:offset] + number + data[offset + size :])[: max(len(data), offset + size)]


def _flip(data: bytes, random: Random) -> bytes:
    return _change(data, random, lambda byte: byte ^ (1 << random.randrange(8)))


def _set(data: bytes, random: Random) -> bytes:
    return _change(data, random, lambda _byte: random.choice((0, 0xFF, 0x7F, 0x80, random.randrange(256))))


def _change(data: bytes, random: Random, new_byte: Callable[[int], int]) -> bytes:
    if not data:
        return data
    offset = random.randrange(len(data))
    return data[:offset] + bytes([new_byte(data[offset])]) + data[offset + 1 :]


def _number(data: bytes, random: Random) -> bytes:
    return overwrite_number(data, random.randrange(len(data) + 1), random)


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)] if random.random() < 0.3 else data


def _remove(data: bytes, random: Random) -> bytes:
    begin, end = _range(data, random)
    return data[:begin] + data[end:]


def _repeat(data: bytes, random: Random) -> bytes:
    begin, end = _range(data, random)
    return data[:end] + data[begin:end] * random.choice((1, 1, 2, 20)) + data[end:]


def _insert(data: bytes, random: Random) -> bytes:
    offset = random.randrange(len(data) + 1)
    return data[:offset] + random.randbytes(random.randrange(1, 17)) + data[offset:]


def _overwrite(data: bytes, random: Random) -> bytes:
    begin, end = _range(data, random)
    offset = random.randrange(len(data) + 1)
    return data[:offset] + data[begin:end] + data[offset + end - begin :]


def _range(data: bytes, random: Random) -> tuple[int, int]:
    """Return the start and end of at most 64 bytes."""
    begin = random.randrange(len(data) + 1)
    return begin, min(len(data), begin + random.randrange(1, 65))
