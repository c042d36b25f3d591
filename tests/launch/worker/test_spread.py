"""How many connections each process has."""

from __future__ import annotations

import os

from app.launch.worker.spread import PLACES, Spread


def test_who_has_no_more_than_any_other_takes_the_next() -> None:
    spread = Spread()
    spread.tell(1, 3)
    spread.tell(2, 5)
    assert [spread.is_least(count) for count in (2, 3, 4)] == [True, True, False]


def test_of_many_a_few_more_do_not_matter() -> None:
    spread = Spread()
    spread.tell(1, 40)
    assert [spread.is_least(count) for count in (45, 46)] == [True, False]


def test_a_process_that_takes_none_is_not_waited_for() -> None:
    spread = Spread()
    spread.tell(1, 0)
    assert not spread.is_least(1)
    spread.forget(1)
    assert spread.is_least(1)


def test_processes_that_have_ended_are_forgotten() -> None:
    spread = Spread()
    for process in (7, PLACES + 8, 9):
        spread.tell(process, 0)
    spread.keep([PLACES + 8])
    assert not spread.is_least(1)
    spread.keep([7])  # began in the place of nobody
    assert spread.is_least(1)


def test_what_a_child_tells_its_siblings_see() -> None:
    spread = Spread()
    if not (child := os.fork()):
        spread.tell(1, 4)
        os._exit(0)
    os.waitpid(child, 0)
    assert spread.is_least(4)
    assert not spread.is_least(5)
