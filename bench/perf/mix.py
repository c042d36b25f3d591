"""The requests of a long mixed load, and how each must end."""

from __future__ import annotations

import http.client
import io
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.perf.subjects import Subject

GUEST = "guest"
"""The name of what is registered and unregistered meanwhile."""
NO_ANSWER = 0
GOOD = (200,)
BAD = (400, 413, 415, 422)
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    :param allowed: the statuses that it may end with.
    :param weight: how often it is asked, relative to the others.
    """

    name: str
    method: str
    path: str
    body: bytes
    allowed: tuple[int, ...]
    weight: float = 1.0


def kinds(subjects: Sequence[Subject]) -> list[Kind]:
    """Return good and bad pictures for every network, in JPEG and PNG, on both APIs, and other requests."""
    found = [
        Kind("page", "GET", "/", b"", GOOD, 0.3),
        Kind("health", "GET", "/ping", b"", GOOD),
        Kind("list of models", "GET", "/predict/", b"", GOOD, 0.5),
        Kind("unknown model", "POST", "/predictions/nobody", b"x", (404,), 0.5),
    ]
    for subject in subjects:
        jpeg = subject.picture.read_bytes()
        mms, own = f"/predictions/{subject.name}", f"/predict/{subject.name}"
        found += [
            Kind("good JPEG", "POST", mms, jpeg, GOOD, 4),
            Kind("good JPEG, own API", "POST", own, jpeg, GOOD, 2),
            Kind("good PNG", "POST", own, other_format(jpeg), GOOD),
            Kind("cut JPEG", "POST", own, jpeg[: len(jpeg) // 20], BAD),
            Kind("text", "POST", mms, b"this is no picture", BAD),
            Kind("nothing", "POST", own, b"", BAD),
        ]
    guest = subjects[0].picture.read_bytes()
    found.append(Kind("model that comes and goes", "POST", f"/predictions/{GUEST}", guest, (200, 404, 503), 2))
    return found


def other_format(jpeg: bytes) -> bytes:
    """Return the same picture as PNG."""
    from PIL import Image

    written = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as image:
        image.save(written, "PNG")
    return written.getvalue()


@dataclass
class Tally:
    """The ends of requests: (kind, status) -> count; and the messages of a few of the wrong ones."""

    ended: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: int = 0
    samples: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str, status: int, allowed: Sequence[int], message: str) -> None:
        with self.lock:
            self.ended[kind, status] += 1
            if status not in allowed:
                self.wrong += 1
                if len(self.samples) < 20:
                    self.samples.append(f"{time.strftime('%H:%M:%S')} {kind}: {status} {message[:300]}")

    @property
    def total(self) -> int:
        return sum(self.ended.values())


def client(port: int, choices: Sequence[Kind], tally: Tally, stop: threading.Event, seed: int) -> None:
    """Send one request after the other on a persistent connection, until told to stop."""
    chance = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    weights = [choice.weight for choice in choices]
    while not stop.is_set():
        (kind,) = chance.choices(choices, weights)
        status, message = ask(connection, kind)
        tally.count(kind.name, status, kind.allowed, message)
    connection.close()


def ask(connection: http.client.HTTPConnection, kind: Kind) -> tuple[int, str]:
    """Send one request. A request without a complete answer has the status ``NO_ANSWER``; it is not repeated."""
    try:
        connection.request(kind.method, kind.path, kind.body or None, {"Content-Type": "image/jpeg"})
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return NO_ANSWER, repr(error)
