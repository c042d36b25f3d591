"""The parts of a fuzz target: a reader, seeds that it accepts, and mutations of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random


@dataclass(frozen=True)
class Target:
    """A reader under test.

    :param suffix: ends the name of each case.
    :param seeds: returns intact files that the reader accepts.
    :param mutate: damages a file. It corrects checksums and lengths, so that the damage gets past the first checks.
    :param read: reads a file and asserts that the result is plausible; it may write only into the folder of that file.
    """

    name: str
    suffix: str
    seeds: Callable[[], list[bytes]]
    mutate: Callable[[bytes, Random], bytes]
    read: Callable[[Path], object]
