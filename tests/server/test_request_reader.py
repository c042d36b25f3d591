"""The reader of requests, by the letter of RFC 9112: valid requests, and invalid ones that end the connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gunicorn.config import Config
from gunicorn.http import Request
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException, UnsupportedTransferCoding
from gunicorn.http.unreader import IterUnreader

from app.server.request_reader import (
    IN_MEMORY_BYTES,
    MAX_CHUNK_LINE_BYTES,
    MAX_EXTENSION_BYTES,
    MAX_HEAD_BYTES,
    MAX_TRAILER_BYTES,
    BadFraming,
    BodyTooLarge,
    IncompleteRequest,
    RequestReader,
    State,
)

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
Read = list[tuple[str, str, bytes]]
_readers: list[RequestReader] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _readers:
        _readers.pop().close()


def reader(max_body: int = 2**20, proxied: bool = False) -> RequestReader:
    config = Config()
    config.set("proxy_protocol", "auto" if proxied else "off")
    heads: list[bytes] = []

    def parse(head: bytes) -> Request:
        heads.append(head)
        return Request(config, IterUnreader([head]), ("127.0.0.1", 1), len(heads))

    _readers.append(RequestReader(parse, max_body, proxied))
    return _readers[-1]


def read(data: bytes, piece: int, one: RequestReader | None = None) -> Read:
    """Read requests out of bytes that arrive in pieces; each is method, target and body."""
    one, found = one or reader(), []
    for start in range(0, len(data), piece):
        state = one.feed(data[start : start + piece])
        while state is State.WHOLE:
            found.append((one.request.method, one.request.uri, one.body.read()))
            state = one.next()
    assert one.state is State.NOTHING
    return found


@pytest.fixture(params=[1, 7, 10**6], ids=["byte by byte", "in pieces", "at once"])
def piece(request: pytest.FixtureRequest) -> int:
    size: int = request.param
    return size


GOOD: list[tuple[bytes, Read]] = [
    (b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n", [("GET", "/a", b""), ("GET", "/b", b"")]),
    (b"\r\nGET / HTTP/1.0\r\n\r\n", [("GET", "/", b"")]),
    (b"GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n", [("GET", "http://x/a?b", b"")]),
    (b"GET /\xc3\xa9?\xe9 HTTP/1.1\r\nHost: x\r\n\r\n", [("GET", "/%C3%A9?%E9", b"")]),
    (HEAD + b"Content-Length: 3\r\n\r\nabc\r\nHEAD /b HTTP/1.1\r\nHost: x\r\n\r\n",
     [("POST", "/", b"abc"), ("HEAD", "/b", b"")]),
    (CHUNKED + b"3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
     [("POST", "/", b"abc0123456789"), ("GET", "/b", b"")]),
    (CHUNKED + b'1;a\r\na\r\n1 ; b = c ;d="e;\\" f"\r\nb\r\n0;last\r\nX-One: 1\r\nX-Two:\r\n\r\n',
     [("POST", "/", b"ab")]),
    (CHUNKED + b"0\r\n\r\n", [("POST", "/", b"")]),
    (CHUNKED + b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", [("POST", "/", b"0\r\n\r\n\r\n")]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "requests"), GOOD)
def test_requests_are_read_in_pieces_of_any_size(data: bytes, requests: Read, piece: int) -> None:
    assert read(data, piece) == requests


BAD: list[tuple[bytes, type[ParseException]]] = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BadFraming),
    (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", BadFraming),
    (b" GET / HTTP/1.1\r\n\r\n", BadFraming),
    (b"GET / HTTP/1.1\n", BadFraming),
    (b"GET / HTTP/1.1\r\nHost: x\n", BadFraming),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", ParseException),
    (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", ParseException),
    (b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n", ParseException),
    (b"PRI * HTTP/2.0\r\n\r\n", ParseException),
    (HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", ParseException),
    (HEAD + b"Content-Length: 3, 3\r\n\r\nabc", ParseException),
    (HEAD + b"Content-Length: +3\r\n\r\nabc", ParseException),
    (HEAD + b"Content-Length: -1\r\n\r\n", ParseException),
    (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", ParseException),
    (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ParseException),
    (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n", ParseException),
    (HEAD + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", ParseException),
    (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", UnsupportedTransferCoding),
    (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n", ParseException),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", ParseException),
    (HEAD + b"Expect: miracles\r\n\r\n", ParseException),
    (CHUNKED + b"x\r\n", BadFraming),
    (CHUNKED + b"\r\n", BadFraming),
    (CHUNKED + b"-1\r\n", BadFraming),
    (CHUNKED + b"0x1\r\n", BadFraming),
    (CHUNKED + b"1_0\r\n", BadFraming),
    (CHUNKED + b" 1\r\n", BadFraming),
    (CHUNKED + b"1 \r\n", BadFraming),
    (CHUNKED + b"1\na\n", BadFraming),
    (CHUNKED + b"1" + 16 * b"0" + b"\r\n", BadFraming),
    (CHUNKED + b"3\r\nabcd", BadFraming),
    (CHUNKED + b"3\r\nabc\n0\r\n\r\n", BadFraming),
    (CHUNKED + b"1;a\rb\r\n", BadFraming),
    (CHUNKED + b'1;a="b\r\n', BadFraming),
    (CHUNKED + b"1;\r\n", BadFraming),
    (CHUNKED + b"1;a=" + MAX_CHUNK_LINE_BYTES * b"b", LimitRequestHeaders),
    (CHUNKED + (b"1;a=" + 500 * b"b" + b"\r\na\r\n") * (MAX_EXTENSION_BYTES // 500 + 1), LimitRequestHeaders),
    (CHUNKED + b"0\r\nX: y\n\r\n", BadFraming),
    (CHUNKED + b"0\r\nno trailer\r\n", BadFraming),
    (CHUNKED + b"0\r\n: y\r\n", BadFraming),
    (CHUNKED + b"0\r\nX: y\r\n z\r\n", BadFraming),
    (CHUNKED + b"0\r\nContent-Length: 3\r\n", BadFraming),
    (CHUNKED + b"0\r\nHOST: y\r\n", BadFraming),
    (CHUNKED + b"0\r\nX: " + MAX_TRAILER_BYTES * b"y", LimitRequestHeaders),
    (CHUNKED + b"0\r\n" + (MAX_TRAILER_BYTES // 6 + 1) * b"X: y\r\n", LimitRequestHeaders),
]  # fmt: skip


@pytest.mark.parametrize(("data", "error"), BAD)
def test_invalid_requests_are_refused_in_pieces_of_any_size(
    data: bytes, error: type[ParseException], piece: int
) -> None:
    with pytest.raises(error):
        read(data, piece)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\n" + (MAX_HEAD_BYTES // 100) * (b"X: " + 100 * b"y" + b"\r\n"), LimitRequestHeaders),
        (b"GET /" + MAX_HEAD_BYTES * b"x", LimitRequestLine),
        (HEAD + b"X: " + MAX_HEAD_BYTES * b"y" + b"\r\n\r\n", LimitRequestHeaders),
    ],
)
def test_the_size_of_a_head_is_limited(data: bytes, error: type[ParseException]) -> None:
    for piece in (1000, len(data)):
        with pytest.raises(error):
            read(data, piece)


@pytest.mark.parametrize("head", [CHUNKED + b"4\r\n", HEAD + b"Content-Length: 4\r\n\r\n"])
def test_the_size_of_a_body_is_limited(head: bytes, piece: int) -> None:
    assert read(head[: -len(b"4\r\n")] + b"0\r\n\r\n" if b"chunked" in head else head + b"abcd", piece, reader(4))
    with pytest.raises(BodyTooLarge):
        read(head + b"abcd", piece, reader(3))


@pytest.mark.parametrize(
    "data", [b"GET / HT", HEAD, HEAD + b"Content-Length: 2\r\n\r\na", CHUNKED + b"1\r\na\r\n0\r\n"]
)
def test_a_truncated_request_is_refused(data: bytes) -> None:
    one = reader()
    one.end()  # nothing has begun
    one.feed(data)
    with pytest.raises(IncompleteRequest):
        one.end()


def test_a_complete_chunked_body_has_a_content_length() -> None:
    one = reader()
    one.feed(CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\n\r\n")
    headers = dict(one.request.headers)
    assert (headers.get("CONTENT-LENGTH"), "TRANSFER-ENCODING" in headers, "X" in headers) == ("3", False, False)


@pytest.mark.parametrize(("version", "expects"), [(b"1.1", True), (b"1.0", False)])
def test_an_expectation_is_honoured_only_in_http_1_1(version: bytes, expects: bool) -> None:
    one = reader()
    head = b"POST / HTTP/" + version + b"\r\nHost: x\r\nexpect: 100-Continue\r\nContent-Length: 3\r\n\r\n"
    assert one.feed(head) is State.BODY
    assert one.expects_continue is expects


def test_a_long_body_is_stored_in_a_file(piece: int) -> None:
    one, body = reader(), bytes(range(256)) * (IN_MEMORY_BYTES // 256 + 1)
    assert one.feed(HEAD + b"Content-Length: %d\r\n\r\n" % len(body)) is State.BODY
    for start in range(0, len(body), 4096):
        one.feed(body[start : start + 4096])
    assert one.body.read() == body
    assert one.body.fileno() > 0


@pytest.mark.parametrize(
    "preface",
    [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + b"\x04\xd2\0\x50",
    ],
)
def test_the_proxy_protocol_header_is_accepted_once(preface: bytes, piece: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert read(preface + 2 * request, piece, reader(proxied=True)) == 2 * [("GET", "/", b"")]
    with pytest.raises(ParseException):
        read(preface + request, piece)
    with pytest.raises(ParseException):
        read(preface + request + preface + request, piece, reader(proxied=True))
