"""The supervision of the backend process by the master: its start, its restart and its end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.backend.protocol import Channel, Kind
from app.backend.supervisor import BackendProcess
from app.settings import ROOT
from tests.helpers import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each worker is its own backend")
SECONDS = 30


@pytest.fixture
def timeout() -> float:
    """Return the seconds without a heartbeat after which the backend process is killed."""
    return SECONDS


@pytest.fixture
def backend(tmp_path: Path, timeout: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[BackendProcess]:
    for name, folder in {"INSTANCE_DIR": "instance", "MODELS_DIR": "models"}.items():
        monkeypatch.setenv(f"DIMPLE_{name}", str(tmp_path / folder))
    monkeypatch.setenv("DIMPLE_SHIPPED_MODELS", "false")
    made = BackendProcess(logging.getLogger(__name__), timeout)
    yield made
    made.stop()


@contextmanager
def connected(address: bytes) -> Iterator[Channel]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(address)
        channel = Channel(connection)
        yield channel


def number(channel: Channel) -> int:
    """Return the number of the process that answers."""
    return channel.receive(Kind.HELLO)[3]


def wait_for_another(backend: BackendProcess, before: int) -> None:
    def another() -> bool:
        backend.check()
        return backend.pid != before

    wait_until(another)


def test_the_backend_answers_at_its_address(backend: BackendProcess) -> None:
    with connected(backend.address) as channel:
        assert number(channel) == backend.pid


def test_a_killed_backend_is_restarted_and_answers_waiting_connections(
    backend: BackendProcess, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        before = backend.pid
        os.kill(before, signal.SIGKILL)
        with connected(backend.address) as channel:
            wait_for_another(backend, before)
            assert number(channel) == backend.pid
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2 and all("SIGKILL" in warning for warning in warnings)


def test_a_backend_is_restarted_if_another_caller_has_reaped_it(backend: BackendProcess) -> None:
    """gunicorn's master reaps all children that have ended, including this one."""
    before = backend.pid
    os.kill(before, signal.SIGKILL)
    os.waitpid(before, 0)
    wait_for_another(backend, before)
    with connected(backend.address) as channel:
        assert number(channel) == backend.pid


def test_a_backend_that_ends_repeatedly_is_restarted_after_a_pause(backend: BackendProcess) -> None:
    first = backend.pid
    os.kill(first, signal.SIGKILL)
    wait_for_another(backend, first)
    second = backend.pid
    os.kill(second, signal.SIGKILL)
    os.waitid(os.P_PID, second, os.WEXITED | os.WNOWAIT)
    backend.check()
    assert backend.pid == second


def test_a_backend_that_is_told_to_end_is_not_restarted(backend: BackendProcess) -> None:
    with connected(backend.address) as channel:
        assert number(channel) == backend.pid
    address = backend.address
    backend.end()
    wait_until(backend.is_over)
    backend.check()
    with pytest.raises(OSError, match="refused"), connected(address):
        pass


def test_a_backend_that_does_not_end_is_killed(backend: BackendProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.backend.supervisor.END_SECONDS", 0.2)
    os.kill(backend.pid, signal.SIGSTOP)
    backend.stop()
    assert backend.is_over()


@pytest.mark.parametrize("timeout", [5.0])
def test_a_backend_that_hangs_is_killed_and_replaced(backend: BackendProcess) -> None:
    before = backend.pid
    os.kill(before, signal.SIGSTOP)
    with connected(backend.address) as channel:
        wait_for_another(backend, before)
        assert number(channel) == backend.pid


def test_an_idle_backend_keeps_sending_heartbeats(backend: BackendProcess) -> None:
    with connected(backend.address):
        pass
    until = time.monotonic()
    wait_until(lambda: backend.state.silence() < time.monotonic() - until)  # a heartbeat came after that


def test_the_first_process_stays_small() -> None:
    """Workers inherit its imports: numpy's threads would be as many in each as the machine has cores."""
    code = "import sys, runpy; runpy.run_path('gunicorn.conf.py'); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
