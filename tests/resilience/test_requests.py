"""Requests that arrive in pieces, or several at once: each gets a thread when it is complete, and none is lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from app.server.request_reader import IN_MEMORY_BYTES
from bench.reliability.models import COLOUR, picture
from bench.reliability.served import Served
from tests.pictures import encode, noise, plain

RED = picture("red")
HEAD = f"POST /predict/{COLOUR} HTTP/1.1\r\nHost: x\r\n".encode()


@contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def post(body: bytes, *headers: bytes) -> bytes:
    return HEAD + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Read the given number of answers: status and body."""
    found, file = [], connection.makefile("rb")
    for _ in range(count):
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        found.append((status, file.read(length)))
    return found


def first(body: bytes) -> str:
    return str(json.loads(body)["predictions"][0]["class"])


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    colours = ["red", "green", "blue", "green"]
    with connected(served) as connection:
        connection.sendall(b"".join(post(picture(colour)) for colour in colours))
        assert [first(body) for _, body in answers(connection, 4)] == colours


def test_a_request_may_arrive_byte_by_byte(served: Served) -> None:
    with connected(served) as connection:
        for number in range(2):  # the second comes while the first's thread may still wait for it
            for byte in post(RED):
                connection.sendall(bytes([byte]))
            ((status, body),) = answers(connection, 1)
            assert (number, status, first(body)) == (number, 200, "red")


def test_the_rest_of_a_long_body_may_arrive_later(served: Served) -> None:
    data = noise(700, 700)
    assert len(data) > 2 * IN_MEMORY_BYTES
    request = post(data)
    with connected(served) as connection:
        for start in range(0, len(request), 50_000):
            connection.sendall(request[start : start + 50_000])
        assert answers(connection, 1)[0][0] == 200


def test_a_client_that_expects_100_continue_gets_it_once(served: Served) -> None:
    data = encode(plain(300, 300))
    whole = post(data, b"Expect: 100-continue")
    head = whole[: -len(data)]
    with connected(served) as connection:
        connection.sendall(head)
        invited = connection.recv(4096)
        assert invited == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(data)
        assert answers(connection, 1)[0][0] == 200
        connection.sendall(whole)  # a body that has arrived needs no 100 Continue (RFC 9110, section 10.1.1)
        assert [status for status, _ in answers(connection, 1)] == [200]


def test_a_chunked_body_may_arrive_in_pieces(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(RED), 20):
            piece = RED[start : start + 20]
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        ((status, body),) = answers(connection, 1)
    assert (status, first(body)) == (200, "red")


def test_a_client_that_closed_its_sending_side_is_answered(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert answers(connection, 1)[0][0] == 200


def test_a_truncated_body_is_answered_with_400(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(post(RED)[:-10])
        connection.shutdown(socket.SHUT_WR)
        ((status, body),) = answers(connection, 1)
    assert status == 400
    assert "was closed before" in json.loads(body)["message"]


def everything(connection: socket.socket) -> bytes:
    """Return all that the server sends until it closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


NEXT = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n", 400, id="bad chunk size"),
        pytest.param(CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400, id="chunk longer than its size"),
        pytest.param(CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n", 400, id="bare CR in an extension"),
        pytest.param(CHUNKED + b"3;" + b"a" * 100_000, 431, id="endless extension"),
        pytest.param(CHUNKED + b"0\r\nHost: y\r\n\r\n", 400, id="forbidden trailer"),
        pytest.param(CHUNKED + b"0\r\nnone\r\n\r\n", 400, id="malformed trailer"),
        pytest.param(CHUNKED + b"0\r\n" + b"X: y\r\n" * 20_000, 431, id="endless trailers"),
        pytest.param(
            HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="two framings"
        ),
        pytest.param(HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, id="two lengths"),
        pytest.param(b"GET /ping HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", 400, id="folded header"),
        pytest.param(b"GET /ping HTTP/1.1\nHost: x\n\n", 400, id="bare LF"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS"),
        pytest.param(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="tunnel"),
    ],
)
def test_nothing_is_read_as_a_request_after_an_invalid_request(served: Served, data: bytes, status: int) -> None:
    with connected(served) as connection:
        connection.sendall(data)
        with suppress(ConnectionError):  # it may be refused before all of it is sent
            connection.sendall(NEXT)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/predictions/absent", 1000, 404),
        ("/predict/absent", 10**9, 404),
        (f"/predict/{COLOUR}", 10**9, 413),
        ("/x", 9, 404),
    ],
)
@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"], ids=["sends", "asks"])
def test_a_request_is_refused_by_its_head_before_the_body_arrives(
    served: Served, path: str, length: int, status: int, expect: bytes
) -> None:
    with connected(served) as connection:
        connection.sendall(
            b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (path.encode(), expect, length)
        )
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in answer


def test_http_1_0_closes_the_connection_unless_keep_alive_is_requested(served: Served) -> None:
    for keep, closes in ((b"", True), (b"Connection: keep-alive\r\n", False)):
        with connected(served) as connection:
            connection.sendall(b"GET /ping HTTP/1.0\r\n" + keep + b"\r\n")
            assert answers(connection, 1)[0][0] == 200
            if closes:
                assert connection.recv(1) == b""
            else:
                connection.sendall(NEXT)
                assert answers(connection, 1)[0][0] == 200


def test_a_head_request_is_answered_without_a_body(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(
            b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + NEXT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        head, second = everything(connection).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Length" in head
    assert second.startswith(b"HTTP/1.1 200 ")


def test_an_upgrade_is_ignored_and_an_absolute_target_is_accepted(served: Served) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    with connected(served) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        assert answers(connection, 1)[0][0] == 200
        connection.sendall(b"GET http://elsewhere/ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answers(connection, 1)[0][0] == 200


def test_no_response_names_the_server_software(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(NEXT + b"nonsense\r\n\r\n")
        assert b"\nserver:" not in everything(connection).lower()
