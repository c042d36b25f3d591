"""The line before a model: who waits, who is computed together with whom, who is turned away.

No thread of its own works here. A request that finds a free slot computes in its own thread, without a hand-over; one
that finds none sleeps until it is taken into a batch, or is woken to lead one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import TIMEOUT_MAX
from typing import Generic, TypeVar

from app.dispatch import about_to_block
from app.errors import ClientGone, QueueFull, TooLate
from app.serving import measuring

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Turn(Generic[Result]):
    """What came of a request, the seconds that it waited before it was computed, and those that it was computed."""

    result: Result
    waited: float
    computed: float = 0.0


@dataclass(frozen=True)
class Limits:
    """How many batches are computed at once (``slots``), of how many requests at most (``batch``), how many seconds the
    first of a batch waits for the others (``delay``), how many requests may wait besides (``waiting``), and how many
    seconds a request waits for its turn (``seconds``)."""

    slots: int = 1
    waiting: int = 100
    batch: int = 1
    delay: float = 0.0
    seconds: float = TIMEOUT_MAX


Gone = Callable[[], bool]
"""Says whether whoever asked has gone."""


def never() -> bool:
    """Of a client that stays."""
    return False


_NOBODY = threading.Event()
"""Of a job that is computed at once, in its own thread: events are not cheap."""


@dataclass(eq=False)
class _Job(Generic[Item, Result]):
    item: Item
    gone: Gone
    woken: threading.Event = _NOBODY
    batch: _Batch[Item, Result] | None = None
    leads: bool = False
    arrived: float = field(default_factory=time.monotonic)
    turn: Turn[Result] | None = None
    error: BaseException | None = None


@dataclass(eq=False)
class _Batch(Generic[Item, Result]):
    jobs: list[_Job[Item, Result]]
    full: threading.Event = _NOBODY


class Line(Generic[Item, Result]):
    """The line before one model. Every method may be called from any thread.

    :param name: the model's, for the errors.
    :param compute: takes at most ``limits.batch`` items and gives a result for each, in their order.
    """

    def __init__(self, name: str, compute: Callable[[Sequence[Item]], Sequence[Result]], limits: Limits) -> None:
        self._name = name
        self._compute = compute
        self._limits = limits
        self._lock = threading.Lock()
        self._empty = threading.Condition(self._lock)
        self._closed = False
        self._inside = 0
        self._busy = 0
        self._waiting: deque[_Job[Item, Result]] = deque()
        self._joinable: _Batch[Item, Result] | None = None  # still taking; while there is one, nobody waits

    @property
    def waiting(self) -> int:
        """How many requests are inside and not being computed."""
        return max(0, self._inside - self._busy * self._limits.batch)

    def resize(self, slots: int) -> None:
        """Compute so many batches at once from now on."""
        with self._lock:
            self._limits = replace(self._limits, slots=slots)
            self._promote()

    def enter(self) -> bool:
        """Count a request as inside, from before its picture is decoded; :meth:`leave` must follow.

        :returns: False where the line is closed.
        :raises QueueFull: where all slots are taken and as many wait as may.
        """
        with self._lock:
            limits = self._limits
            if self._closed:
                return False
            if self._inside >= limits.slots * limits.batch + limits.waiting:
                measuring.refused(self._name)
                raise QueueFull(self._name)
            self._inside += 1
            return True

    def leave(self) -> None:
        """Count it as outside."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._empty.notify_all()

    def close(self, seconds: float) -> bool:
        """Let nobody in any more, and wait until all are outside.

        :returns: whether they are, after so many seconds at most.
        """
        with self._lock:
            self._closed = True
            return self._empty.wait_for(lambda: not self._inside, seconds)

    def open(self) -> None:
        """Let requests in again."""
        with self._lock:
            self._closed = False

    def ask(self, item: Item, gone: Gone = never) -> Turn[Result]:
        """Compute an item, by itself or with others.

        :param gone: says whether the client has gone; asked when it is the request's turn, if that had to wait.
        :raises TooLate: where its turn has not come in time.
        :raises ClientGone: where nobody waits for it when its turn comes.
        :raises Exception: what ``compute`` raises, for all of the batch.
        """
        job: _Job[Item, Result] = _Job(item, gone)
        with self._lock:
            self._enter(job)
        if job.batch is None:
            with measuring.waiting(self._name):
                self._wait(job)
        if job.leads:
            self._lead(job)
        else:
            job.woken.wait()
        if job.error is not None:
            raise job.error
        assert job.turn is not None
        measuring.turn(self._name, job.turn.waited, job.turn.computed)
        return job.turn

    def _enter(self, job: _Job[Item, Result]) -> None:
        if self._joinable is not None or self._busy >= self._limits.slots or self._limits.batch > 1:
            about_to_block()
        if self._joinable is not None:
            self._join(self._joinable, job)
        elif self._busy < self._limits.slots:
            self._busy += 1
            self._begin(job)
        else:
            job.woken = threading.Event()
            self._waiting.append(job)

    def _begin(self, job: _Job[Item, Result]) -> None:
        """Open a batch that a job leads."""
        job.leads, job.batch = True, _Batch([job])
        if self._limits.batch > 1:
            job.batch.full = threading.Event()
            self._joinable = job.batch
        else:
            self._joinable = None

    def _join(self, batch: _Batch[Item, Result], job: _Job[Item, Result]) -> None:
        job.batch = batch
        if job.woken is _NOBODY:
            job.woken = threading.Event()
        batch.jobs.append(job)
        if len(batch.jobs) >= self._limits.batch:
            self._joinable = None
            batch.full.set()

    def _wait(self, job: _Job[Item, Result]) -> None:
        """Sleep until the job is in a batch; where it is not in time, take it out of the line."""
        if job.woken.wait(self._limits.seconds):
            return
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)
                job.error = TooLate(self._name)
                job.woken.set()

    def _lead(self, job: _Job[Item, Result]) -> None:
        """Wait for company as long as is allowed, compute the batch, and pass the slot on."""
        batch, delay = job.batch, self._limits.delay
        assert batch is not None
        if self._limits.batch > 1 and not batch.full.wait(delay):
            with self._lock:
                if self._joinable is batch:
                    self._joinable = None
        begun = time.monotonic()
        try:
            results = self._compute([one.item for one in batch.jobs])
            computed = time.monotonic() - begun
            measuring.batch(self._name, len(batch.jobs))
            for one, result in zip(batch.jobs, results, strict=True):
                one.turn = Turn(result, begun - one.arrived, computed)
        except BaseException as error:
            for one in batch.jobs:
                one.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            for one in batch.jobs[1:]:
                one.woken.set()
            with self._lock:
                self._busy -= 1
                self._promote()

    def _promote(self) -> None:
        """Give free slots to those who wait longest."""
        while self._waiting and self._busy < self._limits.slots and self._joinable is None:
            first = self._next()
            if first is None:
                return
            self._busy += 1
            self._begin(first)
            while self._joinable is not None and (job := self._next()) is not None:
                self._join(self._joinable, job)
            first.woken.set()

    def _next(self) -> _Job[Item, Result] | None:
        """The next job that somebody waits for."""
        while self._waiting:
            job = self._waiting.popleft()
            if not job.gone():
                return job
            job.error = ClientGone(self._name)
            job.woken.set()
        return None
