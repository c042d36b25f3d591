"""An incremental reader of HTTP/1.1 requests: bytes in, whole requests out (RFC 9112)."""

from __future__ import annotations

import enum
import io
import re
import tempfile
from collections.abc import Callable, Generator
from typing import IO, Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import (
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
    UnsupportedTransferCoding,
)

MAX_HEAD_BYTES = 2**16
MAX_TRAILER_BYTES = 2**13
MAX_CHUNK_LINE_BYTES = 512
"""Maximum length of a chunk's size line with its extensions."""
MAX_EXTENSION_BYTES = 2**13
"""Maximum bytes of the extensions of all chunks of a body."""
IN_MEMORY_BYTES = 2**18
"""Maximum bytes of a body in memory; a longer body goes into a temporary file."""

_END = b"\r\n\r\n"
_PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
"""First bytes of version 2 of the PROXY protocol; two bytes, a length of two bytes, and data of that length follow."""
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"[\t \x21-\x7e\x80-\xff]*"
_EXTENSION = rb'[ \t]*;[ \t]*%s(?:[ \t]*=[ \t]*(?:%s|"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~\x80-\xff])*"))?' % (
    _TOKEN,
    _TOKEN,
)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:%s)*)\r\n" % _EXTENSION)
_TRAILER = re.compile(rb"(%s):%s\r\n" % (_TOKEN, _VALUE))
_FORBIDDEN_TRAILERS = (b"authorization", b"content-length", b"host", b"te", b"trailer", b"transfer-encoding")
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r)", re.IGNORECASE)
_METHOD = re.compile(_TOKEN)


class BadFraming(ParseException):  # type: ignore[misc]
    """An error in bytes that are not an HTTP/1.1 request, or a body that is not framed as its head declares."""


class BodyTooLarge(ParseException):  # type: ignore[misc]
    """An error for a body that exceeds the limit."""


class StorageFailed(ParseException):  # type: ignore[misc]
    """An error for a body that cannot be stored."""


class IncompleteRequest(ParseException):  # type: ignore[misc]
    """An error for a connection that its client closed in the middle of a request."""


