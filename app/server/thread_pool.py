"""A pool of threads, which are started when they are needed.

``concurrent.futures.ThreadPoolExecutor`` of Python 3.11 counts a thread as idle that has just taken its next piece of
work: a piece may then wait for others to end though there are fewer threads than there may be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]


class ThreadPool:
    """At most ``size`` threads, none of which the end of the process waits for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._unfinished = 0

    def submit(self, work: Work) -> None:
        """Have a thread do a piece of work, which raises nothing, after those that were submitted before."""
        with self._lock:
            self._unfinished += 1
            starts = self._threads < min(self._unfinished, self._size)
            self._threads += starts
        self._queue.put(work)
        if starts:
            threading.Thread(target=self._run, name="request", daemon=True).start()

    def _run(self) -> None:
        while work := self._queue.get():
            work()
            with self._lock:
                self._unfinished -= 1

    def shutdown(self, wait: bool = False) -> None:
        """End the threads that have nothing to do, and the others when they have nothing to do any more.

        :param wait: must be False; gunicorn says so.
        """
        for _ in range(self._threads):
            self._queue.put(None)
