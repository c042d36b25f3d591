"""Who answers in a server process, and that nobody waits for a request of somebody else's that takes long."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from app.launch.worker.leading import is_asleep
from app.settings import ROOT
from bench.ports import free_ports
from tests.waiting import wait_until

SECONDS = 60
Connect = Callable[[], http.client.HTTPConnection]


@contextmanager
def serving(place: Path, workers: int) -> Iterator[Connect]:
    """A gunicorn of its own, with the worker and nothing else of ours."""
    (port,) = free_ports(1)
    (place / "config.py").write_text("control_socket_disable = True\nkeepalive = 60\n")
    command = [sys.executable, "-m", "gunicorn", "-c", str(place / "config.py"), "-b", f"127.0.0.1:{port}"]
    command += ["-w", str(workers), "-k", "app.launch.worker.gunicorn_worker.Worker", "--threads", "4"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DIMPLE_")}
    with (place / "log.txt").open("w") as log, subprocess.Popen(
        [*command, "tests.launch.worker.waiting_app:app"], cwd=ROOT, env=environ, stdout=log, stderr=log
    ) as process:  # fmt: skip

        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

        try:
            wait_until_begun(connect, process)
            yield connect
        finally:
            process.terminate()


def wait_until_begun(connect: Connect, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            with closing(connect()) as connection:
                ask(connection, "/process")
            return
        except OSError:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
    raise TimeoutError


def ask(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    return connection.getresponse().read().decode()


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connect]:
    with serving(tmp_path_factory.mktemp("one"), workers=1) as one:
        yield one


@pytest.mark.parametrize("kind", ["waits", "says-so", "computes"])
def test_nobody_waits_for_the_long_request_of_another(connect: Connect, kind: str, tmp_path: Path) -> None:
    until = tmp_path / "until"
    if kind != "computes":
        os.mkfifo(until)
    with closing(connect()) as slow, closing(connect()) as quick:
        slow.request("GET", f"/{kind}?{until}")
        here = {ask(quick, "/process") for _ in range(20)}  # each would wait for ever, were there but one thread
        until.open("w").close()
        assert {slow.getresponse().read().decode()} == here
        assert ask(slow, "/process") in here  # its connection goes on


def test_short_requests_are_answered_by_one_thread(connect: Connect) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(connect())) for _ in range(8)]
        threads = Counter(ask(one, "/thread") for _ in range(25) for one in connections)
    assert threads.most_common(1)[0][1] > 150  # of 200; where the machine is busy the lead may go round meanwhile


def test_many_long_requests_at_once_are_all_answered(connect: Connect, tmp_path: Path) -> None:
    until = tmp_path / "until"
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connect())) for _ in range(10)]  # there are four threads
        for one in slow:
            one.request("GET", f"/computes?{until}")
        until.touch()
        assert len({one.getresponse().read() for one in slow}) == 1


def test_who_comes_new_is_not_passed_by_those_who_ask_again(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "now").touch()
    order: list[str] = []

    def ask_again(name: str, times: int) -> None:
        with closing(connect()) as connection:
            for _ in range(times):
                ask(connection, f"/says-so?{tmp_path / 'now'}")  # each lets another thread lead
                order.append(name)

    with ThreadPoolExecutor(60) as threads:
        regulars = [threads.submit(ask_again, "regular", 200) for _ in range(30)]
        wait_until(lambda: len(order) > 100)
        newcomers = [threads.submit(ask_again, "newcomer", 1) for _ in range(30)]
        for one in (*regulars, *newcomers):
            one.result(SECONDS)
    last = max(number for number, name in enumerate(order) if name == "newcomer")
    assert last < 1000  # of 6,030; each needs a turn, and whoever is there has one before its second


def test_requests_that_come_together_are_answered_in_their_order(connect: Connect) -> None:
    with closing(connect()) as connection:
        connection.connect()
        connection.sock.sendall(b"GET /process HTTP/1.1\r\nHost: x\r\n\r\nGET /thread HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        with connection.sock.makefile("rb") as file:
            said = [read_answer(file) for _ in range(40)]
    assert len(set(said[::2])) == 1
    assert len(set(said[1::2])) <= 4


def read_answer(file: BinaryIO) -> bytes:
    length = 0
    while (line := file.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return file.read(length)


def ask_once(connect: Connect) -> str:
    with closing(connect()) as connection:
        return ask(connection, "/process")


def test_a_request_that_exits_ends_no_other_connection(connect: Connect) -> None:
    with closing(connect()) as bad, closing(connect()) as good:
        here = ask(good, "/process")
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            ask(bad, "/exit")
        assert ask(good, "/process") == here


@pytest.mark.parametrize("at_once", [False, True])
def test_connections_are_spread_evenly_over_the_processes(tmp_path: Path, at_once: bool) -> None:
    with serving(tmp_path, workers=2) as connect, ExitStack() as stack:
        served: Counter[str] = Counter()
        while len(served) < 2:  # until both have begun
            served[ask_once(connect)] += 1
        kept = [stack.enter_context(closing(connect())) for _ in range(60)]
        for one in kept if at_once else ():
            one.connect()
        counts = Counter(ask(one, "/process") for one in kept)
    assert max(counts.values()) - min(counts.values()) <= 4  # by chance it would be more in two of three runs


def test_a_thread_that_waits_is_asleep_and_one_that_computes_is_not() -> None:
    numbers: dict[str, int] = {}
    told, stop = threading.Barrier(3), threading.Event()

    def wait() -> None:
        numbers["waits"] = threading.get_native_id()
        told.wait()
        stop.wait()

    def compute() -> None:
        numbers["computes"] = threading.get_native_id()
        told.wait()
        while not stop.is_set():
            pass

    threads = [threading.Thread(target=one) for one in (wait, compute)]
    for one in threads:
        one.start()
    told.wait()
    try:
        while not is_asleep(numbers["waits"]):
            pass
        # it waits for the interpreter's lock now and then, which is asleep, too
        assert any(not is_asleep(numbers["computes"]) for _ in range(10_000))
    finally:
        stop.set()
        for one in threads:
            one.join()
