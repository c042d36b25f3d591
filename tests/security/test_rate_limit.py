"""The generic cell rate algorithm against a token bucket written plainly, and among processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.security.authorization import client_key, is_local
from app.security.rate_limit import Rate, RateLimiter


@pytest.fixture
def rates(tmp_path: Path) -> RateLimiter:
    return RateLimiter(tmp_path / "rates.table")


def test_a_burst_passes_at_once_and_then_one_request_per_interval(rates: RateLimiter) -> None:
    rate = Rate(2, 3)  # two a second, three at once
    assert [rates.hit("a", rate, 100.0) for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]
    assert rates.hit("a", rate, 100.25) == pytest.approx(0.25)
    assert rates.hit("a", rate, 100.5) == 0
    assert rates.hit("a", rate, 100.5) == pytest.approx(0.5)


def test_refused_requests_do_not_extend_the_wait(rates: RateLimiter) -> None:
    rate = Rate(1, 1)
    assert rates.hit("a", rate, 10.0) == 0
    for _ in range(50):
        assert rates.hit("a", rate, 10.5) == pytest.approx(0.5)
    assert rates.hit("a", rate, 11.0) == 0


def test_clients_are_limited_independently(rates: RateLimiter) -> None:
    rate = Rate(1, 1)
    assert {rates.hit(f"client {number}", rate, 5.0) for number in range(500)} == {0.0}
    assert all(rates.hit(f"client {number}", rate, 5.0) > 0 for number in range(500))


def test_a_table_from_before_a_reboot_blocks_no_client(rates: RateLimiter) -> None:
    rate = Rate(1, 2)
    assert rates.hit("a", rate, 1_000_000.0) == 0  # by a clock that has since begun anew
    assert rates.hit("a", rate, 3.0) == 0


@given(st.integers(1, 20), st.integers(1, 10), st.lists(st.integers(0, 1500), min_size=1, max_size=60))
def test_the_limiter_matches_a_token_bucket(
    tmp_path_factory: pytest.TempPathFactory, per_second: int, burst: int, pauses: list[int]
) -> None:
    rates = RateLimiter(tmp_path_factory.mktemp("rates") / "table")
    now, tokens = 50.0, float(burst)
    for milliseconds in pauses:
        now += milliseconds / 1000
        tokens = min(float(burst), tokens + per_second * milliseconds / 1000)
        passes = rates.hit("a", Rate(per_second, burst), now) == 0
        if abs(tokens - 1) > 1e-4:  # at the very edge rounding decides
            assert passes == (tokens > 1)
        tokens -= passes
    rates.close()


def test_processes_share_the_limit(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from app.security.rate_limit import Rate, RateLimiter\n"
    code += "rates = RateLimiter(Path(sys.argv[1]))\n"
    code += "print(sum(rates.hit('a', Rate(0.001, 100)) == 0 for _ in range(80)))"
    command = [sys.executable, "-c", code, str(tmp_path / "table")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(item.communicate(timeout=60)[0]) for item in started) == 100


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::1", True),  # one network of 64 bits
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("", "", True),
    ],
)
def test_an_ipv6_network_is_one_client(one: str, other: str, same: bool) -> None:
    assert (client_key(one) == client_key(other)) is same


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("unix:/run/x.sock", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False), ("", False),
    ],
)  # fmt: skip
def test_loopback_hosts_are_local(host: str, local: bool) -> None:
    assert is_local(host) is local
