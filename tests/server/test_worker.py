"""The thread of a server process that answers a request, which never waits for another slow request."""

from __future__ import annotations

import http.client
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from app.settings import ROOT
from bench.ports import free_ports
from tests.helpers import wait_until

SECONDS = 60
Connect = Callable[[], http.client.HTTPConnection]


@contextmanager
def serving(place: Path, workers: int, file_bytes: int = resource.RLIM_INFINITY) -> Iterator[Connect]:
    """Yield a gunicorn of its own, with the worker and nothing else of ours.

    :param file_bytes: maximum size of its files.
    """
    (port,) = free_ports(1)
    (place / "config.py").write_text("control_socket_disable = True\nkeepalive = 60\n")
    command = [sys.executable, "-m", "gunicorn", "-c", str(place / "config.py"), "-b", f"127.0.0.1:{port}"]
    command += ["-w", str(workers), "-k", "app.server.worker.Worker", "--threads", "4"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DIMPLE_")}
    with (place / "log.txt").open("w") as log, subprocess.Popen(
        [*command, "tests.server.waiting_app:app"], cwd=ROOT, env=environ, stdout=log, stderr=log
    ) as process:  # fmt: skip
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

        try:
            wait_until_begun(connect, process)
            yield connect
        finally:
            process.terminate()


def wait_until_begun(connect: Connect, process: subprocess.Popen[bytes]) -> None:
    def has_begun() -> bool:
        assert process.poll() is None
        with suppress(OSError):
            return bool(ask_once(connect))
        return False

    wait_until(has_begun)


def ask(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    return connection.getresponse().read().decode()


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connect]:
    with serving(tmp_path_factory.mktemp("one"), workers=1) as one:
        yield one


@pytest.mark.parametrize("kind", ["waits", "blocks", "computes"])
def test_a_long_request_does_not_delay_other_connections(connect: Connect, kind: str, tmp_path: Path) -> None:
    until = tmp_path / "until"
    if kind != "computes":
        os.mkfifo(until)
    with closing(connect()) as slow, closing(connect()) as quick:
        slow.request("GET", f"/{kind}?{until}")
        here = {ask(quick, "/process") for _ in range(20)}  # with one thread only, each would wait for ever
        until.open("w").close()
        assert {slow.getresponse().read().decode()} == here
        assert ask(slow, "/process") in here  # its connection goes on


def test_short_requests_are_answered_by_one_thread(connect: Connect) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(connect())) for _ in range(8)]
        assert len({ask(connection, "/thread") for _ in range(5) for connection in connections}) == 1


def test_requests_beyond_the_queue_limit_are_refused_and_all_others_answered(connect: Connect, tmp_path: Path) -> None:
    until, done = tmp_path / "until", tmp_path / "done"
    os.mkfifo(until)
    done.touch()
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(connect())) for _ in range(6)]
        for connection in connections:  # of four threads, three are for those that may wait
            connection.request("GET", f"/waits?{until}")
        sockets = [connection.sock for connection in connections]
        wait_until(lambda: len(select.select(sockets, [], [], 0)[0]) == 3)
        with closing(connect()) as other:
            assert ask(other, "/process") == ask(other, f"/computes?{done}")
        until.open("w").close()
        answers = [connection.getresponse() for connection in connections]
        assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 3


def test_many_concurrent_long_requests_are_all_answered(connect: Connect, tmp_path: Path) -> None:
    until = tmp_path / "until"
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connect())) for _ in range(10)]  # there are four threads
        for item in slow:
            item.request("GET", f"/computes?{until}")
        until.touch()
        assert len({item.getresponse().read() for item in slow}) == 1


def test_new_connections_are_answered_before_repeated_requests(connect: Connect) -> None:
    regulars, turns, stop = 30, [0], threading.Event()

    def ask_again() -> None:
        with closing(connect()) as connection:
            while not stop.is_set():
                turns.append(int(ask(connection, "/turn")))

    with ThreadPoolExecutor(regulars) as threads, ExitStack() as stack:
        stack.callback(stop.set)
        asking = [threads.submit(ask_again) for _ in range(regulars)]
        wait_until(lambda: len(turns) > 10 * regulars)
        process = int(ask_once(connect))
        os.kill(process, signal.SIGSTOP)  # so that all newcomers are there at once
        stack.callback(os.kill, process, signal.SIGCONT)
        newcomers = [stack.enter_context(closing(connect())) for _ in range(30)]
        for newcomer in newcomers:
            newcomer.request("GET", "/turn")
        before = max(turns)
        os.kill(process, signal.SIGCONT)
        last = max(int(newcomer.getresponse().read()) for newcomer in newcomers)
        stop.set()
        for item in asking:
            item.result(SECONDS)
    # a turn for each newcomer and two for each regular, and some that were on their way
    assert last - before < 5 * regulars


