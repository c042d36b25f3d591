"""Handler workers: each a thread that keeps one child process alive and hands it batches."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any

from app.errors import HandlerLoadError
from app.handlers.log_relay import OnMetric
from app.handlers.process import WorkerProcess
from app.handlers.protocol import Disconnected, Reply
from app.handlers.types import HandlerAnswer, HandlerRequest, HandlerSpec, WorkerState, WorkerStatus, worker_died
from app.utils.backoff import Backoff
from app.utils.system import gpus

log = logging.getLogger(__name__)

_turns = itertools.count()


@functools.cache
def usable_gpus(number: int) -> int:
    """Return how many GPUs workers are given in turn: not more than there are, as in Multi Model Server. If there are
    fewer than the settings name, the log says so, once.

    :param number: the setting; 0 asks nobody.
    """
    there = gpus() if number else 0
    if number > there:
        log.warning("number_of_gpu is %d, but nvidia-smi lists %d GPUs: handlers are given no more", number, there)
    return min(number, there)


def next_gpu(number: int) -> int | None:
    """Return the next GPU in turn, whatever model the last one went to, as Multi Model Server gives them.

    :param number: of GPUs; 0 gives None.
    """
    if not number:
        return None
    # Server processes do not know of each other. Were each to begin with the first GPU, it would have most of the work;
    # their process ids are mostly consecutive.
    return (os.getpid() + next(_turns)) % number


@dataclass(frozen=True)
class Job:
    """A batch, and where its answers go."""

    batch: Sequence[HandlerRequest]
    answers: Future[list[HandlerAnswer]] = field(default_factory=Future)

    def refuse(self, answer: HandlerAnswer) -> None:
        """Give every request of the batch the same answer."""
        self.answers.set_result([answer] * len(self.batch))


class JobQueue:
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


LOAD_SECONDS = 120.0
"""Least time that loading may take; it has the response timeout where that is longer."""

Pause = Callable[[threading.Event, float], object]


@dataclass(frozen=True)
class WorkerContext:
    """What all workers of a model share.

    :param pause: waits for so many seconds, or until the event is set.
    :param on_failure: called when a worker could not load the model.
    :param on_restart: called when a process is started in the place of one that has ended.
    """

    spec: HandlerSpec
    environment: Mapping[str, str]
    jobs: JobQueue
    on_metric: OnMetric
    pause: Pause
    on_failure: Callable[[], None]
    on_restart: Callable[[], None]


class Worker:
    """Lives until :meth:`leave`, through any number of child processes.

    ``load_failure`` is why the model could not be loaded the last time, None as soon as it could. It is read and
    written under ``jobs.changed``, as ``state`` and ``busy`` are.
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
        self._restarts = 0
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name=f"W-9000-{shared.spec.model_name[:25]}", daemon=True)

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    @property
    def leaving(self) -> bool:
        """Return whether the worker was told to end."""
        return self._leaving.is_set()

    def leave(self) -> None:
        """End after the batch that is being answered; at once where the model is still being loaded."""
        with self._shared.jobs.changed:
            self._leaving.set()
            if self._child is not None and self.state is not WorkerState.READY:
                self._child.kill()
            self.state = WorkerState.UNLOADING
            self._shared.jobs.wake()

    def kill(self) -> None:
        """Kill the process, whatever it does."""
        with self._shared.jobs.changed:
            if self._child is not None:
                self._child.kill()

    def status(self) -> WorkerStatus:
        """Return what the worker is doing."""
        with self._shared.jobs.changed:
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
            with self._shared.jobs.changed:
                self.ended = True
                self._shared.jobs.wake()

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
        """Start a process and have it load the model; None where that fails."""
        self._turn(WorkerState.LOADING)
        spec = self._shared.spec
        try:
            child = WorkerProcess(spec, self._shared.environment, self._shared.on_metric, self._shared.jobs.wake)
        except OSError as error:
            self._fail(500, f"The worker could not be started: {error}")
            return None
        with self._shared.jobs.changed:
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
        with self._shared.jobs.changed:
            self.load_failure, self._last_error = None, message or self._last_error
            self._turn(WorkerState.READY)
        return child

    def _serve(self, child: WorkerProcess) -> None:
        """Hand batches to the process until it dies, has no memory left, or the worker is to leave."""
        exhausted = False
        while (job := self._shared.jobs.take(lambda: self.leaving or child.exited.is_set())) is not None:
            self.busy = True
            try:
                exhausted = self._answer(child, job)
            finally:
                self.busy = False
            if exhausted:
                break
        died = not self.leaving
        child.end()
        if died:
            memory = self._shared.spec.limits.memory_bytes
            self._last_error = f"The worker ran out of its {memory:,} bytes of memory" if exhausted else child.ending()
            log.warning("%s: %s. It is started again.", self._shared.spec.model_name, self._last_error)
            self._turn(WorkerState.LOADING)

    def _answer(self, child: WorkerProcess, job: Job) -> bool:
        """Have the process answer a batch.

        :returns: whether it has come to the limit of its memory. What it holds there may never become free again: the
            next process begins anew. Where there is no limit, a batch that was too large says nothing of the next.
        """
        spec, exhausted = self._shared.spec, False
        try:
            reply = child.ask(*_question(job.batch), spec.response_timeout)
            answers = _answers(reply, len(job.batch))
            exhausted = bool(spec.limits.memory_bytes and reply[0]["out_of_memory"])
        except Disconnected:
            self._turn(WorkerState.LOADING)  # before the caller, who may look, knows
            job.refuse(worker_died())
        except Exception:  # not what was agreed: whatever has happened to it, it cannot be trusted with another batch
            log.exception("%s: the worker's answer makes no sense", spec.model_name)
            child.kill()
            self._turn(WorkerState.LOADING)
            job.refuse(worker_died())
        else:
            if exhausted:
                self._turn(WorkerState.LOADING)
            job.answers.set_result(answers)
        return exhausted

    def _fail(self, code: int, reason: str) -> None:
        spec = self._shared.spec
        with self._shared.jobs.changed:
            self._last_error = reason
            self.load_failure = HandlerLoadError(spec.model_name, spec.handler, reason, code)
            self._turn(WorkerState.FAILED)
            self._shared.on_failure()
        if not self.leaving:
            log.error("%s", self.load_failure)

    def _turn(self, state: WorkerState) -> None:
        with self._shared.jobs.changed:
            self.state = WorkerState.UNLOADING if self.leaving else state
            self._shared.jobs.wake()


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
