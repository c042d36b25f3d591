"""Clients that are slow, that vanish, or that are too many, beside others who must not notice."""

from __future__ import annotations

from bench.reliability.clients import CHUNKED, DEAF, SLOW_CLIENTS, SLOW_MODELS, TOO_MANY, VANISHING
from bench.reliability.fault import suffer
from bench.reliability.served import Served


def test_slow_clients_are_refused_and_nobody_waits_for_them(served: Served) -> None:
    row = suffer(SLOW_CLIENTS, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_bodies_in_chunks_that_do_not_end_take_no_thread(served: Served) -> None:
    row = suffer(CHUNKED, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_clients_that_wait_for_slow_models_keep_nobody_else_waiting(served: Served) -> None:
    row = suffer(SLOW_MODELS, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_clients_that_vanish_in_the_middle_of_a_body_harm_nobody(served: Served) -> None:
    row = suffer(VANISHING, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_clients_that_take_no_answer_are_cut_off(served: Served) -> None:
    row = suffer(DEAF, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)
    assert "Traceback" not in served.said()


def test_more_connections_than_files_end_no_worker_and_who_waits_is_answered(served: Served) -> None:
    row = suffer(TOO_MANY, served)
    assert (row.samples, row.lost, row.unreached) == ((), 0, 0)
