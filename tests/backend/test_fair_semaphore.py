"""The semaphore that admits the longest-waiting thread first."""

from __future__ import annotations

import threading

import pytest

from app.backend.batching import FairSemaphore
from app.utils.dispatch import WouldBlock, not_blocking
from tests.helpers import wait_until

SECONDS = 60.0


def test_the_semaphore_limits_concurrency_and_is_first_come_first_served() -> None:
    slots, order, leave = FairSemaphore(1), [], threading.Semaphore(0)

    def work(number: int) -> None:
        with slots:
            order.append(number)
            assert leave.acquire(timeout=SECONDS)

    threads = []
    for number in range(4):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        wait_until(lambda: len(order) + slots.waiting == len(threads), 0.001)
    assert order == [0]

    for thread in threads:
        leave.release()
        thread.join(SECONDS)

    assert order == [0, 1, 2, 3]


def test_a_place_is_free_again_after_an_error() -> None:
    slots = FairSemaphore(1)
    for _ in range(2):
        try:
            with slots:
                raise ValueError
        except ValueError:
            pass


def test_the_thread_that_reads_all_connections_never_waits_for_a_place() -> None:
    slots = FairSemaphore(1)
    with slots, pytest.raises(WouldBlock), not_blocking(), slots:
        pass
    with slots:  # no thread waits for it
        pass
