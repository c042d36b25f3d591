"""Clients that count the end of every request that was sent."""

from __future__ import annotations

import enum
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.reliability.models import COLOUR, COLOURS, HANDLED, HEAVY, picture

PATIENCE_SECONDS = 60
RETRY_SECONDS = 60
PAUSE_SECONDS = 0.01
"""That a client rests between two requests."""
SAMPLES = 10
DIED = b'"Worker died."'
"""What Multi Model Server says to a request whose handler ended while it worked on it, and Dimple as well."""


class End(enum.Enum):
    """The end of a request."""

    ANSWERED = "answered"
    """With the right answer."""
    REFUSED = "refused by contract"
    """503, 429, 507 or 408 in the server's own words, and 503 and 429 with Retry-After."""
    CUT = "cut off, answered on retry"
    """Its connection ended before the answer; asked again, it was answered."""
    LOST = "lost"
    """Everything else: no answer, half an answer, a wrong one."""


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    :param right: whether an answer, by its status and body, is what it must be.
    """

    name: str
    method: str
    path: str
    body: bytes
    right: Callable[[int, bytes], bool]
    headers: tuple[tuple[str, str], ...] = ()


def predictions(model: str = COLOUR) -> list[Kind]:
    """Return pictures with known answers, on both APIs, and files that are no pictures."""
    found = [Kind("no picture", "POST", f"/predict/{model}", b"this is no picture", lambda status, _: status == 415)]
    for colour in COLOURS:
        body = picture(colour)
        found += [
            Kind(f"{colour}, MMS's API", "POST", f"/predictions/{model}", body, _first_is(colour)),
            Kind(f"{colour}, own API", "POST", f"/predict/{model}", body, _first_is(colour)),
        ]
    return found


def heavy() -> list[Kind]:
    """Return pictures for a slow network and for a fast one."""
    return [*predictions(HEAVY), *predictions()]


def pages() -> list[Kind]:
    """Return the form of the page, whose picture is stored."""
    asks = (("Accept", "text/html"), ("Content-Type", "image/png"))
    return [
        Kind(
            f"{colour}, the page", "POST", f"/file/?model={COLOUR}", picture(colour),
            lambda status, body, colour=colour: status == 200 and colour.encode() in body, asks,
        )
        for colour in COLOURS
    ]  # fmt: skip


def handled() -> list[Kind]:
    """Return requests to the model with code of its own, which answers how many bytes it got."""
    return [
        Kind(
            "handler", "POST", f"/predictions/{HANDLED}", bytes(size),
            lambda status, body, size=size: status == 200 and body.split()[-1:] == [str(size).encode()],
        )
        for size in (1, 1000, 20000)
    ]  # fmt: skip


def _first_is(colour: str) -> Callable[[int, bytes], bool]:
    def right(status: int, body: bytes) -> bool:
        if status != 200:
            return False
        document = json.loads(body)
        first = (document["predictions"] if isinstance(document, dict) else document)[0]
        return bool(first["class"] == colour and first["probability"] > 0.99)

    return right


@dataclass
class Books:
    """The ends of all requests.

    :param unreached: attempts on which nothing was sent, because nobody listened; each was repeated until somebody did.
    """

    ended: Counter[End] = field(default_factory=Counter)
    unreached: int = 0
    samples: list[str] = field(default_factory=list)
    slowest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, end: End, kind: str, message: str, seconds: float = 0.0) -> None:
        with self.lock:
            self.ended[end] += 1
            self.slowest = max(self.slowest, seconds)
            if end is End.LOST and len(self.samples) < SAMPLES:
                self.samples.append(f"{time.strftime('%H:%M:%S')} {kind}: {message[:300]}")

    def knock(self) -> None:
        """Count an attempt while nothing listens."""
        with self.lock:
            self.unreached += 1

    @property
    def sent(self) -> int:
        return sum(self.ended.values())


@dataclass(frozen=True)
class Rules:
    """The losses that a fault excuses: ``cuts``, that a process loses the requests that it computes; ``away``, that
    nothing listens for a while. Everything else is lost.
    """

    cuts: bool = False
    away: bool = False


class Client:
    """A client, which sends one request after the other; every other client has a persistent connection."""

    def __init__(
        self, port: int, kinds: Sequence[Kind], books: Books, rules: Rules, seed: int, pause: float = PAUSE_SECONDS
    ) -> None:
        self._port, self._kinds, self._books, self._rules, self._pause = port, kinds, books, rules, pause
        self._keeps = seed % 2 == 0
        self._chance = random.Random(seed)
        self._connection: http.client.HTTPConnection | None = None

    def run(self, stop: threading.Event) -> None:
        """Send requests until told to stop."""
        while not stop.is_set():
            self.ask(self._chance.choice(self._kinds), stop)
            stop.wait(self._pause)
        self._hang_up()

    def ask(self, kind: Kind, stop: threading.Event) -> None:
        """Send one request, until its end is known."""
        began, cut = time.monotonic(), ""
        while True:
            connection = self._connect(stop)
            if connection is None:  # told to stop, and nothing was sent
                if cut:
                    self._books.count(End.LOST, kind.name, f"{cut}; then nobody listened any more")
                return
            try:
                connection.request(kind.method, kind.path, kind.body, dict(kind.headers))
                response = connection.getresponse()
                status, body, headers = response.status, response.read(), response.headers
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                cut = f"{type(error).__name__} {error}"
                if self._rules.cuts and time.monotonic() - began < RETRY_SECONDS:
                    continue
                return self._books.count(End.LOST, kind.name, cut, time.monotonic() - began)
            if not self._keeps or response.will_close:
                self._hang_up()
            if self._rules.cuts and status == 500 and DIED in body and time.monotonic() - began < RETRY_SECONDS:
                cut = "the handler died"
                continue
            end = _judge(kind, status, body, headers)
            if cut and end is not End.LOST:
                end = End.CUT
            return self._books.count(end, kind.name, f"{status} {body[:200]!r}", time.monotonic() - began)

    def _connect(self, stop: threading.Event) -> http.client.HTTPConnection | None:
        while self._connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
            try:
                connection.connect()
                self._connection = connection
            except OSError as error:
                connection.close()
                if not self._rules.away:
                    self._books.count(End.LOST, "connection", repr(error))
                self._books.knock()
                if stop.wait(self._pause):
                    return None
        return self._connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _judge(kind: Kind, status: int, body: bytes, headers: http.client.HTTPMessage) -> End:
    try:
        if kind.right(status, body):
            return End.ANSWERED
    except (ValueError, LookupError, TypeError):
        return End.LOST
    if status in (429, 503):
        return End.REFUSED if headers.get("Retry-After") else End.LOST
    return End.REFUSED if status in (408, 507) else End.LOST


@contextmanager
def load(port: int, kinds: Sequence[Kind], clients: int, rules: Rules, pause: float = PAUSE_SECONDS) -> Iterator[Books]:
    """Send requests from the given number of clients meanwhile. The books are right afterwards."""
    books, stop = Books(), threading.Event()
    running = [
        threading.Thread(target=Client(port, kinds, books, rules, seed, pause).run, args=(stop,))
        for seed in range(clients)
    ]
    for item in running:
        item.start()
    try:
        yield books
    finally:
        stop.set()
        for item in running:
            item.join()
