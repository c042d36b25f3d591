"""A small client that asks a server for as much as it can answer."""

from __future__ import annotations

import http.client
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import LaunchError

PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Measured:
    """Answers a second, and the milliseconds within which half of them, and 99 in a hundred, came."""

    per_second: float
    p50: float
    p99: float


def measure(port: int, path: str, body: bytes, connections: int, seconds: float) -> Measured:
    """Send a body again and again over connections that are kept, each waiting for its answer before the next.

    :param port: of this machine.
    :raises LaunchError: where an answer is anything but 200.
    """
    times: list[float] = []
    problems: list[str] = []
    started = time.perf_counter()

    def ask() -> None:
        try:
            times.extend(_ask(port, path, body, started + seconds))
        except (OSError, http.client.HTTPException, LaunchError) as error:
            problems.append(str(error) or type(error).__name__)

    clients = [threading.Thread(target=ask, daemon=True) for _ in range(connections)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if problems:
        raise LaunchError(f"The server that was measured did not answer {path}: {problems[0]}")
    took = time.perf_counter() - started
    return Measured(len(times) / took, percentile(times, 50) * 1000, percentile(times, 99) * 1000)


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least ``part`` per cent of all do not exceed (the nearest rank)."""
    return sorted(values)[max(0, math.ceil(part / 100 * len(values)) - 1)]


def _ask(port: int, path: str, body: bytes, until: float) -> list[float]:
    """Ask at least once. Returns the seconds that each answer took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    times: list[float] = []
    try:
        while not times or time.perf_counter() < until:
            started = time.perf_counter()
            connection.request("POST", path, body, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            said = response.read()
            if response.status != 200:
                raise LaunchError(f"{response.status} {said[:200].decode(errors='replace')}")
            times.append(time.perf_counter() - started)
    finally:
        connection.close()
    return times
