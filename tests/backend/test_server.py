"""The backend process: its networks and their lifetime, its access control, and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from app.backend.batching import never_disconnected
from app.backend.networks import Network, NetworkFile, Networks, file_state
from app.backend.protocol import HEAD, Kind
from app.settings import ROOT
from app.types import FloatArray
from tests.backend.process import LONG, Backend
from tests.engines.test_openvino import pictures
from tests.helpers import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each worker is its own backend")
NOBODY = 65534
SECONDS = 60.0
HELLO_BYTES = 72


@pytest.fixture
def file(path: Path) -> NetworkFile:
    return NetworkFile(str(path), LONG, file_state(path))


def compute(network: Network) -> FloatArray:
    return network.submit("net", 1, pictures(1), SECONDS, never_disconnected).result


def test_a_network_requested_by_many_threads_at_once_is_loaded_once(file: NetworkFile) -> None:
    networks = Networks()
    with ExitStack() as stack, ThreadPoolExecutor(8) as threads:
        held = list(threads.map(lambda _: stack.enter_context(networks.acquire(file)), range(8)))
    assert len(set(map(id, held))) == 1


def test_a_network_stays_loaded_until_its_last_user_releases_it(file: NetworkFile) -> None:
    networks = Networks()
    with networks.acquire(file) as first:
        with networks.acquire(file):
            pass
        assert compute(first).shape == (1, 5)
    with pytest.raises(RuntimeError, match="closed"):
        compute(first)
    with networks.acquire(file) as again:
        assert compute(again).shape == (1, 5)


def test_a_network_that_could_not_be_loaded_is_tried_again(file: NetworkFile, path: Path) -> None:
    networks, aside = Networks(), path.with_suffix(".aside")
    path.rename(aside)
    with pytest.raises(OSError), networks.acquire(file):
        pass
    aside.rename(path)
    with networks.acquire(file) as network:
        assert network.row_shape == (3, 8, 8)


def test_a_process_of_another_user_cannot_connect(running: Backend) -> None:
    if os.getuid():
        pytest.skip("only root can be somebody else")
    code = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
connection = socket.socket(socket.AF_UNIX)
connection.connect(bytes.fromhex(sys.argv[1]))
connection.settimeout(20)
print(connection.recv(1))
"""
    command = [sys.executable, "-c", code, running.address.hex(), str(NOBODY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "b''\n"


def test_a_connection_that_sends_invalid_messages_is_closed(running: Backend, path: Path) -> None:
    engine = running.open(path)
    head = HEAD.pack(Kind.CALL, 2, 2, 0, 0.0, 0.0)
    for nonsense in (b"\xff" * 64, head + b"no", HEAD.pack(Kind.ASK, 1, 0, 0, 0.0, 0.0)):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(running.address)
            connection.settimeout(20)
            connection.sendall(nonsense)
            connection.recv(HELLO_BYTES, socket.MSG_WAITALL)
            assert hung_up(connection)
    assert engine.predict(pictures(1)).shape == (1, 5)


def test_an_idle_connection_outlives_the_timeout_of_a_stalled_message(tmp_path: Path) -> None:
    hasty = Backend(tmp_path)
    hasty.start("import app.backend.protocol; app.backend.protocol.STALL_SECONDS = 1")
    with closing(hasty), socket.socket(socket.AF_UNIX) as idle, socket.socket(socket.AF_UNIX) as stalled:
        for connection in (idle, stalled):
            connection.connect(hasty.address)
            connection.settimeout(20)
            connection.recv(HELLO_BYTES, socket.MSG_WAITALL)
        stalled.sendall(HEAD.pack(Kind.CALL, 2, 2, 0, 0.0, 0.0)[:9])
        assert hung_up(stalled)
        idle.setblocking(False)
        with pytest.raises(BlockingIOError):
            idle.recv(1)


def hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:  # it has not read all that was sent
        return True


def test_it_ends_after_sigterm_when_its_last_network_is_released(single_use: Backend, path: Path) -> None:
    engine = single_use.open(path)
    process = single_use.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    with ThreadPoolExecutor(8) as threads:  # a client with an open network may need more connections
        assert len(list(threads.map(engine.predict, [pictures(200)] * 8))) == 8
    assert process.poll() is None
    engine.close()
    assert process.wait(timeout=60) == 0


def test_it_ends_when_its_parent_process_is_killed(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from tests.backend.process import Backend
print(Backend(Path(sys.argv[1])).start().pid, flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        process = int(starter.stdout.readline())
        starter.kill()
        wait_until(lambda: not Path(f"/proc/{process}/exe").exists())


def test_it_imports_no_heavy_module() -> None:
    code = """
import sys
import app.server.backend_process, app.backend.server
from app.utils.openvino_runtime import core
core()
print(sorted({"flask", "werkzeug", "PIL", "cv2", "onnx", "mxnet", "keras", "gunicorn"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
