"""Clients that are slow, that disconnect, or that are too many."""

from __future__ import annotations

import contextlib
import resource
import selectors
import shutil
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.reliability.books import Rules
from bench.reliability.fault import Fault, Scene
from bench.reliability.models import COLOUR, picture, write_handled
from bench.reliability.registrations import register, unregister

HEAD = f"POST /predictions/{COLOUR} HTTP/1.1\r\nHost: x\r\nX-Padding: {{}}".encode()
DRIP_SECONDS = 0.5
SLOW = 200
"""More than a server process has threads."""
WAITING, CHUNKED_CLIENTS = 400, 260
"""More than all server processes have threads."""
SLOW_MODEL, SLOW_SECONDS = "tardy", 2.0


class Dripping:
    """Connections that send a byte now and then.

    :param starts: what each sends at first.
    """

    def __init__(self, port: int, starts: list[bytes]) -> None:
        self._sockets = []
        for start in starts:
            one = socket.create_connection(("127.0.0.1", port), timeout=30)
            one.sendall(start)
            one.setblocking(False)
            self._sockets.append(one)
        self.heard: dict[socket.socket, bytes] = dict.fromkeys(self._sockets, b"")
        self.ended: set[socket.socket] = set()

    def drip(self) -> None:
        """Send a byte on each connection, and read what the server sends."""
        for item in self._sockets:
            if item in self.ended:
                continue
            try:
                with contextlib.suppress(BlockingIOError):
                    item.send(b"a")
                while piece := item.recv(4096):
                    self.heard[item] += piece
                self.ended.add(item)
            except BlockingIOError:
                pass
            except OSError:
                self.ended.add(item)

    def close(self) -> None:
        for item in self._sockets:
            item.close()

    @property
    def all_ended(self) -> bool:
        return len(self.ended) == len(self._sockets)


@contextmanager
def dripping(port: int, starts: list[bytes]) -> Iterator[Dripping]:
    """Yield slow clients, which continue meanwhile."""
    slow, stop = Dripping(port, starts), threading.Event()

    def run() -> None:
        while not stop.wait(DRIP_SECONDS):
            slow.drip()

    running = threading.Thread(target=run)
    running.start()
    try:
        yield slow
    finally:
        stop.set()
        running.join()
        slow.close()


def slow_starts(count: int) -> list[bytes]:
    """Return the starts of slow requests, a third each: nothing, half a head, and a head with half a body."""
    body = b"POST /predictions/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhalf" % COLOUR.encode()
    return [(b"", HEAD, body)[number % 3] for number in range(count)]


