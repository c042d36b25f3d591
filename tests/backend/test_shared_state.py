"""Counters in memory that several processes share."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.backend.shared_state import SharedState
from app.settings import ROOT

ENTER = """
import sys, time
from app.backend.shared_state import SharedState
state = SharedState(int(sys.argv[1]))
print(sum(state.enter(7, int(sys.argv[2])) for _ in range(int(sys.argv[3]))), flush=True)
sys.stdin.read()
"""
Process = subprocess.Popen[str]


@pytest.fixture
def state() -> SharedState:
    return SharedState()


def enter(state: SharedState, limit: int, tries: int) -> Process:
    """Let another process start the given number of requests, and keep them open."""
    return subprocess.Popen(
        [sys.executable, "-c", ENTER, str(state.fileno()), str(limit), str(tries)],
        cwd=ROOT,
        pass_fds=[state.fileno()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def entered(process: Process) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def end(process: Process) -> None:
    process.kill()
    process.communicate()


def test_four_processes_with_threads_admit_exactly_the_limit(state: SharedState) -> None:
    processes = [enter(state, 100, 75) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        own = sum(threads.map(lambda _: state.enter(7, 100), range(75)))
    assert own + sum(map(entered, processes)) == 100
    assert state.inside(7) == 100
    for _ in range(own):
        state.leave(7)
    assert state.inside(7) == 100 - own
    for process in processes:
        end(process)


def test_models_are_counted_separately(state: SharedState) -> None:
    assert state.enter(1, 1) and state.enter(2, 1)
    assert not state.enter(1, 1)
    state.leave(1)
    assert state.enter(1, 1)


def test_requests_of_a_killed_process_are_forgotten_when_its_slot_is_reused(state: SharedState) -> None:
    process = enter(state, 10, 10)
    assert entered(process) == 10
    end(process)
    successor = enter(state, 10, 20)
    assert entered(successor) == 10
    end(successor)


def test_the_version_and_the_heartbeat_are_visible_to_other_processes(state: SharedState) -> None:
    other = SharedState(os.dup(state.fileno()))
    assert other.version == 0
    state.next_version()
    assert other.version == 1
    state.beat()
    assert other.silence() < 60
    assert other.version == 1
    other.close()
