"""Load balancing between workers by their connection counts, in shared memory.

All workers wait at the same port, and chance decides which of them accepts a connection. Eight clients may be divided
five to three between two workers, and then wait longer for as long as they keep their connections.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

PLACES = 256
"""Slots for processes. Processes are numbered in the order of their start, so never as many run at once."""


class ConnectionCounts:
    """The connection counts of all workers. Create it before the workers fork, so that they inherit the memory."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * PLACES)).cast("I")  # count + 1; 0 marks a free slot

    def set(self, process: int, connections: int) -> None:
        """Set the count of a process."""
        self._counts[process % PLACES] = connections + 1

    def remove(self, process: int) -> None:
        """Remove a process that no longer accepts connections."""
        self._counts[process % PLACES] = 0

    def retain(self, processes: Iterable[int]) -> None:
        """Remove all processes except these."""
        live_slots = {process % PLACES for process in processes}
        for place in range(PLACES):
            if place not in live_slots:
                self._counts[place] = 0

    def should_accept(self, connections: int, waiting: int) -> bool:
        """Return whether a process with ``connections`` should accept the next one.

        It should if it has less than its share of all connections, including those waiting at the port. It also should
        if no process has noticeably fewer: a difference of one in eight does not matter.
        """
        counts = [count - 1 for count in self._counts.tolist() if count]
        return connections * len(counts) < sum(counts) + waiting or all(
            count + count // 8 >= connections for count in counts
        )


COUNTS = ConnectionCounts()
"""The connection counts of the server."""
