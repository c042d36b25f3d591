"""How large an archive may become, judged by what comes out of it and never by what its headers say."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import InvalidArchive


@dataclass(frozen=True)
class Limits:
    """Most that an archive may hold: entries, bytes of all and of one, and unpacked bytes for each packed one.

    The ratio counts only beyond ``free_bytes``. Trained weights hardly shrink; a deflated run of zeros does 1,000-fold.
    """

    total_bytes: int = 4 * 2**30
    entry_bytes: int = 4 * 2**30
    entries: int = 10_000
    ratio: int = 100
    free_bytes: int = 64 * 2**20


class Meter:
    """Counts what comes out of an archive of ``packed`` bytes."""

    def __init__(self, limits: Limits, packed: int) -> None:
        self._limits = limits
        self._packed = packed
        self._entries = 0
        self._entry = 0
        self._total = 0

    def begin_entry(self) -> None:
        """Another entry comes.

        :raises InvalidArchive: where it is one too many.
        """
        self._entries += 1
        self._entry = 0
        if self._entries > self._limits.entries:
            raise InvalidArchive(f"it has more than {self._limits.entries:,} entries")

    def add(self, count: int) -> None:
        """So many more bytes of the entry have come.

        :raises InvalidArchive: where they are too many.
        """
        self._entry += count
        self._total += count
        if self._entry > self._limits.entry_bytes:
            raise InvalidArchive(f"one of its entries holds more than {self._limits.entry_bytes:,} bytes")
        if self._total > self._limits.total_bytes:
            raise InvalidArchive(f"it holds more than {self._limits.total_bytes:,} bytes")
        if self._total > max(self._limits.free_bytes, self._limits.ratio * self._packed):
            raise InvalidArchive(
                f"its {self._packed:,} bytes unpack to more than {self._limits.ratio} times as many: no model does"
            )
