"""Mutations of the headers of ``.params`` files, which are few bytes among many values."""

from __future__ import annotations

import re
from random import Random

from fuzz.mutations import blind

ARRAY = re.compile(rb"[\xc8\xc9\xca]\xfa\x93\xf9")
"""The magic numbers of arrays (0xF993FAC8 to CA, little-endian)."""
HEADER_BYTES = 48


def mutate(data: bytes, random: Random) -> bytes:
    """Damage a number in the header of the file, of an array or of the names."""
    if random.random() < 0.2:
        return blind.mutate(data, random)
    for _ in range(random.choice((1, 1, 2))):
        headers = [0, *(match.start() for match in ARRAY.finditer(data))]
        names = data.find(b"arg:")
        if names > 8:
            headers += [names - 16, names - 8]
        offset = random.choice(headers) + 4 * random.randrange(HEADER_BYTES // 4)
        data = blind.overwrite_number(data, min(offset, len(data)), random)
    return data
