"""A network in a process of its own, used as if it were in this process."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from app.backend import connections
from app.backend.client import RemoteEngine
from app.backend.connections import Connection, ConnectionPool
from app.backend.protocol import Channel, Kind
from app.engines.openvino import OpenvinoEngine
from app.errors import EngineUnavailable, ModelFormatError
from app.utils.openvino_runtime import import_openvino
from tests.backend.process import LONG, Backend, write_network
from tests.engines.test_openvino import forward, pictures, sets_ones_at_the_places_of_its_input
from tests.helpers import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each worker is its own backend")


@pytest.mark.parametrize("count", [1, 2, 33])
def test_every_batch_matches_the_formula(running: Backend, path: Path, count: int) -> None:
    found = running.open(path).predict(pictures(count))
    assert found.dtype == np.float32 and found.shape == (count, 5)
    assert found == pytest.approx(forward(pictures(count)), abs=1e-5)


def test_its_outputs_equal_those_of_an_engine_in_this_process(running: Backend, path: Path) -> None:
    own = OpenvinoEngine.load(path, LONG)
    assert running.open(path).predict(pictures(9)) == pytest.approx(own.predict(pictures(9)), abs=1e-6)


def test_many_threads_get_the_same_results_as_one(running: Backend, path: Path) -> None:
    engine = running.open(path)
    batches = [pictures(1 + number % 4, seed=number) for number in range(120)]
    alone = [engine.predict(batch) for batch in batches]
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(engine.predict, batches))
    for item, other in zip(alone, together, strict=True):
        assert item == pytest.approx(other, abs=1e-6)


def test_a_batch_that_is_not_contiguous_or_not_float32_is_accepted(running: Backend, path: Path) -> None:
    batch = pictures(2).transpose(0, 2, 3, 1).copy().astype(np.float64).transpose(0, 3, 1, 2)
    assert running.open(path).predict(batch) == pytest.approx(forward(batch), abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (3, 8, 8), (0, 3, 8, 8)])
def test_a_batch_of_another_shape_is_refused(running: Backend, path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        running.open(path).predict(np.zeros(shape, np.float32))


def test_a_closed_engine_does_not_predict(running: Backend, path: Path) -> None:
    engine = running.open(path)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.predict(pictures(1))


def test_a_batch_that_openvino_cannot_compute_fails_and_the_next_succeeds(running: Backend, tmp_path: Path) -> None:
    import_openvino().save_model(sets_ones_at_the_places_of_its_input(), tmp_path / "places.xml")
    engine = running.open(tmp_path / "places.xml")
    with pytest.raises(ModelFormatError, match="OpenVINO cannot compute this network"):
        engine.predict(np.full((1, 2), 7, np.float32))
    assert engine.predict(np.array([[0, 2]], np.float32)).tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize("damage", ["missing", "no model"])
def test_a_model_that_cannot_be_loaded_is_refused_as_in_this_process(running: Backend, path: Path, damage: str) -> None:
    if damage == "missing":
        path.unlink()
    else:
        path.write_text("no model")
    with pytest.raises(RuntimeError):
        OpenvinoEngine.load(path, LONG)
    with pytest.raises(RuntimeError):
        running.open(path)


def test_calls_are_answered_although_the_process_is_killed_meanwhile(single_use: Backend, path: Path) -> None:
    engine = single_use.open(path)
    stop, counts, wrong = threading.Event(), [0] * 6, []

    def ask(number: int) -> None:
        batch = pictures(1, seed=number)
        right = engine.predict(batch)
        while not stop.is_set():
            if not np.allclose(engine.predict(batch), right, rtol=0, atol=1e-6):
                wrong.append(number)
            counts[number] += 1

    with ThreadPoolExecutor(len(counts)) as threads:
        asking = [threads.submit(ask, number) for number in range(len(counts))]
        try:
            for _ in range(3):
                single_use.kill()
                before = list(counts)
                single_use.start()
                wait_until(lambda before=before: all(now > then + 5 for now, then in zip(counts, before, strict=True)))
        finally:
            stop.set()
        for item in asking:
            item.result()
    assert wrong == []


def test_a_request_is_refused_if_no_process_answers(single_use: Backend, path: Path) -> None:
    engine = single_use.open(path)
    assert engine.predict(pictures(1)).shape == (1, 5)
    single_use.give_up()
    with pytest.raises(EngineUnavailable, match="no process answers"):
        engine.predict(pictures(1))


def test_a_request_that_ended_the_process_twice_is_not_sent_a_third_time(path: Path) -> None:
    """Its input may be the cause; in this process it would end everything."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        listener.listen()
        request_counts: list[int] = []
        thread = threading.Thread(target=hang_up_on_requests, args=(listener, request_counts), daemon=True)
        thread.start()
        engine = RemoteEngine(listener.getsockname(), path, LONG)
        with pytest.raises(EngineUnavailable, match="2 times"):
            engine.predict(pictures(1))
        assert request_counts == [1, 2]
        engine.close()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def hang_up_on_requests(listener: socket.socket, request_counts: list[int]) -> None:
    """Answer as engine processes with the numbers 1, 2, … that end at every request."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        channel = Channel(connection)
        channel.send(Kind.HELLO, generation=len(request_counts) + 1)
        _, text, length, *_ = channel.receive(Kind.CALL)
        channel.read(text, length)
        channel.send(Kind.DONE, [3, 8, 8])
        channel.receive_buffer(channel.receive(Kind.BUFFER)[1])
        channel.receive(Kind.ASK)
        request_counts.append(len(request_counts) + 1)
        channel.close()


def test_a_restarted_process_refuses_a_file_that_was_replaced(single_use: Backend, path: Path) -> None:
    engine = single_use.open(path)
    before = engine.predict(pictures(1))
    other = write_network(path.parent, "other")
    other.replace(path)
    assert np.array_equal(engine.predict(pictures(1)), before)
    single_use.kill()
    single_use.start()
    with pytest.raises(EngineUnavailable, match="not what it was"):
        engine.predict(pictures(1))


def test_one_idle_connection_stays_open_after_a_burst_of_requests(single_use: Backend, path: Path) -> None:
    engine, batch = single_use.open(path), pictures(500)
    assert single_use.process is not None
    process = psutil.Process(single_use.process.pid)

    def resources() -> tuple[int, int]:
        return len(process.net_connections("unix")), process.num_fds()

    engine.predict(batch)
    before, stop = resources(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            engine.predict(batch)

    with ThreadPoolExecutor(24) as threads:
        asking = [threads.submit(ask) for _ in range(24)]
        try:
            wait_until(lambda: resources()[0] > before[0] + 8)
        finally:
            stop.set()
        for item in asking:
            item.result()
    wait_until(lambda: resources() == before)
    engine.predict(batch)
    assert resources() == before


def test_connections_in_use_are_not_opened_again(running: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.1)
    opened: list[Connection] = []
    pool = ConnectionPool(running.address, opened.append)
    until, stop = time.monotonic() + 1, threading.Event()
    together = threading.Barrier(8, lambda: time.monotonic() > until and stop.set())

    def ask(_: int) -> None:
        while not stop.is_set():
            pool.run(lambda connection: connection.call("status", {"generation": 0}) and together.wait())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))
    assert len(opened) == 8
    pool.close()


def test_only_slow_networks_are_computed_in_the_backend_process(running: Backend, path: Path) -> None:
    client = running.client()
    remote = client.load_network(path, 4.0)
    assert isinstance(remote, RemoteEngine)
    remote.close()
    assert isinstance(client.load_network(path, 3.9), OpenvinoEngine)


def test_signals_of_a_terminal_do_not_end_it(running: Backend, path: Path) -> None:
    engine = running.open(path)
    assert running.process is not None
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        running.process.send_signal(number)
    assert engine.predict(pictures(1)) == pytest.approx(forward(pictures(1)), abs=1e-5)
    assert running.process.poll() is None
