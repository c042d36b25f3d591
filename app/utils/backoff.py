"""Delays before a process that keeps ending is started again."""

from __future__ import annotations

import time
from collections.abc import Callable


class Backoff:
    """Delays of 1, 1, 2, 3, 5, 8 … seconds, as Multi Model Server has them between the starts of a worker.

    A loop that does nothing else sleeps for :meth:`next_delay` after a failure and calls :meth:`reset` after a success.
    One that looks now and then calls :meth:`attempt` at every start, and starts again when :meth:`remaining` is 0.

    :param longest: seconds of the longest delay; MMS's by default.
    """

    def __init__(self, longest: float = 1597.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest = longest
        self._clock = clock
        self._due = 0.0
        self._delay = self._following = min(1.0, longest)

    def next_delay(self) -> float:
        """Return the seconds to wait this time."""
        now = self._delay
        self._delay, self._following = self._following, min(self._delay + self._following, self._longest)
        return now

    def reset(self) -> None:
        """Begin again at one second."""
        self._delay = self._following = min(1.0, self._longest)

    def attempt(self) -> None:
        """Note that the process is started now. Begin again at one second if this was due for longer than the longest
        delay, which means that the one before was alive meanwhile."""
        now = self._clock()
        if now - self._due > self._longest:
            self.reset()
        self._due = now + self.next_delay()

    def remaining(self) -> float:
        """Return the seconds until the next attempt is due; 0 if it is."""
        return max(0.0, self._due - self._clock())
