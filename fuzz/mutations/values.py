"""Values at which readers fail: limits of number types, lengths, and texts that are no plain names."""

from __future__ import annotations

from random import Random
from typing import Any

INTEGERS = (
    *(0, 1, 2, 3, 4, 7, 8, 16, 31, 32, 33, 64, 100, 127, 128, 255, 256, 1000, 4095, 4096, 32767, 32768, 65535, 65536),
    *(2**24 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
TEXTS = (
    *("", " ", ".", "..", "/", "\\", "a/b", "../../escaped", "/tmp/escaped", "C:\\escaped", "a" * 300, "a" * 3000),
    *("\0", "a\0b", "\n", "\ud800", "\udcff", "é", "e\u0301", "😀", "ﬁ", "%s%n", "{0}", "null", "None", "NaN", "-1"),
    *("9" * 5000, "1e999", "0x10", "(1, 1)", "(99999999999, 1)", "[]", "True"),
    *("data", "__class__", "MAR-INF/MANIFEST.json"),
)
FLOATS = (0.0, -0.0, 0.5, 1e-320, 1e38, 1e39, 1e308, float("inf"), float("-inf"), float("nan"))


def integer(random: Random) -> int:
    """Return a limit of a number type, a neighbour of one, or the negative of these."""
    number = random.choice(INTEGERS) + random.choice((0, 0, 0, 1, -1))
    return -number if random.random() < 0.15 else number


def text(random: Random) -> str:
    """Return a text that is no plain name."""
    return random.choice(TEXTS)


def json_value(random: Random) -> Any:
    """Return a value of any JSON type."""
    kind = random.randrange(10)
    if kind == 0:
        return None
    if kind == 1:
        return random.random() < 0.5
    if kind == 2:
        return random.choice((10**400, -(10**400), 10**30))
    if kind in (3, 4):
        return integer(random)
    if kind == 5:
        return random.choice(FLOATS)
    if kind in (6, 7):
        return text(random)
    if kind == 8:
        return [json_value(random) for _ in range(random.randrange(5))]
    return {text(random): json_value(random) for _ in range(random.randrange(4))}
