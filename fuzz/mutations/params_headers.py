"""Damage to the headers of ``.params`` files, which are few bytes among many values."""

from __future__ import annotations

import re
from random import Random

from fuzz.mutations import blind

ARRAY = re.compile(rb"[\xc8\xc9\xca]\xfa\x93\xf9")
"""What an array begins with (0xF993FAC8 to CA, little-endian)."""
HEADER_BYTES = 48


def mutate(data: bytes, random: Random) -> bytes:
    """Change a number of the file's header, of an array's, or of the names'."""
    if random.random() < 0.2:
        return blind.mutate(data, random)
    for _ in range(random.choice((1, 1, 2))):
        starts = [0, *(found.start() for found in ARRAY.finditer(data))]
        names = data.find(b"arg:")
        if names > 8:
            starts += [names - 16, names - 8]
        at = random.choice(starts) + 4 * random.randrange(HEADER_BYTES // 4)
        data = blind.number_at(data, min(at, len(data)), random)
    return data
