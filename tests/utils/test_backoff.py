from __future__ import annotations

from app.utils.process import Backoff


def test_delays_equal_those_of_multi_model_server() -> None:
    backoff = Backoff()
    assert [backoff.next_delay() for _ in range(18)] == [
        *(1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 1597)
    ]  # BACK_OFF in MMS's WorkerThread.java
    backoff.reset()
    assert [backoff.next_delay() for _ in range(3)] == [1, 1, 2]


def test_delays_never_exceed_the_maximum() -> None:
    backoff = Backoff(longest=4)
    assert [backoff.next_delay() for _ in range(6)] == [1, 1, 2, 3, 4, 4]


def test_a_process_that_ends_at_once_is_restarted_at_growing_intervals() -> None:
    now = [100.0]
    backoff = Backoff(longest=10, clock=lambda: now[0])
    starts = []
    for tick in range(12):
        now[0] = 100.0 + tick
        if backoff.remaining() == 0:
            backoff.attempt()
            starts.append(tick)
    assert starts == [0, 1, 2, 4, 7]
    assert backoff.remaining() == 1  # the next one is due after 5


def test_a_process_that_ran_for_long_is_restarted_at_once() -> None:
    now = [100.0]
    backoff = Backoff(longest=10, clock=lambda: now[0])
    for _ in range(6):
        backoff.attempt()
        now[0] += backoff.remaining()
    now[0] += 10.5
    assert backoff.remaining() == 0
    backoff.attempt()
    assert backoff.remaining() == 1
