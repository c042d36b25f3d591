"""The master's part: the engine process is there, is there again, and ends."""

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

from app.engines.shared.messages import Channel, Kind
from app.launch.engine_process import EngineProcess
from app.settings import ROOT
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every process computes for itself")
SECONDS = 30


@pytest.fixture
def timeout() -> float:
    """Seconds without a sign of life after which the engine process is killed."""
    return SECONDS


@pytest.fixture
def engine(tmp_path: Path, timeout: float) -> Iterator[EngineProcess]:
    made = EngineProcess(tmp_path / ".in-flight", logging.getLogger(__name__), timeout)
    yield made
    made.stop()


@contextmanager
def connected(address: bytes) -> Iterator[Channel]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(address)
        channel = Channel(connection)
        channel.send_json(Kind.OPEN, {"path": "/nothing.xml", "milliseconds": 10, "state": ""})
        yield channel


def number(channel: Channel) -> int:
    """Of the process that answers."""
    return int(channel.read_text(channel.receive(Kind.HERE)[2]))


def wait_for_another(engine: EngineProcess, before: int) -> None:
    def another() -> bool:
        engine.look()
        return engine.pid != before

    wait_until(another)


def test_it_answers_at_its_address(engine: EngineProcess) -> None:
    with connected(engine.address) as channel:
        assert number(channel) == engine.pid


def test_it_is_started_again_and_answers_who_asked_meanwhile(
    engine: EngineProcess, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        before = engine.pid
        os.kill(before, signal.SIGKILL)
        with connected(engine.address) as channel:
            wait_for_another(engine, before)
            assert number(channel) == engine.pid
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) == 2 and all("SIGKILL" in one for one in warnings)


def test_it_is_started_again_where_somebody_else_has_seen_it_end(engine: EngineProcess) -> None:
    """gunicorn's master asks the system for all children that have ended, whoever they are."""
    before = engine.pid
    os.kill(before, signal.SIGKILL)
    os.waitpid(before, 0)
    wait_for_another(engine, before)
    with connected(engine.address) as channel:
        assert number(channel) == engine.pid


def test_one_that_ends_again_and_again_is_started_after_a_pause(engine: EngineProcess) -> None:
    first = engine.pid
    os.kill(first, signal.SIGKILL)
    wait_for_another(engine, first)
    second = engine.pid
    os.kill(second, signal.SIGKILL)
    os.waitid(os.P_PID, second, os.WEXITED | os.WNOWAIT)
    engine.look()
    assert engine.pid == second


def test_one_that_was_told_to_end_goes_and_nobody_waits_for_it(engine: EngineProcess) -> None:
    with connected(engine.address) as channel:
        assert number(channel) == engine.pid
    address = engine.address
    engine.end()
    wait_until(engine.is_over)
    engine.look()
    with pytest.raises(OSError, match="refused"), connected(address):
        pass


def test_one_that_does_not_end_is_killed(engine: EngineProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.launch.engine_process.END_SECONDS", 0.2)
    os.kill(engine.pid, signal.SIGSTOP)
    engine.stop()
    assert engine.is_over()


@pytest.mark.parametrize("timeout", [5.0])
def test_one_that_hangs_is_killed_and_another_answers(engine: EngineProcess) -> None:
    before = engine.pid
    os.kill(before, signal.SIGSTOP)
    with connected(engine.address) as channel:
        wait_for_another(engine, before)
        assert number(channel) == engine.pid


def test_one_that_nobody_asks_gives_signs_of_life(engine: EngineProcess) -> None:
    with connected(engine.address):
        pass
    until = time.monotonic()
    wait_until(lambda: engine._pulse.silence() < time.monotonic() - until)  # one came after that


def test_the_first_process_stays_small() -> None:
    """What it imports, workers inherit: numpy's threads would be as many in each as the machine has cores."""
    code = "import sys, runpy; runpy.run_path('gunicorn.conf.py'); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
