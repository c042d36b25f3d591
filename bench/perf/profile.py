"""The parts of a request's time: those that Dimple's answer reports, and the rest of the client's waiting time."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bench.perf.records import Step
from bench.perf.subjects import Subject

CONNECTIONS = (1, 8)
STEPS = ("decode", "faces", "preprocess", "queue", "predict", "http")
MOST_SECONDS = 5.0


def steps(port: int, subjects: Sequence[Subject], seconds: float) -> list[Step]:
    """Send ``POST /predict/MODEL``, whose answer has ``timing_ms``, and return the means."""
    return [
        Step(
            subject.name,
            connections,
            _measure(port, subject.name, subject.picture, connections, min(seconds, MOST_SECONDS)),
        )
        for subject in subjects
        for connections in CONNECTIONS
    ]


def _measure(port: int, model: str, picture: Path, connections: int, seconds: float) -> dict[str, float]:
    rows: list[dict[str, float]] = []
    body = picture.read_bytes()
    ends = time.monotonic() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < ends:
            started = time.perf_counter()
            connection.request("POST", f"/predict/{model}", body, {"Content-Type": "image/jpeg"})
            response = connection.getresponse().read()
            waited = (time.perf_counter() - started) * 1000
            rows.append(shares(json.loads(response)["timing_ms"], waited))
        connection.close()

    running = [threading.Thread(target=ask) for _ in range(connections)]
    for item in running:
        item.start()
    for item in running:
        item.join()
    return mean(rows)


def shares(timing: dict[str, float], waited: float) -> dict[str, float]:
    """Split the client's waiting time (ms) into the steps that the answer reports, and the rest."""
    measured = {name: timing.get(name, 0.0) for name in STEPS[:-1]}
    return {**measured, "http": max(0.0, waited - sum(measured.values()))}


def mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each step; nothing if there are no rows."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in STEPS} if rows else {}