def test_pipelined_requests_are_answered_in_order(connect: Connect) -> None:
    with closing(connect()) as connection:
        connection.connect()
        connection.sock.sendall(b"GET /process HTTP/1.1\r\nHost: x\r\n\r\nGET /thread HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        with connection.sock.makefile("rb") as file:
            bodies = [read_answer(file) for _ in range(40)]
    assert len(set(bodies[::2])) == 1
    assert len(set(bodies[1::2])) <= 4


def read_answer(file: BinaryIO) -> bytes:
    length = 0
    while (line := file.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return file.read(length)


def ask_once(connect: Connect) -> str:
    with closing(connect()) as connection:
        return ask(connection, "/process")


def test_a_request_that_raises_system_exit_closes_no_other_connection(connect: Connect) -> None:
    with closing(connect()) as bad, closing(connect()) as good:
        here = ask(good, "/process")
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            ask(bad, "/exit")
        assert ask(good, "/process") == here


def test_connections_go_to_the_process_with_fewer_connections(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as connect:
        served: set[str] = set()

        def both_have_begun() -> bool:
            served.add(ask_once(connect))
            return len(served) == 2

        wait_until(both_have_begun)
        # a process that the machine does not run in time loses its turn; chance alone never gives it so many of 60
        wait_until(lambda: _taken_by_the_emptied(connect) >= 45)


def _taken_by_the_emptied(connect: Connect) -> int:
    """Connect 120 times, close the connections of one process, connect 60 times; return how many that process has."""
    with ExitStack() as stack:

        def connect_all(count: int) -> dict[str, list[http.client.HTTPConnection]]:
            found: dict[str, list[http.client.HTTPConnection]] = {}
            for _ in range(count):
                one = stack.enter_context(closing(connect()))
                found.setdefault(ask(one, "/process"), []).append(one)
            return found

        emptied, connections = connect_all(120).popitem()
        for connection in connections:
            connection.close()
        return len(connect_all(60).get(emptied, []))


def test_a_request_that_moves_to_a_thread_keeps_its_body(connect: Connect) -> None:
    for path, body in (("/echo", b"short"), ("/moved", b"x" * 100_000), ("/moved", b"")):
        with closing(connect()) as connection:
            connection.request("POST", path, body)
            assert connection.getresponse().read() == body


@contextmanager
def connected(connect: Connect) -> Iterator[tuple[socket.socket, BinaryIO]]:
    with closing(connect()) as connection:
        connection.connect()
        with connection.sock.makefile("rb") as file:
            yield connection.sock, file


def head(path: str, length: int, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *lines, "", ""]).encode()


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
def test_a_head_is_refused_before_its_body_arrives(connect: Connect, expect: tuple[str, ...]) -> None:
    with connected(connect) as (sock, file):
        sock.sendall(head("/refused", 5_000_000, *expect))
        assert file.readline() == b"HTTP/1.1 403 Forbidden\r\n"
        assert b"Connection: close" in file.read()


def test_an_accepted_head_gets_100_continue_once(connect: Connect) -> None:
    with connected(connect) as (sock, file):
        sock.sendall(head("/admitted", 4, "Expect: 100-continue"))
        assert file.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert file.readline() == b"\r\n"
        sock.sendall(b"body")
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"
        assert read_answer(file) == b"True"
        sock.sendall(head("/admitted", 4) + b"body")
        assert read_answer(file) == b"False"


def test_a_body_longer_than_its_accepted_limit_is_refused(connect: Connect) -> None:
    with connected(connect) as (sock, file):
        sock.sendall(b"POST /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sock.sendall(b"3e8\r\n" + bytes(1000) + b"\r\n1\r\nx\r\n")
        assert file.readline().split()[1] == b"413"


def test_a_body_that_cannot_be_stored_is_refused_and_affects_no_other_connection(tmp_path: Path) -> None:
    with serving(tmp_path, workers=1, file_bytes=300_000) as connect:
        here = ask_once(connect)
        for _ in range(3):
            with connected(connect) as (sock, file):
                sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
                with suppress(ConnectionError):  # it may be refused before all of it is sent
                    for _ in range(300):
                        sock.sendall(b"bb8\r\n" + bytes(3000) + b"\r\n")
                assert file.readline().split()[1] == b"507"
            assert ask_once(connect) == here
