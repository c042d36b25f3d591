"""Queues before models: they order requests, compute them in batches, and refuse those beyond their limits.

The queues start no threads. A request that finds a free slot computes in its own thread, without a hand-over. Otherwise
it sleeps until it joins a batch or is woken to lead one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import TIMEOUT_MAX
from types import TracebackType
from typing import Generic, TypeVar

from app.errors import ClientClosedRequest, DimpleError, QueueTimeout
from app.telemetry import metrics
from app.utils.dispatch import about_to_block


class FairSemaphore:
    """A fair semaphore. Python's own semaphore lets a late caller overtake the threads that wait.

    :param count: number of slots.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._waiting: deque[threading.Event] = deque()

    @property
    def waiting(self) -> int:
        """Return the number of threads that wait for a slot."""
        return len(self._waiting)

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
                self._waiting.popleft().set()  # the slot is handed over directly
            else:
                self._free += 1


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class QueueResult(Generic[Result]):
    """A request's result, its seconds in the queue, and the seconds of its computation."""

    result: Result
    waited: float
    computed: float = 0.0


@dataclass(frozen=True)
class QueueConfig:
    """The configuration of a model's queue.

    :param concurrency: maximum number of batches that are computed at once.
    :param batch_size: maximum number of requests in a batch.
    :param max_delay: seconds that the first request of a batch waits for others.
    :param timeout: seconds that a request may wait before it is computed.
    """

    concurrency: int = 1
    batch_size: int = 1
    max_delay: float = 0.0
    timeout: float = TIMEOUT_MAX


IsDisconnected = Callable[[], bool]
"""A function that returns whether the client has closed its connection."""


def never_disconnected() -> bool:
    """Return that the client is connected."""
    return False


_NONE = threading.Event()
"""The event of a job that is computed at once, in its own thread. Events are not cheap."""


@dataclass(eq=False)
class _Job(Generic[Item, Result]):
    item: Item
    is_disconnected: IsDisconnected
    woken: threading.Event = _NONE
    batch: _Batch[Item, Result] | None = None
    leads: bool = False
    arrived: float = field(default_factory=time.monotonic)
    result: QueueResult[Result] | None = None
    error: BaseException | None = None

    def refuse(self, error: BaseException) -> None:
        self.error = error
        self.woken.set()


@dataclass(eq=False)
class _Batch(Generic[Item, Result]):
    jobs: list[_Job[Item, Result]]
    full: threading.Event = _NONE


class BatchQueue(Generic[Item, Result]):
    """The queue before one model. Every method may be called from any thread.

    :param name: the model's name, for error messages.
    :param compute: takes at most ``config.batch_size`` items and returns a result for each, in order.
    """

    def __init__(self, name: str, compute: Callable[[Sequence[Item]], Sequence[Result]], config: QueueConfig) -> None:
        self._name = name
        self._compute = compute
        self._config = config
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._refusal: DimpleError | None = None
        self._busy = 0
        self._waiting: deque[_Job[Item, Result]] = deque()
        self._joinable: _Batch[Item, Result] | None = None  # still accepts jobs; while it exists, no job waits

    @property
    def waiting(self) -> int:
        """Return the number of requests that are not in a batch yet."""
        return len(self._waiting)

    def resize(self, concurrency: int) -> None:
        """Set the number of batches that are computed at once."""
        with self._lock:
            self._config = replace(self._config, concurrency=concurrency)
            self._promote()

    def refuse(self, error: DimpleError) -> None:
        """Raise an error for waiting requests, and for later requests until :meth:`open` is called. Batches under
        computation are not affected."""
        with self._lock:
            self._refusal = error
            while self._waiting:
                self._waiting.popleft().refuse(error)

    def open(self) -> None:
        """Accept requests again."""
        with self._lock:
            self._refusal = None

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until no request waits or is being computed, and return whether that happened in time."""
        with self._lock:
            return self._idle.wait_for(lambda: not self._busy and not self._waiting, seconds)

    def submit(self, item: Item, is_disconnected: IsDisconnected = never_disconnected) -> QueueResult[Result]:
        """Compute an item, alone or in a batch.

        :param is_disconnected: called when the request's turn comes, if it had to wait.
        :raises QueueTimeout: if its turn does not come in time.
        :raises ClientClosedRequest: if the client has disconnected when its turn comes.
        :raises DimpleError: the error given to :meth:`refuse`.
        :raises Exception: any error of ``compute``, for all requests of the batch.
        """
        job: _Job[Item, Result] = _Job(item, is_disconnected)
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            self._enter(job)
        if job.batch is None:
            with metrics.waiting(self._name):
                self._wait(job)
        if job.leads:
            self._lead(job)
        else:
            job.woken.wait()
        if job.error is not None:
            raise job.error
        assert job.result is not None
        return job.result

    def _enter(self, job: _Job[Item, Result]) -> None:
        if self._joinable is not None or self._busy >= self._config.concurrency or self._config.batch_size > 1:
            about_to_block()
        if self._joinable is not None:
            self._join(self._joinable, job)
        elif self._busy < self._config.concurrency:
            self._busy += 1
            self._begin(job)
        else:
            job.woken = threading.Event()
            self._waiting.append(job)

    def _begin(self, job: _Job[Item, Result]) -> None:
        """Open a batch that the job leads."""
        job.leads, job.batch = True, _Batch([job])
        if self._config.batch_size > 1:
            job.batch.full = threading.Event()
            self._joinable = job.batch
        else:
            self._joinable = None

    def _join(self, batch: _Batch[Item, Result], job: _Job[Item, Result]) -> None:
        job.batch = batch
        if job.woken is _NONE:
            job.woken = threading.Event()
        batch.jobs.append(job)
        if len(batch.jobs) >= self._config.batch_size:
            self._joinable = None
            batch.full.set()

    def _wait(self, job: _Job[Item, Result]) -> None:
        """Sleep until the job is in a batch; remove the job at its timeout."""
        if job.woken.wait(self._config.timeout):
            return
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)
                job.refuse(QueueTimeout(self._name))

    def _lead(self, job: _Job[Item, Result]) -> None:
        """Wait for other requests up to the maximum delay, compute the batch, and pass the slot on."""
        batch, delay = job.batch, self._config.max_delay
        assert batch is not None
        if self._config.batch_size > 1 and not batch.full.wait(delay):
            with self._lock:
                if self._joinable is batch:
                    self._joinable = None
        begun = time.monotonic()
        try:
            results = self._compute([job.item for job in batch.jobs])
            computed = time.monotonic() - begun
            metrics.batch(self._name, len(batch.jobs))
            for item, result in zip(batch.jobs, results, strict=True):
                item.result = QueueResult(result, begun - item.arrived, computed)
        except BaseException as error:
            for item in batch.jobs:
                item.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            for item in batch.jobs[1:]:
                item.woken.set()
            with self._lock:
                self._busy -= 1
                self._promote()

    def _promote(self) -> None:
        """Give free slots to the requests that have waited longest."""
        while self._waiting and self._busy < self._config.concurrency and self._joinable is None:
            first = self._next()
            if first is None:
                break
            self._busy += 1
            self._begin(first)
            while self._joinable is not None and (job := self._next()) is not None:
                self._join(self._joinable, job)
            first.woken.set()
        if not self._busy and not self._waiting:
            self._idle.notify_all()

    def _next(self) -> _Job[Item, Result] | None:
        """Return the next job whose client has not disconnected."""
        while self._waiting:
            job = self._waiting.popleft()
            if not job.is_disconnected():
                return job
            job.refuse(ClientClosedRequest(self._name))
        return None
