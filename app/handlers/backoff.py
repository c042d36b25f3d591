"""How long to wait before a process that has died is started again."""

from __future__ import annotations

LONGEST = 1597


class Backoff:
    """1, 1, 2, 3, 5, 8 … 1597 seconds, as Multi Model Server waits."""

    def __init__(self) -> None:
        self._now, self._next = 1, 1

    def seconds(self) -> int:
        """The seconds to wait this time."""
        now = self._now
        if now < LONGEST:
            self._now, self._next = self._next, self._now + self._next
        return now

    def reset(self) -> None:
        """Begin again at one second."""
        self._now, self._next = 1, 1
