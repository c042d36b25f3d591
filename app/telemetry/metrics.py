"""The Prometheus metrics: every instrument, and the functions through which other modules update them.

If :func:`app.telemetry.multiprocess.share` was called before this module is imported, values go into files that all
processes of the server read. Otherwise they stay in the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

OTHER = "other"
MOST_NAMES = 256
"""Maximum number of models and of routes with their own labels; the first ones count. Labels must not grow with client
input."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
LOAD_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

disable_created_metrics()  # process-wide in prometheus_client, and meaningless for summed files

REGISTRY = CollectorRegistry()
_own: Any = {"registry": REGISTRY}
REQUESTS = Counter(
    "dimple_requests",
    "Requests that were answered, by model, route and HTTP status.",
    ("model", "route", "code"),
    **_own,
)
REQUEST_SECONDS = Histogram(
    "dimple_request_duration_seconds",
    "Seconds from a request's headers to its answer.",
    ("model", "route"),
    buckets=SECONDS,
    **_own,
)
STAGE_SECONDS = Histogram(
    "dimple_stage_duration_seconds",
    "Seconds of each stage: decode, faces, preprocess, queue, infer.",
    ("model", "stage"),
    buckets=SECONDS,
    **_own,
)
IN_FLIGHT = Gauge(
    "dimple_requests_in_flight",
    "Requests that a model has accepted and not answered yet.",
    ("model",),
    multiprocess_mode="livesum",
    **_own,
)
QUEUE_DEPTH = Gauge(
    "dimple_queue_depth", "Requests that wait for their turn.", ("model",), multiprocess_mode="livesum", **_own
)
QUEUE_FULL = Counter("dimple_queue_full", "Requests that were refused because the queue was full.", ("model",), **_own)
BATCH_SIZE = Histogram("dimple_batch_size", "Requests that were computed together.", ("model",), buckets=SIZES, **_own)
LOAD_TIME = Histogram(
    "dimple_model_load_duration_seconds",
    "Seconds that loading a model took, once for each server process.",
    ("model",),
    buckets=LOAD_SECONDS,
    **_own,
)
HANDLER_RESTARTS = Counter(
    "dimple_handler_restarts", "Handler processes that were started again after they had ended.", ("model",), **_own
)
WORKERS = Gauge("dimple_workers", "Server processes that live.", multiprocess_mode="livesum", **_own)
WORKER_STARTS = Counter("dimple_worker_starts", "Server processes that were started.", **_own)
WORKER_START_SECONDS = Histogram(
    "dimple_worker_start_duration_seconds",
    "Seconds that a server process took to load all its models.",
    buckets=LOAD_SECONDS,
    **_own,
)

OnStage = Callable[[str, float, float], None]
"""A function that receives a stage which this thread has just ended: its name, the seconds since its start, and its
duration in seconds."""

requested_model: ContextVar[str] = ContextVar("asked", default="")
"""The model that this thread's request has requested. The code that accepts requests clears it."""

_on_stage: OnStage | None = None
_names: set[str] = set()
_children: dict[tuple[Any, ...], Any] = {}


def follow_stages(on_stage: OnStage) -> None:
    """Register a function that receives every stage, in the thread of its request."""
    global _on_stage
    _on_stage = on_stage


def request(model: str, route: str, code: int, seconds: float) -> None:
    """Record a request that was answered.

    :param model: empty if it requested none, :data:`OTHER` for an unknown model.
    :param route: the rule of the route, not the path; :data:`OTHER` if there is none.
    """
    _child(REQUESTS, model, route, str(code)).inc()
    _child(REQUEST_SECONDS, model, route).observe(seconds)


def in_flight(model: str) -> AbstractContextManager[None]:
    """Count a request as active in a model for the duration of the context."""
    return _counted(IN_FLIGHT, model)


def waiting(model: str) -> AbstractContextManager[None]:
    """Count a request as waiting in a model's queue for the duration of the context."""
    return _counted(QUEUE_DEPTH, model)


@contextmanager
def _counted(instrument: Gauge, model: str) -> Iterator[None]:
    gauge = _child(instrument, model)
    gauge.inc()
    try:
        yield
    finally:
        gauge.dec()


def refused(model: str) -> None:
    """Record a request that was refused by a full queue."""
    _child(QUEUE_FULL, model).inc()


def stages(model: str, milliseconds: Mapping[str, float]) -> None:
    """Record the durations of a picture's consecutive preparation steps."""
    left = sum(milliseconds.values()) / 1000
    for stage, took in milliseconds.items():
        _child(STAGE_SECONDS, model, stage).observe(took / 1000)
        if _on_stage is not None:
            _on_stage(stage, left, took / 1000)
            left -= took / 1000


def turn(model: str, waited: float, computed: float) -> None:
    """Record the seconds that a request waited and was computed."""
    _child(STAGE_SECONDS, model, "queue").observe(waited)
    _child(STAGE_SECONDS, model, "infer").observe(computed)
    if _on_stage is not None:
        _on_stage("queue", waited + computed, waited)
        _on_stage("infer", computed, computed)


def batch(model: str, size: int) -> None:
    _child(BATCH_SIZE, model).observe(size)


def loaded(model: str, seconds: float) -> None:
    _child(LOAD_TIME, model).observe(seconds)
    for instrument in (IN_FLIGHT, QUEUE_DEPTH, QUEUE_FULL, HANDLER_RESTARTS):
        _child(instrument, model)  # shows 0 from now on: Prometheus sees no increase in a series that begins with 1


def handler_restarted(model: str) -> None:
    """Record the restart of a handler worker."""
    _child(HANDLER_RESTARTS, model).inc()


def worker_started(seconds: float) -> None:
    """Record the start of a server process and the seconds of loading its models."""
    WORKERS.set(1)
    WORKER_STARTS.inc()
    WORKER_START_SECONDS.observe(seconds)


def _child(instrument: Any, model: str, *labels: str) -> Any:
    """Return the instrument for these labels. Our own dictionary is four times as fast as ``labels()``."""
    key = (instrument, _bounded(model), *labels)
    if (child := _children.get(key)) is None:
        child = _children[key] = instrument.labels(*key[1:])
    return child


def _bounded(model: str) -> str:
    if model and model not in _names:
        if len(_names) >= MOST_NAMES:
            return OTHER
        _names.add(model)
    return model
