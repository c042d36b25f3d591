"""The number of working threads."""

from __future__ import annotations

import threading
import time

import pytest

from app.server import thread_pool
from app.server.thread_pool import ThreadPool
from tests.helpers import wait_until

SECONDS = 60


def test_the_pool_starts_only_needed_threads_up_to_its_limit() -> None:
    pool = ThreadPool(3)
    together, threads = threading.Barrier(4), set()

    def meet() -> None:
        threads.add(threading.current_thread())
        together.wait(SECONDS)

    for _ in range(2):
        for _ in range(3):
            pool.submit(meet)
        together.wait(SECONDS)  # all three work at the same time
    assert len(threads) == 3
    pool.shutdown()
    for thread in threads:
        thread.join(SECONDS)


def test_work_submitted_by_busy_threads_never_waits_for_them() -> None:
    pool = ThreadPool(8)
    done, stop = threading.Semaphore(0), threading.Event()
    for _ in range(50):  # threads that end, and take the next piece at once
        pool.submit(done.release)
    for _ in range(50):
        assert done.acquire(timeout=SECONDS)
    for _ in range(7):
        pool.submit(lambda: stop.wait(SECONDS) and done.release())
    pool.submit(done.release)
    assert done.acquire(timeout=SECONDS)
    stop.set()
    for _ in range(7):
        assert done.acquire(timeout=SECONDS)
    pool.shutdown()


def test_idle_threads_end_and_no_work_is_lost_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "IDLE_SECONDS", 0.001)
    pool, done, threads = ThreadPool(4), threading.Semaphore(0), set()

    def work() -> None:
        threads.add(threading.current_thread())
        done.release()

    until, submitted = time.monotonic() + 1, 0
    while time.monotonic() < until:  # most pieces arrive at the moment at which a thread ends
        pool.submit(work)
        submitted += 1
        threading.Event().wait(0.001)
    for _ in range(submitted):
        assert done.acquire(timeout=SECONDS)
    assert len(threads) > 1
    wait_until(lambda: not any(thread.is_alive() for thread in threads))
