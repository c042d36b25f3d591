"""Handler workers, which each keep one child process alive and send it batches."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.errors import HandlerLoadError
from app.handlers.log_relay import OnMetric
from app.handlers.process import WorkerProcess
from app.handlers.protocol import Disconnected, Reply
from app.handlers.types import HandlerAnswer, HandlerRequest, HandlerSpec, WorkerState, WorkerStatus, worker_died
from app.utils.process import Backoff
from app.utils.system import gpus

log = logging.getLogger(__name__)

_turns = itertools.count()


@functools.cache
def usable_gpus(number: int) -> int:
    """Return the number of GPUs for workers: at most the GPUs of this machine, as in Multi Model Server. A setting that
    exceeds them is logged once.

    :param number: the setting; for 0, the machine is not queried.
    """
    there = gpus() if number else 0
    if number > there:
        log.warning("number_of_gpu is %d, but nvidia-smi lists %d GPUs: handlers cannot use more", number, there)
    return min(number, there)


def next_gpu(number: int) -> int | None:
    """Return the next GPU in turn, across all models, as Multi Model Server does.

    :param number: number of GPUs; for 0 the result is None.
    """
    if not number:
        return None
    # HTTP workers do not know of each other. If each began with the first GPU, it would get most of the work. Process
    # ids, which are mostly consecutive, spread the start.
    return (os.getpid() + next(_turns)) % number


class PoolState:
    """The lock of a model's workers, and the conditions of those that wait for them.

    ``changed`` is notified of each change of a worker's state; ``released`` if a worker may have become free. A request
    does not notify ``changed``: that would wake the threads of all workers.
    """

    def __init__(self) -> None:
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self.released = threading.Condition(lock)

    def notify(self) -> None:
        """Wake all waiting threads, which recheck their conditions."""
        with self.changed:
            self.changed.notify_all()
            self.released.notify_all()


LOAD_SECONDS = 120.0
"""Timeout of loading a model in seconds, as in Multi Model Server. For the reply of a worker, the response timeout
applies if it is longer."""

Pause = Callable[[threading.Event, float], object]


@dataclass(frozen=True)
class WorkerContext:
    """The state that all workers of a model share.

    :param pause: waits for the given seconds, or until the event is set.
    :param on_restart: called when a process replaces one that has ended.
    """

    spec: HandlerSpec
    environment: Mapping[str, str]
    pool: PoolState
    on_metric: OnMetric
    pause: Pause
    on_restart: Callable[[], None]


class Worker:
    """A handler worker, which lives until :meth:`leave`, through any number of child processes.

    Its thread starts the processes and waits for their ends. A batch is answered in the thread of :meth:`predict`.
    ``load_failure`` is the error of the last attempt to load the model, None after a success. Like ``state`` and
    ``busy``, it is read and written under the pool's lock.
    """

    def __init__(self, shared: WorkerContext) -> None:
        self.id = f"9000-{secrets.token_hex(4)}"
        self.state = WorkerState.LOADING
        self.busy = False
        self.load_failure: HandlerLoadError | None = None
        self.ended = False
        self._shared = shared
        self._gpu_id = next_gpu(shared.spec.number_of_gpu)
        self._leaving = threading.Event()
        self._child: WorkerProcess | None = None
        self._exhausted = False
        self._restarts = 0
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name=f"W-9000-{shared.spec.model_name[:25]}", daemon=True)

    def start(self) -> None:
        """Start to load the model."""
        self._thread.start()

    @property
    def leaving(self) -> bool:
        return self._leaving.is_set()

    def leave(self) -> None:
        """End after the current batch, or at once while the model loads."""
        with self._shared.pool.changed:
            self._leaving.set()
            if self._child is not None and self.state is not WorkerState.READY:
                self._child.kill()
            self.state = WorkerState.UNLOADING
            self._shared.pool.notify()

    def kill(self) -> None:
        """Kill the process, whatever it does."""
        with self._shared.pool.changed:
            if self._child is not None:
                self._child.kill()

    def status(self) -> WorkerStatus:
        with self._shared.pool.changed:
            child = self._child
            alive = child is not None and not child.exited.is_set()
            return WorkerStatus(
                id=self.id,
                pid=child.pid if child is not None and alive else None,
                started=child.started if child is not None else None,
                state=self.state,
                memory_bytes=child.memory_bytes() if child is not None and alive else 0,
                restarts=self._restarts,
                last_error=self._last_error,
                gpu_id=self._gpu_id,
            )

    def _run(self) -> None:
        try:
            self._live()
        finally:
            with self._shared.pool.changed:
                self.ended = True
                self._shared.pool.notify()

    def _live(self) -> None:
        backoff = Backoff()
        while not self.leaving:
            child = self._load()
            if child is not None:
                backoff.reset()
                self._serve(child)
            if not self.leaving:
                self._shared.pause(self._leaving, backoff.next_delay())
                self._restarts += 1
                self._shared.on_restart()

    def _load(self) -> WorkerProcess | None:
        """Start a process and load the model in it; return None if that fails."""
        self._turn(WorkerState.LOADING)
        spec = self._shared.spec
        try:
            child = WorkerProcess(spec, self._shared.environment, self._shared.on_metric, self._shared.pool.notify)
        except OSError as error:
            self._fail(500, f"The worker could not be started: {error}")
            return None
        with self._shared.pool.changed:
            self._child = child
            if self.leaving:
                child.kill()
        try:
            report, _ = child.ask(_order(spec, self._gpu_id), (), max(LOAD_SECONDS, spec.response_timeout))
            code, message = int(report["code"]), str(report["message"])
        except (Disconnected, KeyError, ValueError) as error:
            code, message = 500, str(error)
        if code != 200:
            child.end()
            self._fail(code, message)
            return None
        with self._shared.pool.changed:
            self.load_failure, self._last_error = None, message or self._last_error
            self._turn(WorkerState.READY)
        return child

    def acquire(self) -> bool:
        """Reserve the worker for a call of :meth:`predict` if it is free. The caller holds the pool's lock."""
        free = self.state is WorkerState.READY and not self.busy and not self.leaving
        if free and self._child is not None and not self._child.exited.is_set():
            self.busy = True
            return True
        return False

    def predict(self, batch: Sequence[HandlerRequest]) -> list[HandlerAnswer]:
        """Answer a batch after :meth:`acquire` has returned True, and release the worker."""
        child = self._child
        assert child is not None
        try:
            return self._answer(child, batch)
        finally:
            with self._shared.pool.changed:
                self.busy = False
                if self.state is WorkerState.READY and not child.exited.is_set():
                    self._shared.pool.released.notify()
                else:
                    self._shared.pool.notify()

    def _serve(self, child: WorkerProcess) -> None:
        """Wait until the process has died or run out of memory, or the worker is leaving, and its batch has ended."""

        def is_over() -> bool:
            return not self.busy and (self.leaving or self._exhausted or child.exited.is_set())

        with self._shared.pool.changed:
            self._shared.pool.changed.wait_for(is_over)
            died, exhausted, self._exhausted = not self.leaving, self._exhausted, False
            if died:
                self._turn(WorkerState.LOADING)
        child.end()
        if died:
            memory = self._shared.spec.limits.memory_bytes
            self._last_error = f"The worker ran out of its {memory:,} bytes of memory" if exhausted else child.ending()
            log.warning("%s: %s. It is started again.", self._shared.spec.model_name, self._last_error)

    def _answer(self, child: WorkerProcess, batch: Sequence[HandlerRequest]) -> list[HandlerAnswer]:
        """Send a batch to the process, and return its answers.

        A process that has reached its memory limit is replaced, since the memory may never become free again. Without a
        limit, one oversized batch says nothing about the next.
        """
        spec = self._shared.spec
        try:
            reply = child.ask(*_question(batch), spec.response_timeout)
            answers = _answers(reply, len(batch))
            self._exhausted = bool(spec.limits.memory_bytes and reply[0]["out_of_memory"])
        except Disconnected:
            answers = [worker_died()] * len(batch)
        except Exception:  # a protocol violation: do not trust the process with another batch
            log.exception("%s: the worker's answer is invalid", spec.model_name)
            child.kill()
            answers = [worker_died()] * len(batch)
        else:
            if not self._exhausted:
                return answers
        self._turn(WorkerState.LOADING)  # before the caller learns of it and may look at the state
        return answers

    def _fail(self, code: int, reason: str) -> None:
        spec = self._shared.spec
        with self._shared.pool.changed:
            self._last_error = reason
            self.load_failure = HandlerLoadError(spec.model_name, spec.handler, reason, code)
            self._turn(WorkerState.FAILED)
        if not self.leaving:
            log.error("%s", self.load_failure)

    def _turn(self, state: WorkerState) -> None:
        with self._shared.pool.changed:
            self.state = WorkerState.UNLOADING if self.leaving else state
            self._shared.pool.notify()


