"""An incremental reader of HTTP/1.1 requests: bytes in, whole requests out (RFC 9112)."""

from __future__ import annotations

import enum
import io
import re
import tempfile
from collections.abc import Callable
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
_TOKEN_BYTES = frozenset(item for item in range(256) if re.fullmatch(_TOKEN, bytes([item])))


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
        self.max_body = self._default_max_body
        self.size = 0  # bytes of the body received so far
        self._start = self._searched = 0
        self._may_skip_line = True
        self._left = 0
        self._chunks: _ChunkDecoder | None = None

    @property
    def is_chunked(self) -> bool:
        """Return whether the current body is chunked, and therefore slower to read."""
        return self._chunks is not None

    @property
    def is_short(self) -> bool:
        """Return whether the client sends the rest of the body unasked, and all of it stays in memory."""
        return self._chunks is None and not self.expects_continue and self.size + self._left <= IN_MEMORY_BYTES

    def feed(self, data: bytes) -> State:
        """Process received bytes; call it until a request is complete.

        :raises ParseException: a gunicorn error, or one of the four above, if the request is invalid or its body cannot
            be stored.
        """
        self._data += data
        if self.request is None and not self._read_head():
            self.state = State.HEAD if self._data else State.NOTHING
            return self.state
        try:
            self.state = State.WHOLE if self._read_body() else State.BODY
        except OSError as error:
            raise StorageFailed(str(error)) from None
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
        return self.feed(b"")

    def close(self) -> None:
        """Close the body, which deletes its temporary file."""
        self.body.close()

    def _read_head(self) -> bool:
        data = self._data
        if not self._find_start():
            return False
        if len(data) > self._start and data[self._start] not in _TOKEN_BYTES and data[self._start :] != b"\r":
            raise BadFraming("the first byte is not that of an HTTP request")
        end = data.find(_END, max(self._start, self._searched - 3))
        stop = len(data) if end < 0 else end + 2
        if data.count(b"\n", self._searched, stop) != data.count(b"\r\n", self._searched, stop):
            raise BadFraming("a line of the head ends in a bare LF")
        self._searched = stop - data.endswith(b"\r", 0, stop)
        if (stop if end < 0 else end) - self._start > MAX_HEAD_BYTES:
            if data.find(b"\r\n", self._start) < 0:
                raise LimitRequestLine(len(data), MAX_HEAD_BYTES)
            raise LimitRequestHeaders(f"a head of more than {MAX_HEAD_BYTES} bytes")
        if end < 0:
            return False
        self._begin_body(self._parsed(bytes(data[: end + len(_END)])))
        del data[: end + len(_END)]
        return True

    def _find_start(self) -> bool:
        """Skip a PROXY header and an empty line (RFC 9112, section 2.2); return whether they are complete."""
        data = self._data
        if self._proxied and not self._start:
            if data[:12] == _PROXY_V2[: len(data)]:
                length = 16 + int.from_bytes(data[14:16], "big")
                if len(data) < max(17, length + 1):
                    return False
                self._start = self._searched = length
            elif len(data) >= 12:
                self._proxied = False
        if self._may_skip_line and len(data) >= self._start + 2:
            self._may_skip_line = False
            if data.startswith(b"\r\n", self._start):
                del data[self._start : self._start + 2]
        return True

    def _parsed(self, head: bytes) -> Any:
        line_end = head.index(b"\r\n", self._start)
        if not head[self._start : line_end].isascii():  # clients should have quoted it, and gunicorn 27 rejects it
            line = re.sub(rb"[\x80-\xff]", lambda match: b"%%%02X" % ord(match[0]), head[self._start : line_end])
            head = head[: self._start] + line + head[line_end:]
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
        if isinstance(request.body.reader, ChunkedReader):
            self._chunks = _ChunkDecoder()
        else:
            self._left = request.body.reader.length

    def _read_body(self) -> bool:
        data = self._data
        if self._chunks is None:
            if not self.size and len(data) >= self._left:  # most bodies come with the head
                self.size, self.body = self._left, io.BytesIO(bytes(data[: self._left]))
                del data[: self._left]
                self._check_size()
                self.request.body = self.body
                return True
            piece = bytes(data[: self._left])
            del data[: len(piece)]
            self._store(piece)
            self._left -= len(piece)
            whole = not self._left
        else:
            if pieces := self._chunks.decode(data):
                self._store(b"".join(pieces))
            whole = self._chunks.is_whole
            if whole:  # RFC 9112, section 7.1.3
                remaining = [pair for pair in self.request.headers if pair[0] != "TRANSFER-ENCODING"]
                self.request.headers = [*remaining, ("CONTENT-LENGTH", str(self.size))]
        if whole:
            self.body.seek(0)
            self.request.body = self.body
        return whole

    def _store(self, piece: bytes) -> None:
        if not piece:
            return
        if not self.size:
            self.body = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 -- closed with the request
        self.size += len(piece)
        self._check_size()
        self.body.write(piece)

    def _check_size(self) -> None:
        if self.size > self.max_body:
            raise BodyTooLarge(f"a body of more than {self.max_body} bytes")


