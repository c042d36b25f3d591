"""Waiting, batches, slow and dying workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.parity.answer import Answer, of_document
from bench.parity.check import Check, describe, manage, predict, probe
from bench.parity.peer import Peer

Request = tuple[str, bytes, dict[str, str]]


def at_once(requests: Sequence[Request]) -> Callable[[Peer], Answer]:
    """Send requests together; return the status and body of each, in an order that means nothing."""

    def ask(peer: Peer) -> Answer:
        with ThreadPoolExecutor(len(requests)) as pool:
            pending = [pool.submit(peer.ask, "POST", path, body, headers) for path, body, headers in requests]
            return of_document(sorted((_summary(item.result()) for item in pending), key=repr))

    return ask


def _summary(answer: Answer) -> list[Any]:
    text = answer.body.decode("utf-8", "replace")
    return [answer.status, " ".join(text.split())]


def batch(*bodies: bytes) -> Callable[[Peer], Answer]:
    return at_once([("/predictions/batch", body, {}) for body in bodies])


def slow(seconds: float, times: int) -> Callable[[Peer], Answer]:
    """Send the given number of requests that take this long."""
    return at_once([("/predictions/actor", str(seconds).encode(), {"do": "sleep"})] * times)


def crowd(peer: Peer) -> Answer:
    """Return how many of 300 requests get which status while the only worker is busy."""
    with ThreadPoolExecutor(301) as pool:
        busy = pool.submit(peer.ask, "POST", "/predictions/actor", b"6", {"do": "sleep"})
        time.sleep(1.0)  # long enough for that to reach the worker
        pending = [pool.submit(peer.ask, "POST", "/predictions/actor", b"0", {"do": "sleep"}) for _ in range(300)]
        statuses = [item.result().status for item in [busy, *pending]]
    return of_document({str(status): statuses.count(status) for status in sorted(set(statuses))})


def processes(peer: Peer) -> Answer:
    """Return how many processes answer 60 requests to one worker, sent eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        pending = [pool.submit(peer.ask, "POST", "/predictions/actor", b"x", {"do": "process"}) for _ in range(60)]
        return of_document({"processes": len({item.result().body for item in pending})})


def unregister_while_answering(peer: Peer) -> Answer:
    """Return the answers to a request whose model is unregistered while it is computed, and to the unregistering."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(peer.ask, "POST", "/predictions/actor", b"2", {"do": "sleep"})
        time.sleep(0.5)  # long enough for the request to reach its worker
        gone = peer.ask("DELETE", "/models/actor", management=True)
        return of_document({"request": _summary(pending.result()), "unregister": _summary(gone)})


BATCHES = [
    manage("batch.register", "POST /models?url=batch&batch_size=4&max_batch_delay=1000&initial_workers=1", 200,
           "Workers scaled"),
    describe("batch.describe", "batch", '"batchSize": 4'),
    predict("batch.alone", "POST /predictions/batch", 200, '"together": 1', b"a"),
    probe("batch.four", "four requests at once", batch(b"a", b"b", b"c", b"d"), says='\\"together\\": 4'),
    probe("batch.two", "two requests at once", batch(b"a", b"b"), says='\\"together\\": 2'),
    probe("batch.one-of-two-is-a-teapot", "two at once, one gets a status of its own", batch(b"a", b"teapot"),
           says="418"),
    predict("batch.alone-fails", "POST /predictions/batch", 503, "Prediction failed", b"fail"),
    predict("batch.alone-short", "POST /predictions/batch", 503, "", b"one less"),
    probe("batch.two-fail", "two at once, one of them makes the batch fail", batch(b"a", b"fail"),
           says="Prediction failed"),
    predict("batch.after-failure", "POST /predictions/batch", 200, "together", b"a"),
    manage("batch.unregister", "DELETE /models/batch", 200, "unregistered"),
    manage("batch.register-eight", "POST /models?url=batch&batch_size=8&max_batch_delay=5000&initial_workers=1", 200,
           "Workers scaled"),
    probe("batch.eight", "eight requests at once", batch(*[b"a"] * 8), says='\\"together\\": 8'),
    manage("batch.unregister-eight", "DELETE /models/batch", 200, "unregistered"),
]  # fmt: skip
WORKERS = [
    manage("queue.register", "POST /models?url=actor&initial_workers=1", 200, "Workers scaled"),
    probe("queue.one-process", "60 requests to one worker: how many processes answer", processes,
          says='"processes": 1'),
    probe("queue.crowd", "300 requests while the only worker is busy: 100 wait", crowd, says='"503": 200'),
    probe("queue.three-wait", "three requests of 0.3 s for one worker", slow(0.3, 3), says="slept"),
    probe("queue.unregister-while-answering", "DELETE while a request is answered", unregister_while_answering),
    manage("queue.after", "GET /models/actor", 404, "Model not found"),
    manage("queue.register-impatient", "POST /models", 200, "Workers scaled",
           '{"url": "actor", "initial_workers": 1, "response_timeout": 1, "synchronous": true}',
           {"Content-Type": "application/json"}),
    predict("queue.timeout", "POST /predictions/actor", 500, "Worker died.", b"4", {"do": "sleep"}),
    predict("queue.after-timeout", "POST /predictions/actor", 200, "plain", b"x"),
    manage("queue.unregister-impatient", "DELETE /models/actor", 200, "unregistered"),
]  # fmt: skip
CHECKS: list[Check] = [*BATCHES, *WORKERS]
