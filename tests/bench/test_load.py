"""The parser of the report of ``ab``. The report has the layout of ``ab`` 2.3 with figures of our own."""

from __future__ import annotations

from bench.parity.load import Load, parse
from bench.parity_load import mistakes

REPORT = """\
Server Software:
Concurrency Level:      100
Complete requests:      10000
Failed requests:        3
   (Connect: 1, Receive: 0, Length: 2, Exceptions: 0)
Non-2xx responses:      250
Keep-Alive requests:    9750
Requests per second:    512.34 [#/sec] (mean)
Percentage of the requests served within a certain time (ms)
  50%    180
  99%    640
 100%    700 (longest request)
"""
GOOD = Load(complete=100, failed=0, refused=0, kept_alive=100, per_second=1.0, p50=1, p99=2)
FITS = {"server": "dimple", "model": "m", "queue": 100, "clients": 100}


def test_a_report_is_read() -> None:
    load = parse(REPORT)
    assert load == Load(10000, 3, 250, 9750, 512.34, 180, 640)
    assert load.answered == 9750


def test_a_count_that_the_report_omits_is_zero() -> None:
    assert parse("Complete requests:      5\n").refused == 0


def test_an_aborted_run_is_reported() -> None:
    load = parse("Total of 10 requests completed\napr_socket_recv: Connection reset by peer (104)\n")
    assert (load.complete, load.broke_off) == (10, "apr_socket_recv: Connection reset by peer (104)")
    assert "broke off after 10 requests" in mistakes({**FITS, "clients": 200}, load)[0]


def test_all_answered_is_no_mistake() -> None:
    assert mistakes(FITS, GOOD) == []


def test_requests_that_fit_into_the_queue_may_not_be_refused() -> None:
    refused = Load(complete=100, failed=0, refused=2, kept_alive=100, per_second=1.0, p50=1, p99=2)
    assert len(mistakes(FITS, refused)) == 1
    assert mistakes({**FITS, "clients": 200}, refused) == []


def test_a_connection_may_not_be_closed() -> None:
    closed = Load(complete=100, failed=0, refused=0, kept_alive=98, per_second=1.0, p50=1, p99=2)
    assert "2 were answered on a connection that was closed" in mistakes(FITS, closed)[0]


def test_a_failed_request_is_a_mistake_at_any_number_of_clients() -> None:
    failed = Load(complete=100, failed=1, refused=0, kept_alive=100, per_second=1.0, p50=1, p99=2)
    assert len(mistakes({**FITS, "clients": 200}, failed)) == 1
    assert mistakes({**FITS, "server": "mms"}, failed) == []
