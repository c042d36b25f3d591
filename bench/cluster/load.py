"""Steady load: a few clients that ask at a given pace, check every answer, and count how each request ended."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TOLERANCE = 1e-6
CLIENT_SECONDS = 60.0


@dataclass(frozen=True)
class Ask:
    """A request to a model, and the right answers: probabilities by class, one map for each version that may answer at
    this time.
    """

    model: str
    picture: bytes
    right: tuple[Mapping[str, float], ...]

    def judge(self, body: bytes) -> float:
        """Return the largest difference of a probability from the nearest right answer."""
        probabilities = {load["class"]: load["probability"] for load in json.loads(body)["predictions"]}
        return min(_difference(probabilities, right) for right in self.right)


def _difference(probabilities: Mapping[str, float], right: Mapping[str, float]) -> float:
    if not set(probabilities) <= set(right):
        return float("inf")
    return max(abs(probabilities[name] - right[name]) for name in probabilities)


@dataclass
class Tally:
    """The ends of requests. ``refused`` were answered 503 with ``Retry-After``. Anything else but a right answer, above
    all no answer, is ``lost``. ``silence`` is the longest time without an answer of a front, in seconds.
    """

    sent: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    worst: float = 0.0
    slowest: float = 0.0
    silence: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)


class Load:
    """Clients that run until :meth:`stop`. ``phase`` is the name under which new requests are counted."""

    def __init__(self, ports: Sequence[int], asks: Sequence[Ask], per_second: float, clients: int) -> None:
        self.asks = tuple(asks)
        self.phase = "steady"
        self.tallies: dict[str, Tally] = {}
        self._ports = ports
        self._answered_at = dict.fromkeys(ports, time.monotonic())
        self._pause = clients / per_second
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(clients)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the clients end with the request they are at."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * CLIENT_SECONDS)

    def count(self) -> Tally:
        """Return the tally of this moment."""
        with self._lock:
            return self.tallies.setdefault(self.phase, Tally())

    def _run(self, number: int) -> None:
        port = self._ports[number % len(self._ports)]
        connection: http.client.HTTPConnection | None = None
        due = time.monotonic()
        for turn in itertools.count(number):
            if self._stopping.is_set():
                break
            asks = self.asks
            ask, tally = asks[turn % len(asks)], self.count()
            connection = self._ask(connection, port, ask, tally)
            due = max(due + self._pause, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
        if connection is not None:
            connection.close()

    def _ask(
        self, connection: http.client.HTTPConnection | None, port: int, ask: Ask, tally: Tally
    ) -> http.client.HTTPConnection | None:
        began = time.monotonic()
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=CLIENT_SECONDS)
            connection.request("POST", f"/predict/{ask.model}", ask.picture, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            body = answer.read()
            self._note(
                tally, port, ask, answer.status, answer.headers.get("Retry-After"), body, time.monotonic() - began
            )
            return connection
        except (OSError, http.client.HTTPException) as error:
            with self._lock:
                tally.sent += 1
                tally.lost += 1
                tally.reasons[f"{type(error).__name__}: {error}"] += 1
            return None

    def _note(
        self, tally: Tally, port: int, ask: Ask, status: int, retry: str | None, body: bytes, seconds: float
    ) -> None:
        difference = ask.judge(body) if status == 200 else 0.0
        with self._lock:
            tally.sent += 1
            tally.slowest = max(tally.slowest, seconds)
            if status == 200 and difference <= TOLERANCE:
                tally.answered += 1
                tally.silence = max(tally.silence, time.monotonic() - self._answered_at[port])
                self._answered_at[port] = time.monotonic()
                tally.worst = max(tally.worst, difference)
            elif status == 503 and retry:
                tally.refused += 1
                tally.reasons[f"503: {json.loads(body)['message'][:120]}"] += 1
            else:
                tally.lost += 1
                tally.reasons[f"{status}, {ask.model} off by {difference:.3g}: {body[:120]!r}"] += 1
