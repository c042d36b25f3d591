"""The cost of the way to the cluster: the same requests to a server that computes itself, and to one that uses the
cluster.
"""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar

import psutil

from bench.cluster.models import pictures
from bench.cluster.rig import Front
from bench.perf.document import number

SECONDS = 4.0
WARM_UP = 20
CROWD = 8


@dataclass(frozen=True)
class Speed:
    """Median milliseconds over one connection; over eight, requests a second, and milliseconds of a core that one takes
    in server, proxy and replica together."""

    median: float
    per_second: float
    core: float


@dataclass(frozen=True)
class Hop:
    """A model with and without the cluster."""

    model: str
    local: Speed
    cluster: Speed | None = None

    HEAD: ClassVar[tuple[str, ...]] = (
        "model",
        "alone (ms)",
        "cluster (ms)",
        "alone (requests/s)",
        "cluster (requests/s)",
        "alone (ms of a core)",
        "cluster (ms of a core)",
    )

    def with_cluster(self, other: Hop) -> Hop:
        """Return a copy with the measurements of a front of a cluster."""
        return replace(self, cluster=other.local)

    def row(self) -> tuple[str, ...]:
        """Return the row of the document."""
        assert self.cluster is not None
        pairs = [(getattr(self.local, what), getattr(self.cluster, what)) for what in ("median", "per_second", "core")]
        return (self.model, *(number(figure) for pair in pairs for figure in pair))

    @property
    def core(self) -> float:
        """Return the milliseconds of a core that the way takes."""
        assert self.cluster is not None
        return self.cluster.core - self.local.core


def measure_hop(front: Front, model: str, processes: Sequence[psutil.Process]) -> Hop:
    """Measure one model at one server.

    :param processes: among which those are that work for it.
    """
    list(_times(front, model, WARM_UP, 60))
    at_work = _at_work(processes, model)
    alone = [seconds for seconds, _ in _times(front, model, None, SECONDS)]
    began, before = time.monotonic(), _seconds(at_work)
    with ThreadPoolExecutor(CROWD) as pool:
        counts = pool.map(lambda _: sum(1 for _ in _times(front, model, None, SECONDS)), range(CROWD))
        answered = sum(counts)
    rate = answered / (time.monotonic() - began)
    core = 1000 * (_seconds(at_work) - before) / answered
    return Hop(model, Speed(1000 * statistics.median(alone), rate, core))


def _times(front: Front, model: str, count: int | None, seconds: float) -> Iterator[tuple[float, int]]:
    """Send requests over one connection; yield the seconds of each answer.

    :raises RuntimeError: if one is not 200.
    """
    picture = pictures()[model]
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=60)
    ending, count_sent = time.monotonic() + seconds, 0
    while time.monotonic() < ending and (count is None or count_sent < count):
        began = time.perf_counter()
        connection.request("POST", f"/predict/{model}", picture, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{model} answered {answer.status}")
        count_sent += 1
        yield time.perf_counter() - began, count_sent
    connection.close()


def _at_work(processes: Sequence[psutil.Process], model: str) -> list[psutil.Process]:
    """Return the fronts, the proxies and the replicas of the model, but not Ray's own daemons, which also work without
    requests.
    """
    marks = ("gunicorn", "ray::ProxyActor", f"ray::ServeReplica:{model}-")
    return [process for process in processes if any(mark in " ".join(process.cmdline()) for mark in marks)]


def _seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the processor seconds that the processes have used so far."""
    return sum(process.cpu_times().user + process.cpu_times().system for process in processes)
