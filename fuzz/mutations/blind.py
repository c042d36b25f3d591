"""Damage without any knowledge of the format."""

from __future__ import annotations

from random import Random

from fuzz.mutations.values import integer


def mutate(data: bytes, random: Random) -> bytes:
    """Change a few places, anywhere."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        data = random.choice((_flip, _set, _number, _cut, _drop, _repeat, _insert, _swap))(data, random)
    return data


def number_at(data: bytes, at: int, random: Random) -> bytes:
    """Put an edge of a number type at a place."""
    size, order = random.choice((1, 2, 2, 4, 4, 4, 8)), random.choice(("little", "little", "big"))
    written = (integer(random) % 2 ** (8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
    return (data[:at] + written + data[at + size :])[: max(len(data), at + size)]


def piece(data: bytes, random: Random, longest: int = 64) -> tuple[int, int]:
    """Begin and end of a short piece."""
    begin = random.randrange(len(data) + 1)
    return begin, min(len(data), begin + random.randrange(1, longest + 1))


def _flip(data: bytes, random: Random) -> bytes:
    return _change(data, random, lambda byte: byte ^ (1 << random.randrange(8)))


def _set(data: bytes, random: Random) -> bytes:
    return _change(data, random, lambda _byte: random.choice((0, 0xFF, 0x7F, 0x80, random.randrange(256))))


def _change(data: bytes, random: Random, new: object) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([new(data[at])]) + data[at + 1 :]  # type: ignore[operator]


def _number(data: bytes, random: Random) -> bytes:
    return number_at(data, random.randrange(len(data) + 1), random)


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)] if random.random() < 0.3 else data


def _drop(data: bytes, random: Random) -> bytes:
    begin, end = piece(data, random)
    return data[:begin] + data[end:]


def _repeat(data: bytes, random: Random) -> bytes:
    begin, end = piece(data, random)
    return data[:end] + data[begin:end] * random.choice((1, 1, 2, 20)) + data[end:]


def _insert(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.randrange(1, 17)) + data[at:]


def _swap(data: bytes, random: Random) -> bytes:
    begin, end = piece(data, random)
    other = random.randrange(len(data) + 1)
    return data[:other] + data[begin:end] + data[other + end - begin :]