def _order(spec: HandlerSpec, gpu_id: int | None) -> dict[str, Any]:
    return {
        "model_name": spec.model_name,
        "model_dir": str(spec.model_dir.resolve()),
        "handler": spec.handler,
        "manifest": spec.manifest,
        "batch_size": spec.batch_size,
        "gpu_id": gpu_id,
        "decode_input_request": spec.decode_input_request,
        "legacy": spec.legacy,
        "limits": asdict(spec.limits),
    }


def _question(batch: Sequence[HandlerRequest]) -> tuple[dict[str, Any], list[bytes]]:
    requests = [
        {
            "id": request.request_id,
            "headers": dict(request.headers),
            "fields": [[field.name, field.content_type, field.is_file] for field in request.fields],
        }
        for request in batch
    ]
    return {"requests": requests}, [field.data for request in batch for field in request.fields]


def _answers(reply: Reply, count: int) -> list[HandlerAnswer]:
    header, bodies = reply
    if len(header["answers"]) != count:
        raise ValueError(f"{len(header['answers'])} answers came to {count} requests")
    return [
        HandlerAnswer(
            status=int(document["status"]),
            phrase=document["phrase"],
            headers=document["headers"],
            content_type=document["content_type"],
            body=body,
            error=(document["error"][0], document["error"][1]) if "error" in document else None,
        )
        for document, body in zip(header["answers"], bodies, strict=True)
    ]
