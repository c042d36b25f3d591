"""Requests despite the loss of a proxy or a replica, and the answers to what the cluster cannot do."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from flask import Flask

from app.engines.ray.client import ServeClient, proxies_of
from app.errors import (
    ClusterError,
    ClusterUnavailable,
    DimpleError,
    ModelFormatError,
    NoReplica,
    QueueFull,
    QueueTimeout,
)
from app.settings import Settings
from app.web.errors import error_body, mms_error_response
from tests.engines.ray.proxies import LOST, Proxy, proxy
from tests.helpers import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "net"
    made.mkdir()
    (made / "weights").write_bytes(b"1")
    return made


@contextmanager
def connected(*addresses: str) -> Iterator[ServeClient]:
    client = ServeClient(addresses)
    try:
        yield client
    finally:
        client.close()


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def body() -> bytes:
    data = io.BytesIO()
    np.save(data, np.array([[[[1], [2]]]], np.float32))
    return data.getvalue()


def ask(client: ServeClient, server: Proxy, seconds: float = 10.0) -> float:
    answer = client.request("net", server.route, body(), seconds)
    return float(np.load(io.BytesIO(answer))[0, 0])


def test_requests_are_sent_to_the_proxies_in_turn(folder: Path) -> None:
    with proxy(folder) as first, proxy(folder) as second, connected(first.address, second.address) as client:
        assert [ask(client, first) for _ in range(8)] == [3.0] * 8
        assert len(first.requests) and len(second.requests)


def test_an_unreachable_proxy_loses_no_request(folder: Path) -> None:
    with proxy(folder) as first, connected(free_address(), first.address) as client:
        assert [ask(client, first) for _ in range(4)] == [3.0] * 4
        assert client.lost == ""


@pytest.mark.parametrize("answer", [(LOST, ""), (500, "Internal Server Error"), (404, "not found"), (503, "draining")])
def test_a_request_that_is_lost_once_is_retried(folder: Path, answer: tuple[int, str]) -> None:
    with proxy(folder) as server, connected(server.address) as client:
        server.answers = [answer]
        assert ask(client, server) == 3.0
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((422, "ValueError: the network is broken"), ModelFormatError),
        ((503, "Request dropped due to backpressure (num_queued_requests=9, max_queued_requests=9)."), QueueFull),
        ((408, "Request timed out"), QueueTimeout),
    ],
)
def test_a_request_that_the_cluster_refused_is_not_retried(
    folder: Path, answer: tuple[int, str], error: type[DimpleError]
) -> None:
    with proxy(folder) as server, connected(server.address) as client:
        server.answers = [answer]
        with pytest.raises(error) as caught:
            ask(client, server)
        assert len(server.requests) == 1
    assert error_body(caught.value).code == (500 if error is ModelFormatError else 503)


def test_a_request_that_is_lost_again_is_answered_503_with_retry_after(folder: Path) -> None:
    with proxy(folder) as server, connected(server.address) as client:
        server.answers = [(LOST, ""), (500, "the replica died")]
        with pytest.raises(ClusterUnavailable, match="the replica died") as caught:
            ask(client, server)
    with Flask(__name__).test_request_context("/predictions/net"):
        response = mms_error_response(caught.value)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


def test_a_model_without_a_route_has_no_replica(folder: Path) -> None:
    with proxy(folder) as server, connected(server.address) as client:
        with pytest.raises(NoReplica):
            client.request("other", "/other-0123", body(), 5.0)
        assert client.serves(server.route) and not client.serves("/other-0123")


def test_a_silent_replica_times_out(folder: Path) -> None:
    with proxy(folder) as server, connected(server.address) as client:
        server.answering.clear()
        with pytest.raises(QueueTimeout):
            ask(client, server, 0.3)
        server.answering.set()


def test_a_cluster_is_unavailable_until_a_proxy_is_back(folder: Path) -> None:
    address = free_address()
    with connected(address) as client:
        with pytest.raises(ClusterUnavailable):
            client.request("net", "/net", body(), 5.0)
        assert address in client.lost
        with proxy(folder, port=int(address.rpartition(":")[2])) as server:
            wait_until(lambda: client.serves(server.route) and client.lost == "")
            assert ask(client, server) == 3.0


def test_the_setting_names_proxies() -> None:
    assert proxies_of(Settings(cluster="10.0.0.2:8000, node-3:8000,[::1]:80")) == (
        "10.0.0.2:8000",
        "node-3:8000",
        "[::1]:80",
    )
    assert proxies_of(Settings()) == ()
    assert proxies_of(Settings(engine="ray")) == ("127.0.0.1:8000",)


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "10.0.0.1", "http://10.0.0.1:8000", "10.0.0.1:99999"])
def test_another_address_is_refused_with_the_next_step(address: str) -> None:
    with pytest.raises(ClusterError, match=r"host:8000,host:8000"):
        proxies_of(Settings(cluster=f"10.0.0.2:8000,{address}"))
