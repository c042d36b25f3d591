"""Health checks and metrics for operators: ``/healthz``, ``/readyz``, and ``/metrics`` in Prometheus's text format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
from flask import Blueprint, Response, jsonify, make_response, request
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app.backend.supervisor import MODULE
from app.handlers.process import PROGRAM
from app.serving.custom_model import CustomModel
from app.serving.loader import Entry
from app.serving.registry import Registry
from app.telemetry.metrics import MOST_NAMES
from app.telemetry.multiprocess import collect, processes
from app.utils.system import memory_limit
from app.web.request import services

ops_bp = Blueprint("ops", __name__)


@ops_bp.get("/healthz")
def alive() -> Response:
    """Return 200 while the process answers."""
    return jsonify({"status": "alive"})


@ops_bp.get("/readyz")
def ready() -> Response:
    """Return 200 if the models are loaded; 503 if no model answers, or the cluster that computes them is unreachable.

    Models that could not be loaded are listed with the reason.
    """
    problems = {entry.name: entry.problem for entry in services().registry.entries()}
    loaded = [name for name, problem in problems.items() if not problem]
    failed = {name: problem for name, problem in problems.items() if problem}
    away = services().registry.cluster_error()
    status = "ready" if loaded and not away else "not ready"
    document = {"status": status, "models": loaded, "failed": failed} | ({"cluster": away} if away else {})
    return make_response(jsonify(document), 200 if status == "ready" else 503)


@dataclass(frozen=True)
class Memory:
    """Memory of one process.

    :param kind: ``server``; ``engine`` for a backend process that computes for all servers; ``handler`` for a process
        that runs the code of ``model``.
    :param resident: resident memory in bytes, including shared memory.
    :param proportional: bytes with a proportional share of shared memory, so that the sum over processes is their
        total. None if the system does not report it.
    """

    pid: int
    kind: str
    model: str
    resident: int
    proportional: int | None


def memory() -> list[Memory]:
    """Return the memory of every process of this server. The query takes about a millisecond per process."""
    servers = set(processes())
    top = psutil.Process(os.getpid() if os.getpid() in servers and len(servers) == 1 else os.getppid())
    return list(_read({top.pid: top} | {child.pid: child for child in top.children(recursive=True)}, servers))


def _read(processes_by_pid: dict[int, psutil.Process], servers: set[int]) -> Iterator[Memory]:
    for pid, process in processes_by_pid.items():
        try:
            with process.oneshot():
                kind, model = _child(process)
                kind = kind or ("server" if pid in servers else "")
                if kind:
                    full = process.memory_full_info()
                    yield Memory(pid, kind, model, full.rss, getattr(full, "pss", None))
        except psutil.Error:
            continue  # the process has just exited


def _child(process: psutil.Process) -> tuple[str, str]:
    """Return the kind of a process and the model whose code it runs; empty strings if it is another program's child."""
    command = process.cmdline()
    if MODULE in command:
        return "engine", ""
    return ("handler", command[-1]) if str(PROGRAM) in command else ("", "")


bp = Blueprint("metrics", __name__)


@bp.get("/metrics", provide_automatic_options=False)
def metrics() -> Response:
    """Return the metrics of all server processes for Prometheus, as OpenMetrics if the Accept header prefers it."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Now(services().registry))
    return make_response(encode(registry), {"Content-Type": content_type, "Cache-Control": "no-store"})


class _Now(Collector):
    """Collector of the accumulated metrics and of the current state."""

    def __init__(self, models: Registry) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        yield from collect()
        yield _models(self._models.entries()[:MOST_NAMES])
        yield from _memory()
        limit = "Memory that the server may use: the machine's, or less if its control group allows less."
        yield GaugeMetricFamily("dimple_memory_limit_bytes", limit, memory_limit())


def _models(entries: list[Entry]) -> Metric:
    family = GaugeMetricFamily(
        "dimple_model_up",
        "1 if a model answers, 0 if it could not be loaded or none of its handler processes runs; no value if it has "
        "no workers.",
        labels=("model", "version", "engine"),
    )
    for entry in entries:
        if entry.model and entry.registration.min_workers < 1:
            continue
        version, engine = (entry.model.version, entry.model.kind) if entry.model else ("", "")
        family.add_metric((entry.name, version, engine), int(_answers(entry)))
    return family


def _answers(entry: Entry) -> bool:
    if isinstance(entry.model, CustomModel):
        return not entry.model.not_ready()
    return entry.model is not None


def _memory() -> Iterator[Metric]:
    labels = ("pid", "kind", "model")
    resident = GaugeMetricFamily(
        "dimple_process_resident_memory_bytes", "Memory of a process, including shared memory.", labels=labels
    )
    proportional = GaugeMetricFamily(
        "dimple_process_proportional_memory_bytes",
        "Memory of a process, with its part of shared memory.",
        labels=labels,
    )
    for item in memory():
        resident.add_metric((str(item.pid), item.kind, item.model), item.resident)
        if item.proportional is not None:
            proportional.add_metric((str(item.pid), item.kind, item.model), item.proportional)
    yield from (resident, proportional)
