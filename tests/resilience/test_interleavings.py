"""Random changes and predictions of many clients at once, while processes are killed, against a model of a registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.reliability.histories import Call, Op, mistakes
from bench.reliability.interleavings import Interleaving, write_versions
from bench.reliability.models import COLOUR
from bench.reliability.served import Served, make, running
from tests.conftest import CACHE


@contextmanager
def serving(folder: Path, workers: int, versions: int) -> Iterator[tuple[Served, list[str]]]:
    """Run a server whose models folder has archives, some versions of each kind; yield their names, too."""
    served = make(folder, CACHE, (COLOUR,), workers=workers, job_queue_size=1000)
    names = write_versions(served.models, versions)
    with running(served):
        yield served, names


@pytest.mark.parametrize(
    ("seed", "kill", "workers", "versions", "calls"),
    [
        (2, True, 2, 2, 10),
        pytest.param(1, False, 4, 4, 25, marks=pytest.mark.slow),
        pytest.param(2, True, 4, 4, 25, marks=pytest.mark.slow),
    ],
)
def test_no_response_is_stale_and_nothing_is_lost_or_left_behind(
    tmp_path: Path, seed: int, kill: bool, workers: int, versions: int, calls: int
) -> None:
    with serving(tmp_path, workers, versions) as served:
        outcome = Interleaving(*served, seed=seed, calls=calls, kill=kill).run()
    assert outcome.mistakes == []
    assert outcome.counts["predict 200"] and outcome.counts["register 200"] and outcome.counts["unregister 200"]


def call(op: Op, begun: float, ended: float, status: int, version: str = "") -> Call:
    return Call(op, "a", begun, ended, status, version)


@pytest.mark.parametrize(
    ("last", "wrong"),
    [
        (call(Op.PREDICT, 7, 8, 200, "v2"), False),
        (call(Op.PREDICT, 7, 8, 200, "v1"), True),  # replaced before
        (call(Op.PREDICT, 5, 8, 200, "v1"), False),  # replaced meanwhile
        (call(Op.PREDICT, 7, 8, 200, "v3"), True),  # of no registration
        (call(Op.PREDICT, 7, 8, 404), True),  # it was never unregistered
        (call(Op.PREDICT, 10, 11, 404), False),
        (call(Op.PREDICT, 10, 11, 200, "v2"), True),  # unregistered before
        (call(Op.PREDICT, 8.5, 11, 404), False),
        (call(Op.PREDICT, 7, 8, 503), False),
        (call(Op.PREDICT, 7, 8, 500), True),
        (call(Op.PREDICT, 7, 99, 503), True),  # too long
    ],
)
def test_impossible_histories_are_detected(last: Call, wrong: bool) -> None:
    history = [
        call(Op.REGISTER, 1, 2, 200, "v1"),
        call(Op.REPLACE, 4, 6, 200, "v2"),
        call(Op.UNREGISTER, 8.2, 9, 200),
        last,
    ]
    assert bool(list(mistakes(history))) == wrong


def test_a_change_with_a_lost_response_may_or_may_not_have_happened() -> None:
    history = [
        call(Op.REGISTER, 1, 2, 200, "v1"),
        call(Op.UNREGISTER, 3, 4, 0),
        call(Op.PREDICT, 5, 6, 200, "v1"),
        call(Op.PREDICT, 7, 8, 404),
    ]
    assert list(mistakes(history)) == []
