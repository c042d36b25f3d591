"""What is fuzzed: a reader, files that it reads, and a way to damage them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random


@dataclass(frozen=True)
class Target:
    """One reader.

    ``seeds`` gives whole files that it accepts. ``mutate`` damages one where it hurts: it keeps checksums and lengths
    right where a blind change would end at the first check. ``read`` reads a file; it may write only beside it, and
    checks what came of it by ``assert``.
    """

    name: str
    suffix: str
    seeds: Callable[[], list[bytes]]
    mutate: Callable[[bytes, Random], bytes]
    read: Callable[[Path], object]
