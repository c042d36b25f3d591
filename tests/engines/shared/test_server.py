"""The engine process itself: what it holds and for how long, whom it lets in, and when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.engines.shared.networks import Networks, Wanted, state_of
from app.settings import ROOT
from tests.engines.shared.engine_process import LONG, EngineProcess
from tests.engines.test_openvino_engine import pictures
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every process computes for itself")
NOBODY = 65534


@pytest.fixture
def wanted(path: Path) -> Wanted:
    return Wanted(str(path), LONG, state_of(path))


def test_a_network_that_many_ask_for_at_once_is_loaded_once(wanted: Wanted) -> None:
    networks = Networks()
    with ExitStack() as stack, ThreadPoolExecutor(8) as threads:
        held = list(threads.map(lambda _: stack.enter_context(networks.hold(wanted)), range(8)))
    assert len(set(map(id, held))) == 1


def test_a_network_is_there_until_its_last_holder_lets_go(wanted: Wanted) -> None:
    networks = Networks()
    with networks.hold(wanted) as first:
        with networks.hold(wanted):
            pass
        assert first.predict(pictures(1)).shape == (1, 5)
    with pytest.raises(RuntimeError, match="closed"):
        first.predict(pictures(1))
    with networks.hold(wanted) as again:
        assert again.predict(pictures(1)).shape == (1, 5)


def test_what_could_not_be_loaded_is_tried_again(wanted: Wanted, path: Path) -> None:
    networks, aside = Networks(), path.with_suffix(".aside")
    path.rename(aside)
    with pytest.raises(OSError), networks.hold(wanted):
        pass
    aside.rename(path)
    with networks.hold(wanted) as network:
        assert network.row_shape == (3, 8, 8)


def test_who_is_another_user_is_not_let_in(running: EngineProcess) -> None:
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


def test_who_says_nonsense_is_hung_up_on_and_harms_nobody(running: EngineProcess, path: Path) -> None:
    engine = running.open(path)
    for nonsense in (b"\xff" * 64, b"\x01" + bytes(8) + b"\xff" * 8, b"\x01" + bytes(8) + b"\x02" + bytes(7) + b"no"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(running.address)
            connection.settimeout(20)
            connection.sendall(nonsense)
            assert hung_up(connection)
    assert engine.predict(pictures(1)).shape == (1, 5)


def hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:  # it has not read all that was sent
        return True


def test_it_ends_when_told_to_and_nobody_holds_anything_any_more(running: EngineProcess, path: Path) -> None:
    engine = running.open(path)
    process = running.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    with ThreadPoolExecutor(8) as threads:  # who holds something may need more connections
        assert len(list(threads.map(engine.predict, [pictures(200)] * 8))) == 8
    assert process.poll() is None
    engine.close()
    assert process.wait(timeout=60) == 0


def test_it_ends_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from tests.engines.shared.engine_process import EngineProcess
print(EngineProcess(Path(sys.argv[1])).start().pid, flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        process = int(starter.stdout.readline())
        starter.kill()
        wait_until(lambda: not Path(f"/proc/{process}/exe").exists())


def test_it_imports_little(running: EngineProcess) -> None:
    code = """
import sys
import app.engines.shared.server
from app.engines.openvino_runtime import core
core()
print(sorted({"flask", "werkzeug", "PIL", "cv2", "onnx", "mxnet", "keras", "gunicorn", "psutil"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
