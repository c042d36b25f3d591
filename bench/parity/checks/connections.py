"""HTTP itself: persistent connections, too long bodies, invalid requests."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from bench.parity.answer import Answer, exchange, of_document
from bench.parity.check import manage, predict, probe
from bench.parity.peer import ANSWER_SECONDS, Peer

LONGEST = 10_485_760
OCTETS = {"Content-Type": "application/octet-stream"}


def raw(text: str) -> Callable[[Peer], Answer]:
    """Send bytes unchanged; return the status lines of the responses, and whether the connection is closed then."""

    def ask(peer: Peer) -> Answer:
        with socket.create_connection(("127.0.0.1", peer.port), ANSWER_SECONDS) as plain:
            wire = ssl._create_unverified_context().wrap_socket(plain) if peer.tls else plain
            wire.sendall(text.encode("latin-1"))
            wire.settimeout(1)
            received, closed = b"", False
            try:
                while not closed:
                    part = wire.recv(2**16)
                    received, closed = received + part, not part
            except TimeoutError:
                pass
            except ConnectionError:
                closed = True
        lines = [line for line in received.decode("latin-1").split("\r\n") if line.startswith("HTTP/1.")]
        return of_document({"lines": [" ".join(line.split()[:2]) for line in lines], "closed": closed})

    return ask


def same_connection(peer: Peer) -> Answer:
    """Send three requests on one connection."""
    connection = peer.connect()
    try:
        answers = [exchange(connection, "POST", "/predictions/noop", OCTETS, b"x") for _ in range(3)]
        port = connection.sock.getsockname()[1] if connection.sock else 0
        answers.append(exchange(connection, "GET", "/ping", {}, None))
        same = connection.sock is not None and connection.sock.getsockname()[1] == port
        return of_document({"statuses": [answer.status for answer in answers], "same connection": same})
    finally:
        connection.close()


GET = "GET /ping HTTP/1.{}\r\nHost: localhost\r\n"
CHECKS = [
    probe("http.keep-alive", "four requests on one connection", same_connection, says="true"),
    probe("http.1.0", "GET /ping as HTTP/1.0", raw(GET.format(0) + "\r\n"), says="200"),
    probe("http.1.0-keep-alive", "GET /ping as HTTP/1.0 with Connection: keep-alive, as ab sends it",
          raw(GET.format(0) + "Connection: Keep-Alive\r\n\r\n"), says="false"),
    probe("http.1.1-close", "GET /ping with Connection: close", raw(GET.format(1) + "Connection: close\r\n\r\n"),
          says="false"),
    probe("http.pipelined", "two requests in one packet", raw((GET.format(1) + "\r\n") * 2), says="200"),
    probe("http.expect", "POST with Expect: 100-continue",
          raw("POST /predictions/noop HTTP/1.1\r\nHost: localhost\r\n"
              "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
          says="100"),
    probe("http.no-http", "a line that is no request", raw("this is no request\r\n\r\n")),
    probe("http.bad-escape", "GET /predictions/%zz", raw("GET /predictions/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    predict("http.too-long", "POST /predictions/noop", 413, "", lambda: b"x" * (LONGEST + 10**6), OCTETS),
    predict("http.too-long-chunked", "POST /predictions/noop", 413, "",
            lambda: iter([b"x" * 10**6] * 11), OCTETS),
    predict("http.just-short-enough", "POST /predictions/noop", 200, "OK", lambda: b"x" * (LONGEST - 10**5), OCTETS),
    manage("http.too-long-management", "POST /models", 413, "", lambda: b"x" * (LONGEST + 10**6), OCTETS),
    predict("http.after", "GET /ping", 200, "Healthy"),
]  # fmt: skip
