"""A locked or damaged registry, and repeated registrations."""

from __future__ import annotations

from bench.reliability.fault import suffer
from bench.reliability.registrations import GARBAGE, LOCKED, OVERWRITTEN, come_and_go
from bench.reliability.served import Served


def test_a_locked_registry_refuses_changes_and_nothing_else(served: Served) -> None:
    row = suffer(LOCKED, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_a_corrupted_registry_is_replaced_by_its_last_good_state(served: Served) -> None:
    row = suffer(OVERWRITTEN, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_repeated_registrations_leave_nothing_behind(served: Served) -> None:
    row = suffer(come_and_go(12, names=4), served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_a_server_starts_with_the_last_good_state_if_the_registry_is_damaged(served: Served) -> None:
    row = suffer(GARBAGE, served)
    assert (row.samples, row.lost) == ((), 0)
    assert "is damaged" in served.log_text()
    assert "kept as" in served.log_text()
