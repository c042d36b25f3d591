"""How many connections each process has."""

from __future__ import annotations

import os

import pytest

from app.launch.worker.spread import PLACES, Spread


def test_who_has_no_more_than_any_other_takes_the_next() -> None:
    spread = Spread()
    spread.tell(1, 3)
    spread.tell(2, 5)
    assert [spread.may_take(count, waiting=0) for count in (2, 3, 4)] == [True, True, False]


def test_of_many_a_few_more_do_not_matter() -> None:
    spread = Spread()
    spread.tell(1, 40)
    assert [spread.may_take(count, waiting=0) for count in (45, 46)] == [True, False]


@pytest.mark.parametrize(("processes", "crowd", "share"), [(2, 100, 50), (3, 100, 34), (4, 8, 2)])
def test_of_a_crowd_at_the_port_each_process_takes_its_share(processes: int, crowd: int, share: int) -> None:
    spread = Spread()
    for process in range(processes):
        spread.tell(process, 0)
    taken = 0
    while taken < crowd and spread.may_take(taken, crowd - taken):
        taken += 1
        spread.tell(0, taken)
    assert taken == share


def test_a_process_that_takes_none_is_not_waited_for() -> None:
    spread = Spread()
    spread.tell(1, 0)
    assert not spread.may_take(1, waiting=1)
    spread.forget(1)
    assert spread.may_take(1, waiting=1)


def test_processes_that_have_ended_are_forgotten() -> None:
    spread = Spread()
    for process in (7, PLACES + 8, 9):
        spread.tell(process, 0)
    spread.keep([PLACES + 8])
    assert not spread.may_take(1, waiting=1)
    spread.keep([7])  # began in the place of nobody
    assert spread.may_take(1, waiting=1)


def test_what_a_child_tells_its_siblings_see() -> None:
    spread = Spread()
    if not (child := os.fork()):
        spread.tell(1, 4)
        os._exit(0)
    os.waitpid(child, 0)
    assert spread.may_take(4, waiting=0)
    assert not spread.may_take(5, waiting=0)
