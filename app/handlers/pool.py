"""All workers of one model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from app.errors import BadParameter, HandlerLoadError
from app.handlers.environment import handler_environment
from app.handlers.log_relay import OnMetric
from app.handlers.process import KILL_SECONDS
from app.handlers.types import HandlerAnswer, HandlerRequest, HandlerSpec, WorkerState, WorkerStatus, no_worker
from app.handlers.worker import Job, JobQueue, Pause, Worker, WorkerContext


def _ignore(line: str) -> None:
    """Drop a metric."""


def _ignore_restart() -> None:
    """Count nothing."""


class Workers:
    """The workers of one model: none at first. Every method may be called from any thread.

    :param on_metric: gets each metric that the handler leaves, as the line that it printed, without ``[METRICS]``. It
        is called from other threads.
    :param pause: waits between two attempts to start a process, for so many seconds or until the event is set.
    :param on_restart: called when a process is started in the place of one that has ended.
    :raises SettingError: where ``spec.hidden_variables`` is no regular expression.
    """

    def __init__(
        self,
        spec: HandlerSpec,
        on_metric: OnMetric = _ignore,
        pause: Pause = threading.Event.wait,
        on_restart: Callable[[], None] = _ignore_restart,
    ) -> None:
        self.spec = spec
        self._jobs = JobQueue()
        environment = handler_environment(
            spec.hidden_variables, extra_patterns=spec.shown_variables, home=str(spec.home) if spec.home else None
        )
        self._shared = WorkerContext(
            spec, environment, self._jobs, on_metric, pause, self._refuse_if_hopeless, on_restart
        )
        self._workers: list[Worker] = []

    def start(self, count: int, wait_seconds: float) -> None:
        """Have ``count`` workers, and wait until they have loaded the model.

        :param wait_seconds: 0 does not wait.
        :raises HandlerLoadError: where a worker cannot load the model, or has not by then. The workers go on trying
            until :meth:`close`.
        """
        self.scale(count, count, wait_seconds)

    def scale(self, minimum: int, maximum: int, wait_seconds: float = 0.0) -> None:
        """Start workers up to ``minimum``, end those above ``maximum``; those end after the batch that they answer.

        :param wait_seconds: how long to wait until ``minimum`` workers have loaded the model; 0 does not wait.
        :raises BadParameter: where there are to be less than none, or more at least than at most.
        :raises HandlerLoadError: as :meth:`start`.
        """
        if not 0 <= minimum <= maximum:
            raise BadParameter("min_worker", minimum, f"between 0 and max_worker, which is {maximum}")
        with self._jobs.changed:
            staying = self._staying()
            for worker in sorted(staying, key=_worth)[: max(0, len(staying) - maximum)]:
                worker.leave()
            for _ in range(minimum - len(staying)):
                worker = Worker(self._shared)
                self._workers.append(worker)
                worker.start()
            self._refuse_if_hopeless()
        if wait_seconds > 0:
            self.wait_until_loaded(minimum, wait_seconds)

    def predict(self, batch: Sequence[HandlerRequest]) -> list[HandlerAnswer]:
        """Answer a batch: wait for a free worker, then for its answer.

        A worker whose process has died is waited for. Where there is no worker, or every one of them fails to load the
        model, the answer is at once that there is none: requests must not pile up before a model that cannot run.

        :returns: an answer for each request; failures are answers too.
        """
        job = Job(tuple(batch))
        with self._jobs.changed:
            if not self._hopeful():
                return [no_worker(self.spec.model_name, self.failure())] * len(job.batch)
            self._jobs.put(job)
        return job.answers.result()

    def statuses(self) -> list[WorkerStatus]:
        """Return what each worker is doing, in the order in which they were started."""
        with self._jobs.changed:
            return [worker.status() for worker in self._alive()]

    def failure(self) -> str:
        """Return why no worker can load the model; empty while one has loaded it, or is at it for the first time."""
        with self._jobs.changed:
            failures = [worker.load_failure for worker in self._staying()]
            return next((failure.reason for failure in failures if failure), "") if None not in failures else ""

    def close(self, wait: float) -> bool:
        """End all workers; batches that wait for one are refused. Afterwards :meth:`scale` may start others.

        :param wait: seconds for the batches that are being answered; then the processes are killed.
        :returns: whether all ended by themselves.
        """
        with self._jobs.changed:
            for worker in self._alive():
                worker.leave()
            self._refuse_if_hopeless()
            if self._wait_for(lambda: not self._alive(), wait):
                return True
            for worker in self._alive():
                worker.kill()
            self._wait_for(lambda: not self._alive(), 2 * KILL_SECONDS)
            return False

    def wait_until_loaded(self, count: int, seconds: float) -> None:
        """Wait until so many workers have loaded the model.

        :raises HandlerLoadError: as :meth:`start`; also if they are closed meanwhile.
        """

        def ready() -> int:
            return sum(worker.state is WorkerState.READY for worker in self._staying())

        def failure() -> HandlerLoadError | None:
            return next((worker.load_failure for worker in self._staying() if worker.load_failure), None)

        with self._jobs.changed:
            self._wait_for(lambda: ready() >= count or failure() is not None or len(self._staying()) < count, seconds)
            if ready() >= count:
                return
            late = f"{ready()} of {count} workers have loaded it within {seconds:g} s"
            if len(self._staying()) < count:
                late = "it was scaled down or unregistered meanwhile"
            raise failure() or HandlerLoadError(self.spec.model_name, self.spec.handler, late)

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        return self._jobs.changed.wait_for(condition, seconds)

    def _alive(self) -> list[Worker]:
        self._workers = [worker for worker in self._workers if not worker.ended]
        return self._workers

    def _staying(self) -> list[Worker]:
        return [worker for worker in self._alive() if not worker.leaving]

    def _hopeful(self) -> bool:
        return any(worker.load_failure is None for worker in self._staying())

    def _refuse_if_hopeless(self) -> None:
        with self._jobs.changed:
            if not self._hopeful():
                self._jobs.refuse_all(no_worker(self.spec.model_name, self.failure()))


def _worth(worker: Worker) -> tuple[bool, bool]:
    """Return which workers are the least loss: those that do not run, then those that have nothing to do."""
    return worker.state is WorkerState.READY, worker.busy
