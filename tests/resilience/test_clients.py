"""Clients that are slow, that disconnect, or that are too many, beside others that must not be affected."""

from __future__ import annotations

from bench.reliability.clients import CHUNKED, DEAF, SLOW_CLIENTS, SLOW_MODELS, TOO_MANY, VANISHING
from bench.reliability.fault import suffer
from bench.reliability.served import Served


def test_slow_clients_are_refused_and_do_not_delay_others(served: Served) -> None:
    row = suffer(SLOW_CLIENTS, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_unfinished_chunked_bodies_occupy_no_thread(served: Served) -> None:
    row = suffer(CHUNKED, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_clients_that_wait_for_slow_models_do_not_delay_others(served: Served) -> None:
    row = suffer(SLOW_MODELS, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_clients_that_disconnect_during_a_body_do_not_affect_others(served: Served) -> None:
    row = suffer(VANISHING, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)


def test_clients_that_do_not_read_the_response_are_disconnected(served: Served) -> None:
    row = suffer(DEAF, served)
    assert (row.samples, row.lost, row.refused) == ((), 0, 0)
    assert "Traceback" not in served.log_text()


def test_too_many_connections_end_no_worker_and_waiting_clients_are_answered(served: Served) -> None:
    row = suffer(TOO_MANY, served)
    assert (row.samples, row.lost, row.unreached) == ((), 0, 0)
