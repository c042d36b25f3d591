"""The pool of a model's handler workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from app.errors import BadParameter, HandlerLoadError
from app.handlers.environment import handler_environment
from app.handlers.log_relay import OnMetric
from app.handlers.process import KILL_SECONDS
from app.handlers.types import HandlerAnswer, HandlerRequest, HandlerSpec, WorkerState, WorkerStatus, no_worker
from app.handlers.worker import Pause, PoolState, Worker, WorkerContext


class Workers:
    """A pool of a model's workers, empty at first. All methods are thread-safe.

    :param on_metric: called, from other threads, with the printed line of each metric, without ``[METRICS]``.
    :param pause: waits between two attempts to start a process, for the given seconds or until the event is set.
    :param on_restart: called when a process replaces one that has ended.
    :raises SettingError: if ``spec.hidden_variables`` is not a regular expression.
    """

    def __init__(
        self,
        spec: HandlerSpec,
        on_metric: OnMetric = lambda line: None,
        pause: Pause = threading.Event.wait,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self.spec = spec
        self._state = PoolState()
        environment = handler_environment(
            spec.hidden_variables, extra_patterns=spec.passed_variables, home=str(spec.home) if spec.home else None
        )
        self._shared = WorkerContext(spec, environment, self._state, on_metric, pause, on_restart)
        self._workers: list[Worker] = []

    def start(self, count: int, wait_seconds: float) -> None:
        """Scale to ``count`` workers, and wait until they have loaded the model.

        :param wait_seconds: timeout; 0 does not wait.
        :raises HandlerLoadError: if a worker cannot load the model, or has not loaded it in time. The workers keep
            trying until :meth:`close`.
        """
        self.scale(count, count, wait_seconds)

    def scale(self, minimum: int, maximum: int, wait_seconds: float = 0.0) -> None:
        """Start workers up to ``minimum``, and end workers above ``maximum`` after their current batch.

        :param wait_seconds: timeout for ``minimum`` workers to load the model; 0 does not wait.
        :raises BadParameter: if ``minimum`` is negative or exceeds ``maximum``.
        :raises HandlerLoadError: as :meth:`start`.
        """
        if not 0 <= minimum <= maximum:
            raise BadParameter("min_worker", minimum, f"between 0 and max_worker, which is {maximum}")
        with self._state.changed:
            staying = self._staying()
            for worker in sorted(staying, key=_worth)[: max(0, len(staying) - maximum)]:
                worker.leave()
            for _ in range(minimum - len(staying)):
                worker = Worker(self._shared)
                self._workers.append(worker)
                worker.start()
            self._state.notify()
        if wait_seconds > 0:
            self.wait_until_loaded(minimum, wait_seconds)

    def predict(self, batch: Sequence[HandlerRequest]) -> list[HandlerAnswer]:
        """Answer a batch: wait for a free worker, then for its answer.

        The batch also waits for a worker whose process has died and restarts. If there is no worker, or none can load
        the model, every answer is an immediate error: requests must not pile up for a model that cannot run.

        :returns: an answer for each request; failures are answers too.
        """
        with self._state.released:
            while (worker := self._acquire()) is None:
                if not self._hopeful():
                    return [no_worker(self.spec.model_name, self.failure())] * len(batch)
                self._state.released.wait()
        return worker.predict(batch)

    def statuses(self) -> list[WorkerStatus]:
        """Return the status of each worker, in the order of their start."""
        with self._state.changed:
            return [worker.status() for worker in self._alive()]

    def failure(self) -> str:
        """Return why no worker can load the model; empty if a worker has loaded it, or makes its first attempt."""
        with self._state.changed:
            failures = [worker.load_failure for worker in self._staying()]
            return next((failure.reason for failure in failures if failure), "") if None not in failures else ""

    def close(self, wait: float) -> bool:
        """End all workers, and refuse queued batches. Afterwards :meth:`scale` may start new workers.

        :param wait: seconds for the current batches; then the processes are killed.
        :returns: whether all ended by themselves.
        """
        with self._state.changed:
            for worker in self._alive():
                worker.leave()
            self._state.notify()
            if self._wait_for(lambda: not self._alive(), wait):
                return True
            for worker in self._alive():
                worker.kill()
            self._wait_for(lambda: not self._alive(), 2 * KILL_SECONDS)
            return False

    def wait_until_loaded(self, count: int, seconds: float) -> None:
        """Wait until ``count`` workers have loaded the model.

        :raises HandlerLoadError: as :meth:`start`; also if the workers are closed meanwhile.
        """

        def ready() -> int:
            return sum(worker.state is WorkerState.READY for worker in self._staying())

        def failure() -> HandlerLoadError | None:
            return next((worker.load_failure for worker in self._staying() if worker.load_failure), None)

        with self._state.changed:
            self._wait_for(lambda: ready() >= count or failure() is not None or len(self._staying()) < count, seconds)
            if ready() >= count:
                return
            late = f"{ready()} of {count} workers have loaded it within {seconds:g} s"
            if len(self._staying()) < count:
                late = "it was scaled down or unregistered meanwhile"
            raise failure() or HandlerLoadError(self.spec.model_name, self.spec.handler, late)

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        return self._state.changed.wait_for(condition, seconds)

    def _alive(self) -> list[Worker]:
        self._workers = [worker for worker in self._workers if not worker.ended]
        return self._workers

    def _staying(self) -> list[Worker]:
        return [worker for worker in self._alive() if not worker.leaving]

    def _hopeful(self) -> bool:
        return any(worker.load_failure is None for worker in self._staying())

    def _acquire(self) -> Worker | None:
        return next((worker for worker in self._workers if worker.acquire()), None)


def _worth(worker: Worker) -> tuple[bool, bool]:
    """Return the key that sorts expendable workers first: those that are not ready, then those that are idle."""
    return worker.state is WorkerState.READY, worker.busy
