"""The batches that wait for a worker."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from app.handlers.types import HandlerAnswer, HandlerRequest


@dataclass(frozen=True)
class Job:
    """A batch, and where its answers go."""

    batch: Sequence[HandlerRequest]
    answers: Future[list[HandlerAnswer]] = field(default_factory=Future)

    def refuse(self, answer: HandlerAnswer) -> None:
        """Give every request of the batch the same answer."""
        self.answers.set_result([answer] * len(self.batch))


class Jobs:
    """First come, first served. ``changed`` guards it and all workers' states, and is notified whenever one of them
    changes."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._waiting: deque[Job] = deque()

    def put(self, job: Job) -> None:
        """Add a job."""
        with self.changed:
            self._waiting.append(job)
            self.changed.notify_all()

    def take(self, enough: Callable[[], bool]) -> Job | None:
        """Wait for the next job; None as soon as ``enough`` is true."""
        with self.changed:
            self.changed.wait_for(lambda: enough() or bool(self._waiting))
            return None if enough() else self._waiting.popleft()

    def refuse_all(self, answer: HandlerAnswer) -> None:
        """Answer everything that waits."""
        with self.changed:
            while self._waiting:
                self._waiting.popleft().refuse(answer)

    def wake(self) -> None:
        """Have everybody who waits look again."""
        with self.changed:
            self.changed.notify_all()
