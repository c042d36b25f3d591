"""The queue before a model, with events instead of times; expected results are worked out by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from app.backend.batching import BatchQueue, QueueConfig
from app.errors import ClientClosedRequest, ModelNotFound, QueueTimeout
from tests.helpers import wait_until

SECONDS = 60.0
"""What no test takes unless something hangs."""


class Engine:
    """An engine that doubles numbers, a batch at a time, once it is released."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.release()
        assert self.let.acquire(timeout=SECONDS)
        return [2 * item for item in items]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def ask() -> object:
    with ThreadPoolExecutor(64) as pool:
        yield lambda queue, *what: pool.submit(lambda: queue.submit(*what).result)


Ask = Callable[..., "Future[int]"]


def test_a_lone_request_is_computed_by_its_own_thread() -> None:
    queue: BatchQueue[int, int] = BatchQueue(
        "doubler", lambda items: [threading.get_ident() for _ in items], QueueConfig()
    )

    assert queue.submit(1).result == threading.get_ident()


def test_no_more_batches_at_once_than_there_are_slots(engine: Engine, ask: Ask) -> None:
    queue = BatchQueue("doubler", engine, QueueConfig(concurrency=2))
    answers = [ask(queue, number) for number in range(5)]
    for _ in range(2):
        assert engine.begun.acquire(timeout=SECONDS)
    wait_until(lambda: queue.waiting == 3)

    assert len(engine.batches) == 2
    engine.let.release(5)
    assert [answer.result(SECONDS) for answer in answers] == [0, 2, 4, 6, 8]
    assert sorted(engine.batches) == [[0], [1], [2], [3], [4]]


def test_waiting_requests_are_served_in_order(engine: Engine, ask: Ask) -> None:
    queue = BatchQueue("doubler", engine, QueueConfig())
    answers = []
    for number in range(4):
        answers.append(ask(queue, number))
        wait_until(lambda: len(engine.batches) + queue.waiting == len(answers))
    engine.let.release(4)

    assert [answer.result(SECONDS) for answer in answers] == [0, 2, 4, 6]
    assert engine.batches == [[0], [1], [2], [3]]


def test_waiting_requests_are_computed_in_batches(engine: Engine, ask: Ask) -> None:
    queue = BatchQueue("doubler", engine, QueueConfig(batch_size=3))
    first = ask(queue, 0)
    assert engine.begun.acquire(timeout=SECONDS)
    others = []
    for number in range(1, 6):
        others.append(ask(queue, number))
        wait_until(lambda: queue.waiting == len(others))
    engine.let.release(3)

    assert [answer.result(SECONDS) for answer in [first, *others]] == [0, 2, 4, 6, 8, 10]
    assert engine.batches == [[0], [1, 2, 3], [4, 5]]


def test_a_full_batch_does_not_wait_for_the_delay(engine: Engine, ask: Ask) -> None:
    queue = BatchQueue("doubler", engine, QueueConfig(batch_size=2, max_delay=10 * SECONDS))
    engine.let.release()

    answers = [ask(queue, number) for number in (1, 2)]

    assert [answer.result(SECONDS) for answer in answers] == [2, 4]
    assert [sorted(batch) for batch in engine.batches] == [[1, 2]]


def test_a_batch_that_does_not_fill_is_computed_after_the_delay(engine: Engine) -> None:
    queue = BatchQueue("doubler", engine, QueueConfig(batch_size=2, max_delay=0.05))
    engine.let.release()

    answer = queue.submit(1)

    assert answer.result == 2 and answer.waited >= 0.05
    assert engine.batches == [[1]]


def test_an_error_in_a_batch_reaches_only_the_requests_of_the_batch(ask: Ask) -> None:
    def compute(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise ValueError("unlucky")
        return [item + 1 for item in items]

    queue = BatchQueue("doubler", compute, QueueConfig(batch_size=2, max_delay=SECONDS))
    answers = [ask(queue, number) for number in (13, 1)]
    for answer in answers:
        with pytest.raises(ValueError, match="unlucky"):
            answer.result(SECONDS)

    assert [ask(queue, 1), ask(queue, 2)][0].result(SECONDS) == 2


def test_too_few_results_raise_an_error_instead_of_a_hang() -> None:
    queue: BatchQueue[int, int] = BatchQueue("doubler", lambda items: [], QueueConfig())

    with pytest.raises(ValueError):
        queue.submit(1)


def test_a_request_that_waits_too_long_times_out_and_the_others_are_served(engine: Engine, ask: Ask) -> None:
    queue = BatchQueue("doubler", engine, QueueConfig(timeout=0.02))
    first = ask(queue, 1)
    assert engine.begun.acquire(timeout=SECONDS)

    with pytest.raises(QueueTimeout):
        ask(queue, 2).result(SECONDS)

    engine.let.release(2)
    assert (first.result(SECONDS), ask(queue, 3).result(SECONDS)) == (2, 6)
    assert engine.batches == [[1], [3]]


def test_requests_of_disconnected_clients_are_not_computed(engine: Engine, ask: Ask) -> None:
    queue = BatchQueue("doubler", engine, QueueConfig(batch_size=2))
    gone = threading.Event()
    first = ask(queue, 1)
    assert engine.begun.acquire(timeout=SECONDS)
    left = ask(queue, 2, gone.is_set)
    wait_until(lambda: queue.waiting == 1)
    last = ask(queue, 3)
    wait_until(lambda: queue.waiting == 2)
    gone.set()
    engine.let.release(2)

    with pytest.raises(ClientClosedRequest):
        left.result(SECONDS)
    assert (first.result(SECONDS), last.result(SECONDS)) == (2, 6)
    assert engine.batches == [[1], [3]]


def test_closing_refuses_waiting_requests_and_finishes_running_ones(engine: Engine, ask: Ask) -> None:
    queue = BatchQueue("doubler", engine, QueueConfig())
    first = ask(queue, 1)
    assert engine.begun.acquire(timeout=SECONDS)
    others = [ask(queue, number) for number in (2, 3)]
    wait_until(lambda: queue.waiting == 2)

    queue.refuse(ModelNotFound("doubler", []))

    for other in others:
        with pytest.raises(ModelNotFound):
            other.result(SECONDS)
    with pytest.raises(ModelNotFound):
        queue.submit(4)
    assert not queue.wait_until_idle(0.01)
    engine.let.release(2)
    assert first.result(SECONDS) == 2
    assert queue.wait_until_idle(SECONDS)
    queue.open()
    assert queue.submit(5).result == 10


def test_new_slots_are_used_at_once(engine: Engine, ask: Ask) -> None:
    queue = BatchQueue("doubler", engine, QueueConfig(concurrency=1))
    answers = [ask(queue, number) for number in range(3)]
    assert engine.begun.acquire(timeout=SECONDS)
    wait_until(lambda: queue.waiting == 2)

    queue.resize(3)

    for _ in range(2):
        assert engine.begun.acquire(timeout=SECONDS)
    engine.let.release(3)
    assert [answer.result(SECONDS) for answer in answers] == [0, 2, 4]


def test_many_concurrent_requests_each_get_their_own_result() -> None:
    largest = 0

    def compute(items: Sequence[int]) -> list[int]:
        nonlocal largest
        largest = max(largest, len(items))
        return [item * item for item in items]

    queue = BatchQueue("doubler", compute, QueueConfig(concurrency=2, batch_size=5, max_delay=0.001))
    with ThreadPoolExecutor(32) as pool:
        squares = [turn.result for turn in pool.map(queue.submit, range(2000))]

    assert squares == [number * number for number in range(2000)]
    assert 1 < largest <= 5
