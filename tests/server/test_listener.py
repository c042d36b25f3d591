"""The number of connections of each process."""

from __future__ import annotations

import os

import pytest

from app.server.listener import PLACES, ConnectionCounts


def test_the_process_with_the_fewest_connections_accepts_the_next() -> None:
    counts = ConnectionCounts()
    counts.set(1, 3)
    counts.set(2, 5)
    assert [counts.should_accept(count, waiting=0) for count in (2, 3, 4)] == [True, True, False]


def test_small_differences_between_many_connections_are_ignored() -> None:
    counts = ConnectionCounts()
    counts.set(1, 40)
    assert [counts.should_accept(count, waiting=0) for count in (45, 46)] == [True, False]


@pytest.mark.parametrize(("processes", "crowd", "share"), [(2, 100, 50), (3, 100, 34), (4, 8, 2)])
def test_each_process_accepts_its_share_of_many_waiting_connections(processes: int, crowd: int, share: int) -> None:
    counts = ConnectionCounts()
    for process in range(processes):
        counts.set(process, 0)
    taken = 0
    while taken < crowd and counts.should_accept(taken, crowd - taken):
        taken += 1
        counts.set(0, taken)
    assert taken == share


def test_a_process_that_accepts_no_connections_is_ignored() -> None:
    counts = ConnectionCounts()
    counts.set(1, 0)
    assert not counts.should_accept(1, waiting=1)
    counts.remove(1)
    assert counts.should_accept(1, waiting=1)


def test_processes_that_have_ended_are_ignored() -> None:
    counts = ConnectionCounts()
    for process in (7, PLACES + 8, 9):
        counts.set(process, 0)
    counts.retain([PLACES + 8])
    assert not counts.should_accept(1, waiting=1)
    counts.retain([7])  # started without a predecessor
    assert counts.should_accept(1, waiting=1)


def test_the_count_of_a_child_is_visible_to_its_siblings() -> None:
    counts = ConnectionCounts()
    if not (child := os.fork()):
        counts.set(1, 4)
        os._exit(0)
    os.waitpid(child, 0)
    assert counts.should_accept(4, waiting=0)
    assert not counts.should_accept(5, waiting=0)
