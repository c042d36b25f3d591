"""Places for work of which only so much may be done at once, given out in the order in which they were asked for."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from app.dispatch import about_to_block


class Slots:
    """A semaphore that is fair: Python's own lets whoever comes at the right moment pass those who wait.

    :param count: places there are.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._waiting: deque[threading.Event] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            about_to_block()
            turn = threading.Event()
            self._waiting.append(turn)
        turn.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # the place goes from hand to hand
            else:
                self._free += 1