def _slow(scene: Scene) -> None:
    """Check that others are answered while slow clients send, and that each slow client is refused in time."""
    with dripping(scene.served.port, slow_starts(SLOW)) as slow:
        answered = scene.books.sent
        scene.served.wait(lambda: scene.books.sent > answered + 50)
        scene.check(len(slow.ended) < SLOW, "the slow ones were gone before others were asked")
        scene.served.wait(lambda: slow.all_ended)
        scene.is_over()
    timeouts = sum(b" 408 " in text for text in slow.heard.values())
    scene.note(f"{SLOW} slow connections, {timeouts} of them answered 408, the others closed")
    scene.check(timeouts >= SLOW // 3, f"only {timeouts} were told that they are too slow")


def _vanish(scene: Scene) -> None:
    """Disconnect clients in the middle of a body, with a reset or a normal end."""
    head = f"POST /predict/{COLOUR} HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n".encode()
    for number in range(100):
        one = socket.create_connection(("127.0.0.1", scene.served.port), timeout=30)
        one.sendall(head + bytes((0, 1000, 100_000)[number % 3]))
        if number % 2:  # a reset in place of an end
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
    scene.is_over()
    scene.note("100 clients went in the middle of a body, half of them with a reset")
    scene.check("Traceback" not in scene.log_text(), "the log has a stack trace")


def _deaf(scene: Scene) -> None:
    """Start clients that send requests without end, and read no answer."""
    request = b"GET /static/screenshot.png HTTP/1.1\r\nHost: x\r\n\r\n"
    deaf = []
    for _ in range(20):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", scene.served.port))
        one.setblocking(False)
        deaf.append(one)
    with contextlib.ExitStack() as stack:
        for item in deaf:
            stack.enter_context(item)
            with contextlib.suppress(BlockingIOError):
                for _ in range(100):
                    item.send(request)
        answered = scene.books.sent
        scene.served.wait(lambda: scene.books.sent > answered + 50)
        scene.served.wait(lambda: all(_is_reset(item) for item in deaf))
    scene.is_over()
    scene.note("20 clients that took no answer were cut off")


def _is_reset(one: socket.socket) -> bool:
    poll = selectors.PollSelector()
    poll.register(one, selectors.EVENT_WRITE)
    error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        return True
    try:
        one.send(b"G")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def _slow_models(scene: Scene) -> None:
    """Send more requests than there are threads to two models that take seconds: all others are still answered."""
    served = scene.served
    write_handled(served.models / SLOW_MODEL, SLOW_SECONDS)
    names = [f"{SLOW_MODEL}-{number}" for number in range(2)]
    clients: list[socket.socket] = []
    try:
        for name in names:
            status, body = register(scene, name, SLOW_MODEL)
            scene.check(status == 200, f"registering: {status} {body!r}")
        for number in range(WAITING):
            one = socket.create_connection(("127.0.0.1", served.port), timeout=30)
            clients.append(one)
            head = f"POST /predictions/{names[number % 2]} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
            one.sendall(head.encode() + b"x")
        answered, pings = scene.books.sent, []
        while scene.books.sent < answered + 200 or len(pings) < 100:
            began = time.monotonic()
            status, _, _ = served.ask("GET", "/ping")
            pings.append(time.monotonic() - began)
            scene.check(status == 200, f"/ping is answered {status}")
        statuses = Counter(_status(client) for client in clients)
    finally:
        for client in clients:
            client.close()
        for name in names:
            unregister(scene, name)
        shutil.rmtree(served.models / SLOW_MODEL)
    scene.is_over()
    scene.note(
        f"of {WAITING} clients of two models of {SLOW_SECONDS:g} s, {statuses[503]} were answered 503 at once; "
        f"the longest of {len(pings)} /ping meanwhile {max(pings):.2f} s"
    )
    scene.check(set(statuses) <= {0, 200, 503}, f"their answers are {statuses}")
    scene.check(statuses[503] > 0, "none was refused")


def _status(one: socket.socket) -> int:
    """Return the status of the received answer; 0 if there is none."""
    try:
        one.setblocking(False)
        return int(one.recv(4096).split()[1])
    except BlockingIOError:
        return 0


def _chunked(scene: Scene) -> None:
    """Send from more clients than there are threads a chunk that looks like the end of a body, and nothing more."""
    start = HEAD.partition(b"X-Padding")[0] + b"Transfer-Encoding: chunked\r\n\r\n8\r\n\r\n\r\n"
    with dripping(scene.served.port, [start] * CHUNKED_CLIENTS) as slow:
        answered = scene.books.sent
        scene.served.wait(lambda: scene.books.sent > answered + 50)
        scene.check(len(slow.ended) < CHUNKED_CLIENTS, "the chunked ones were gone before others were asked")
        scene.served.wait(lambda: slow.all_ended)
        scene.is_over()
    refusals = sum(text.split()[1:2] in ([b"400"], [b"408"]) for text in slow.heard.values())
    scene.note(f"{CHUNKED_CLIENTS} bodies in chunks that did not end, {refusals} of them refused")
    scene.check(refusals == CHUNKED_CLIENTS, f"only {refusals} were told so")


def limits(pid: int, files: int) -> None:
    """Give a running process another limit of open files. The hard limit stays, or it could not be restored."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(files, hard), hard))


def _too_many(scene: Scene) -> None:
    """Open more connections than the processes may have files: no process ends or spins, and waiting clients are
    answered.
    """
    served = scene.served
    workers = served.workers()
    for worker in workers:
        limits(worker, _open_files(worker) + 20)
    idle = []
    try:
        for _ in range(200):
            one = socket.create_connection(("127.0.0.1", served.port), timeout=30)
            one.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n")  # an end is missing
            idle.append(one)
        served.wait_for_line("Cannot accept connections")
        began, spent = time.monotonic(), _processor_seconds(workers)
        time.sleep(1.0)
        busy = (_processor_seconds(workers) - spent) / (time.monotonic() - began)
        scene.note(
            f"{len(idle)} connections where {20 * len(workers)} had room; processor meanwhile {busy:.0%} of a core"
        )
    finally:
        for item in idle:
            item.close()
    scene.check(served.workers() == workers, "a worker ended")
    for pid in workers:
        limits(pid, 4096)
    scene.is_over()


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _processor_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


def _answers(scene: Scene) -> bool:
    return scene.served.ask("POST", f"/predictions/{COLOUR}", picture("blue"))[0] == 200


def _models_answer(scene: Scene) -> bool:
    return _answers(scene) and scene.served.ask("GET", "/ping")[0] == 200


Act = Callable[[Scene], None]
SLOW_CLIENTS = Fault(f"slow-loris: {SLOW} clients that send a byte now and then", _slow, _answers)
VANISHING = Fault("clients that vanish in the middle of a body", _vanish, _answers)
DEAF = Fault("clients that take no answer", _deaf, _answers)
TOO_MANY = Fault("out of file descriptors", _too_many, _answers, rules=Rules())
SLOW_MODELS = Fault(f"{WAITING} clients that wait for two slow models", _slow_models, _models_answer)
CHUNKED = Fault(f"{CHUNKED_CLIENTS} bodies in chunks that do not end", _chunked, _answers)
FAULTS = (SLOW_CLIENTS, CHUNKED, VANISHING, DEAF, TOO_MANY, SLOW_MODELS)