class State(enum.Enum):
    """The progress of a request's arrival."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    """Part of its head."""
    BODY = enum.auto()
    """Its complete head, and part of its body."""
    WHOLE = enum.auto()


Steps = Generator[State, None, None]


class RequestReader:
    """A reader of the successive requests of one connection. It must not be used after an error.

    :param parse: parses a complete head into gunicorn's request; called once per request.
    :param max_body: maximum bytes of a body, unless :meth:`limit_body` sets another limit.
    :param proxied: whether a header of version 2 of the PROXY protocol may come first.
    """

    def __init__(self, parse: Callable[[bytes], Any], max_body: int, proxied: bool = False) -> None:
        self._parse = parse
        self._default_max_body = max_body
        self._proxied = proxied
        self._data = bytearray()
        self._reset()

    def _reset(self) -> None:
        self.state = State.NOTHING
        self.request: Any = None
        self.body: IO[bytes] = io.BytesIO()
        self.expects_continue = False
        self.is_chunked = False
        self.max_body = self._default_max_body
        self.size = 0  # bytes of the body received so far
        self._left = 0  # bytes of the body or the chunk that have not been received
        self._steps = self._read()

    @property
    def is_short(self) -> bool:
        """Return whether the client sends the rest of the body unasked, and all of it stays in memory."""
        return not self.is_chunked and not self.expects_continue and self.size + self._left <= IN_MEMORY_BYTES

    def feed(self, data: bytes) -> State:
        """Process received bytes; call it until a request is complete.

        :raises ParseException: a gunicorn error, or one of the four above, if the request is invalid or its body cannot
            be stored.
        """
        self._data += data
        self.state = next(self._steps)
        return self.state

    def limit_body(self, max_body: int) -> None:
        """Set the limit of the current body.

        :raises BodyTooLarge: if more bytes have arrived already.
        """
        self.max_body = max_body
        self._check_size()

    def end(self) -> None:
        """Handle the client's end of the stream.

        :raises IncompleteRequest: if a request has begun.
        """
        if self.state is not State.NOTHING:
            raise IncompleteRequest("the connection ended before the request did")

    def next(self) -> State:
        """Discard an answered request, and process the bytes that follow it; raise the errors of :meth:`feed`."""
        self.close()
        self._reset()
        return self.feed(b"") if self._data else self.state

    def close(self) -> None:
        """Close the body, which deletes its temporary file."""
        self._steps.close()
        self.body.close()

    def _read(self) -> Steps:
        """Read one request: yield its state whenever more bytes are needed, and at its end."""
        yield from self._read_head()
        try:
            yield from self._read_chunks() if self.is_chunked else self._read_body()
            self.body.seek(0)
        except OSError as error:
            raise StorageFailed(str(error)) from None
        self.request.body = self.body
        yield State.WHOLE

    def _read_head(self) -> Steps:
        data, start = self._data, 0
        if self._proxied:
            start = yield from self._read_proxy_header()
        while bytes(data[start : start + 2]) in (b"", b"\r"):
            yield State.HEAD if data else State.NOTHING
        if data.startswith(b"\r\n", start):  # one empty line is allowed (RFC 9112, section 2.2)
            del data[start : start + 2]
        searched = start
        while True:
            if len(data) > start and not _METHOD.match(data, start):
                raise BadFraming("the first byte is not that of an HTTP request")
            end = data.find(_END, max(start, searched - 3))
            stop = len(data) if end < 0 else end + 2
            if data.count(b"\n", searched, stop) != data.count(b"\r\n", searched, stop):
                raise BadFraming("a line of the head ends in a bare LF")
            searched = stop - data.endswith(b"\r", 0, stop)
            if (stop if end < 0 else end) - start > MAX_HEAD_BYTES:
                if data.find(b"\r\n", start) < 0:
                    raise LimitRequestLine(len(data), MAX_HEAD_BYTES)
                raise LimitRequestHeaders(f"a head of more than {MAX_HEAD_BYTES} bytes")
            if end >= 0:
                break
            yield State.HEAD if data else State.NOTHING
        head = bytes(data[: end + len(_END)])
        del data[: len(head)]
        self._begin_body(self._parsed(head, start))

    def _read_proxy_header(self) -> Generator[State, None, int]:
        """Wait for a header of the PROXY protocol, and return its length; 0 if there is none."""
        data = self._data
        while data[:12] == _PROXY_V2[: len(data)]:
            length = 16 + int.from_bytes(data[14:16], "big")
            if len(data) > max(16, length):
                return length
            yield State.HEAD if data else State.NOTHING
        return 0

    def _parsed(self, head: bytes, start: int) -> Any:
        line_end = head.index(b"\r\n", start)
        if not head[start:line_end].isascii():  # clients should have quoted it, and gunicorn 27 rejects it
            line = re.sub(rb"[\x80-\xff]", lambda match: b"%%%02X" % ord(match[0]), head[start:line_end])
            head = head[:start] + line + head[line_end:]
        head, expectations = _EXPECT.subn(b"", head)  # or gunicorn would send a second 100 Continue
        try:
            request = self._parse(head)
        except (NoMoreData, StopIteration):
            raise BadFraming("the head is incomplete") from None
        self.expects_continue = bool(expectations) and request.version >= (1, 1)
        return request

    def _begin_body(self, request: Any) -> None:
        codings = [value for name, value in request.headers if name == "TRANSFER-ENCODING"]
        if codings and [coding.lower() for coding in codings] != ["chunked"]:
            raise UnsupportedTransferCoding(", ".join(codings))
        if request.method == "CONNECT":  # another protocol follows
            request.force_close()
        self.request, self._proxied = request, False
        self.is_chunked = isinstance(request.body.reader, ChunkedReader)
        if not self.is_chunked:
            self._left = request.body.reader.length

    def _read_body(self) -> Steps:
        while self._left:
            length = self._store(self._data[: self._left])
            del self._data[:length]
            self._left -= length
            if self._left:
                yield State.BODY

    def _read_chunks(self) -> Steps:
        """Decode a chunked body strictly: any deviation from RFC 9112, section 7.1, is an error."""
        data = self._data
        pieces: list[bytes] = []
        at = extensions = 0
        first = True
        while True:
            if self._left:
                pieces.append(bytes(data[at : at + self._left]))
                at += len(pieces[-1])
                self._left -= len(pieces[-1])
            if self._left or (line := self._chunk_line(at if first else at + 2, first)) is None:
                self._store(b"".join(pieces))
                pieces.clear()
                del data[:at]
                at = 0
                yield State.BODY
                continue
            extensions += len(line[2])
            if extensions > MAX_EXTENSION_BYTES:
                raise LimitRequestHeaders(f"chunk extensions of more than {MAX_EXTENSION_BYTES} bytes")
            at, first, self._left = line.end(), False, int(line[1], 16)
            if not self._left:
                break
        self._store(b"".join(pieces))
        del data[:at]
        yield from self._skip_trailers()
        remaining = [pair for pair in self.request.headers if pair[0] != "TRANSFER-ENCODING"]
        self.request.headers = [*remaining, ("CONTENT-LENGTH", str(self.size))]  # RFC 9112, section 7.1.3

    def _chunk_line(self, start: int, first: bool) -> re.Match[bytes] | None:
        """Match the size line of a chunk, and the CRLF before it that ends the previous chunk; return None if they are
        incomplete."""
        data = self._data
        if not first and data[start - 2 : start] != b"\r\n"[: max(0, len(data) - start + 2)]:
            raise BadFraming("a chunk does not end in CRLF where its size says")
        line = _CHUNK_LINE.match(data, start, start + MAX_CHUNK_LINE_BYTES)
        if line is None:
            if len(data) - start >= MAX_CHUNK_LINE_BYTES:
                raise LimitRequestHeaders(f"the line before a chunk has more than {MAX_CHUNK_LINE_BYTES} bytes")
            if data.find(b"\n", start) >= 0:
                raise BadFraming(f"a chunk has no size: {bytes(data[start : start + 20])!r}")
        return line

    def _skip_trailers(self) -> Steps:
        """Check the trailers, and drop them."""
        data, length = self._data, 0
        while True:
            at = 0
            while not (ended := data.startswith(b"\r\n", at)) and (line := _TRAILER.match(data, at)):
                if line[1].lower() in _FORBIDDEN_TRAILERS:
                    raise BadFraming(f"the trailer {bytes(line[1]).decode()} is forbidden")
                at = line.end()
            at += 2 * ended
            length += at
            del data[:at]
            if length + (0 if ended else len(data)) > MAX_TRAILER_BYTES:
                raise LimitRequestHeaders(f"trailers of more than {MAX_TRAILER_BYTES} bytes")
            if ended:
                return
            if b"\n" in data:
                raise BadFraming("a trailer is malformed")
            yield State.BODY

    def _store(self, piece: bytes | bytearray) -> int:
        """Append a piece to the body, and return its length."""
        self.size += len(piece)
        self._check_size()
        if self.size > IN_MEMORY_BYTES and isinstance(self.body, io.BytesIO):
            beginning, self.body = self.body, tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the request
            self.body.write(beginning.getbuffer())
        return self.body.write(piece)

    def _check_size(self) -> None:
        if self.size > self.max_body:
            raise BodyTooLarge(f"a body of more than {self.max_body} bytes")
