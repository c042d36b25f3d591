"""Load balancing between server processes: how many connections each has, in memory that all of them share.

All processes wait at the same port, and chance decides which of them accepts a connection. Eight clients may so come to
be five with one process and three with the other, and wait longer for as long as they keep their connections.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

PLACES = 256
"""Of processes. They are numbered as they are started, so there are never as many at once."""


class ConnectionCounts:
    """The counts. To be made before the processes are started, as memory is inherited."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * PLACES)).cast("I")  # one more than there are; 0 of no process

    def set(self, process: int, connections: int) -> None:
        """Set the count of a process."""
        self._counts[process % PLACES] = connections + 1

    def remove(self, process: int) -> None:
        """Remove a process that accepts no connections."""
        self._counts[process % PLACES] = 0

    def retain(self, processes: Iterable[int]) -> None:
        """Remove all processes but these."""
        live_slots = {process % PLACES for process in processes}
        for place in range(PLACES):
            if place not in live_slots:
                self._counts[place] = 0

    def should_accept(self, connections: int, waiting: int) -> bool:
        """Return whether the next connection is for a process that has so many: if it has less than its share of all,
        those that wait at the port included; or if no process has fewer, or hardly any fewer: of many, one in eight
        does not matter."""
        counts = [count - 1 for count in self._counts.tolist() if count]
        return connections * len(counts) < sum(counts) + waiting or all(
            count + count // 8 >= connections for count in counts
        )


COUNTS = ConnectionCounts()
"""Those of the server."""
