"""Fair places: who waits longest is next."""

from __future__ import annotations

import threading
import time

from app.slots import Slots

SECONDS = 30.0


def test_no_more_at_once_than_there_are_places_and_the_first_is_next() -> None:
    slots, order, leave = Slots(1), [], threading.Semaphore(0)

    def work(number: int) -> None:
        with slots:
            order.append(number)
            assert leave.acquire(timeout=SECONDS)

    threads = []
    for number in range(4):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        end = time.monotonic() + SECONDS
        while len(order) + len(slots._waiting) < len(threads) and time.monotonic() < end:
            time.sleep(0.001)
    assert order == [0]

    for thread in threads:
        leave.release()
        thread.join(SECONDS)

    assert order == [0, 1, 2, 3]


def test_a_place_is_free_again_after_an_error() -> None:
    slots = Slots(1)
    for _ in range(2):
        try:
            with slots:
                raise ValueError
        except ValueError:
            pass