class _ChunkDecoder:
    """A strict decoder of chunked bodies: any deviation from RFC 9112, section 7.1, is an error."""

    def __init__(self) -> None:
        self.is_whole = False
        self._left = 0  # bytes of the current chunk
        self._first = True
        self._last = False  # whether the chunk of length 0 has arrived, and trailers follow
        self._extensions = self._trailers = 0  # bytes

    def decode(self, data: bytearray) -> list[bytes]:
        """Return the decoded pieces of the body, and remove the decoded bytes from ``data``.

        :raises BadFraming: if the body is not chunked correctly, or a trailer is malformed or forbidden.
        :raises LimitRequestHeaders: if extensions or trailers are too long.
        """
        pieces: list[bytes] = []
        at = 0
        while not self._last:
            if self._left:
                piece = bytes(data[at : at + self._left])
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
            after = self._after_line(data, at)
            if after is None:
                break
            at = after
        del data[:at]
        if self._last:
            self._read_trailers(data)
        return pieces

    def _after_line(self, data: bytearray, at: int) -> int | None:
        """Parse a chunk's size line, and the CRLF that ends the previous chunk; return its end, None if it is
        incomplete."""
        start = at
        if not self._first:
            if data[at : at + 2] != b"\r\n"[: len(data) - at]:
                raise BadFraming("a chunk does not end in CRLF where its size says")
            start += 2
        line = _CHUNK_LINE.match(data, start, start + MAX_CHUNK_LINE_BYTES)
        if line is None:
            if len(data) - start >= MAX_CHUNK_LINE_BYTES:
                raise LimitRequestHeaders(f"the line before a chunk has more than {MAX_CHUNK_LINE_BYTES} bytes")
            if data.find(b"\n", start) >= 0:
                raise BadFraming(f"a chunk has no size: {bytes(data[start : start + 20])!r}")
            return None
        self._first = False
        self._extensions += len(line[2])
        if self._extensions > MAX_EXTENSION_BYTES:
            raise LimitRequestHeaders(f"chunk extensions of more than {MAX_EXTENSION_BYTES} bytes")
        self._left = int(line[1], 16)
        self._last = not self._left
        return line.end()

    def _read_trailers(self, data: bytearray) -> None:
        """Check the trailers received so far, and drop them."""
        at = 0
        while not (ended := data.startswith(b"\r\n", at)) and (line := _TRAILER.match(data, at)):
            if line[1].lower() in _FORBIDDEN_TRAILERS:
                raise BadFraming(f"the trailer {bytes(line[1]).decode()} is forbidden")
            at = line.end()
        at += 2 * ended
        self._trailers += at
        del data[:at]
        self.is_whole = ended
        if self._trailers + (0 if ended else len(data)) > MAX_TRAILER_BYTES:
            raise LimitRequestHeaders(f"trailers of more than {MAX_TRAILER_BYTES} bytes")
        if not ended and b"\n" in data:
            raise BadFraming("a trailer is malformed")
