"""A pool of threads that are started on demand, and end when they have been idle.

``concurrent.futures.ThreadPoolExecutor`` of Python 3.11 counts a thread as idle that has just taken its next work item.
An item may then wait for others to end although the pool is below its maximum size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

IDLE_SECONDS = 3.0
"""Seconds after which an idle thread ends."""

Work = Callable[[], None]


class ThreadPool:
    """A pool of at most ``size`` daemon threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._unfinished = 0

    def submit(self, work: Work) -> None:
        """Queue a work item, which must not raise, for a thread."""
        with self._lock:
            self._unfinished += 1
            starts = self._threads < min(self._unfinished, self._size)
            self._threads += starts
            self._queue.put(work)
        if starts:
            threading.Thread(target=self._run, name="request", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                work = self._queue.get(timeout=IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._queue.empty():  # nothing was queued meanwhile that counts on this thread
                        self._threads -= 1
                        return
                continue
            if work is None:
                return
            work()
            with self._lock:
                self._unfinished -= 1

    def shutdown(self, wait: bool = False) -> None:
        """End idle threads now, and busy threads once the queue is empty.

        :param wait: must be False, as gunicorn passes it.
        """
        for _ in range(self._threads):
            self._queue.put(None)
