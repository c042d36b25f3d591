"""Delays before restarts of a process that ends repeatedly."""

from __future__ import annotations

import time
from collections.abc import Callable


class Backoff:
    """A backoff of 1, 1, 2, 3, 5, 8 … seconds, as between Multi Model Server's starts of a worker.

    A loop that does nothing else sleeps for :meth:`next_delay` after a failure and calls :meth:`reset` after a success.
    A polling loop calls :meth:`attempt` at every start, and starts again when :meth:`remaining` is 0.

    :param longest: maximum delay in seconds; MMS's by default.
    """

    def __init__(self, longest: float = 1597.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest = longest
        self._clock = clock
        self._due = 0.0
        self._delay = self._following = min(1.0, longest)

    def next_delay(self) -> float:
        """Return the next delay in seconds."""
        now = self._delay
        self._delay, self._following = self._following, min(self._delay + self._following, self._longest)
        return now

    def reset(self) -> None:
        """Reset the delay to one second."""
        self._delay = self._following = min(1.0, self._longest)

    def attempt(self) -> None:
        """Record a start of the process. Reset the delay to one second if the start was due for longer than the maximum
        delay, because the previous process was then alive meanwhile."""
        now = self._clock()
        if now - self._due > self._longest:
            self.reset()
        self._due = now + self.next_delay()

    def remaining(self) -> float:
        """Return the seconds until the next attempt is due; 0 if it is."""
        return max(0.0, self._due - self._clock())
