"""Processes that are killed, told to end, or replaced, under load."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bench.reliability.fault import suffer
from bench.reliability.processes import HANDLER, MASTER, MISSPELT, RELOAD, TERM, WORKER
from bench.reliability.served import Served, make
from tests.conftest import CACHE


def test_a_killed_worker_loses_only_the_requests_that_it_was_computing(served: Served) -> None:
    row = suffer(WORKER, served)
    assert row.samples == ()
    assert (row.lost, row.unreached) == (0, 0)
    assert row.cut <= 4  # as many clients as there are


def test_a_killed_handler_is_replaced_and_its_request_can_be_repeated(served: Served) -> None:
    row = suffer(HANDLER, served)
    assert (row.samples, row.lost) == ((), 0)


@pytest.mark.slow  # test_a_reload_replaces_the_engine_process_and_loses_no_request is the same under more load
def test_a_reload_fails_no_request_and_leaves_no_gap(served: Served) -> None:
    row = suffer(RELOAD, served)
    assert row.samples == ()
    assert (row.lost, row.refused, row.cut, row.unreached) == (0, 0, 0, 0)


def test_a_reload_with_invalid_settings_ends_no_serving_worker(served: Served) -> None:
    row = suffer(MISSPELT, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_a_terminating_server_answers_the_requests_that_it_received(served: Served) -> None:
    row = suffer(TERM, served)
    assert row.samples == ()
    assert (row.lost, row.refused, row.cut) == (0, 0, 0)


def test_a_killed_master_leaves_no_process_and_registrations_are_restored(served: Served) -> None:
    row = suffer(MASTER, served)
    assert (row.samples, row.lost) == ((), 0)


def test_a_server_that_is_terminated_during_startup_ends(place: Path) -> None:
    served = make(place, CACHE)
    served.launch()
    try:
        served.wait_for_line("Booting worker")
        os.kill(served.pid, signal.SIGTERM)
        assert served.process is not None
        assert served.process.wait(timeout=60) == 0  # gunicorn would kill them after 120 s
    finally:
        served.stop()
