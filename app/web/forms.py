"""Parsing of multipart and urlencoded forms, within limits that are checked before memory is allocated."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData, State

from app.errors import BadForm

CHUNK = 2**16
HEADER_BYTES, HEADERS = 8190, 16
"""Maximum length in bytes and number of lines of a part's headers."""
BLANK_LINE, LINE_BREAK = re.compile(rb"\r\n\r\n|\n\n|\r\r"), re.compile(rb"\r\n|\n|\r")
WIDEST = 4
"""Maximum bytes that Python stores for a character of a non-ASCII text."""
BINARY_TYPES = ("image/", "application/octet-stream")

Fields = MultiDict[str, str]
Files = MultiDict[str, FileStorage]


class FormParser(FormDataParser):
    """Form parser for Werkzeug's requests.

    ``max_form_memory_size`` limits the text of all fields together, as Python stores it, and ``max_form_parts`` the
    number of fields. A multipart field without a file name is a file if its type or its bytes indicate one, because
    phones send images like that.
    """

    def parse(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
    ) -> tuple[IO[bytes], Any, Any]:
        """Parse the body of a request.

        :returns: the stream of the unparsed data, the text fields, and the files.
        :raises BadForm: if a multipart body is damaged or truncated.
        :raises RequestEntityTooLarge: if a limit is exceeded.
        """
        if mimetype == "multipart/form-data":
            return (stream, *self._multipart(stream, (options or {}).get("boundary", "")))
        if mimetype == "application/x-www-form-urlencoded":
            data = stream.read()
            if is_binary(data):  # curl --data-binary labels an image like this, too
                return io.BytesIO(data), MultiDict(), MultiDict()
            return stream, self._urlencoded(data), MultiDict()
        return stream, MultiDict(), MultiDict()

    def _multipart(self, stream: IO[bytes], boundary: str) -> tuple[Fields, Files]:
        fields: list[tuple[str, str]] = []
        files: list[tuple[str, FileStorage]] = []
        left = self.max_form_memory_size
        opened: list[IO[bytes]] = []
        try:
            for part in self._parts(stream, boundary.encode("ascii"), opened):
                if isinstance(part, FileStorage):
                    files.append((part.name or "", part))
                    continue
                name, data = part
                if left is not None:
                    left -= _stored_bytes(data)
                    _check(left)
                fields.append((name, data.decode(errors="replace")))
        except BaseException as error:
            for file in opened:
                file.close()
            if isinstance(error, ValueError):
                raise BadForm(str(error)) from None
            raise
        return MultiDict(fields), MultiDict(files)

    def _parts(
        self, stream: IO[bytes], boundary: bytes, opened: list[IO[bytes]]
    ) -> Iterator[FileStorage | tuple[str, bytes]]:
        """Yield the files, and the text fields as name and bytes.

        :param opened: list that collects the temporary files.
        :raises ValueError: if the body is damaged or truncated.
        """
        part: Field | File | None = None
        file: IO[bytes] | None = None
        text = bytearray()
        for event in self._events(stream, boundary):
            if isinstance(event, Field | File):
                part, text = event, bytearray()
                file = self._file(event, opened) if _is_file(event) else None
            elif isinstance(event, Data) and part is not None:
                if file is None and not text and is_binary(event.data):
                    file = self._file(part, opened)
                if file is not None:
                    file.write(event.data)
                else:
                    text += event.data
                    _check(None if self.max_form_memory_size is None else self.max_form_memory_size - len(text))
                if not event.more_data:
                    yield _stored_file(part, file) if file is not None else (part.name or "", bytes(text))

    def _events(self, stream: IO[bytes], boundary: bytes) -> Iterator[Event]:
        if not boundary:
            raise ValueError("its Content-Type has no boundary")
        decoder = MultipartDecoder(boundary, self.max_form_memory_size, max_parts=self.max_form_parts)
        while True:
            chunk = stream.read(CHUNK)
            decoder.receive_data(chunk or None)
            while True:
                if decoder.state is State.PART:
                    _check_headers(decoder.buffer)
                event = decoder.next_event()
                if isinstance(event, Epilogue):
                    return
                if isinstance(event, NeedData):
                    break
                yield event

    def _file(self, part: Field | File, opened: list[IO[bytes]]) -> IO[bytes]:
        opened.append(self.stream_factory(None, part.headers.get("content-type"), None))
        return opened[-1]

    def _urlencoded(self, data: bytes) -> Fields:
        if self.max_form_memory_size is not None:
            _check(self.max_form_memory_size - _stored_bytes(data))
        if self.max_form_parts is not None:
            _check(self.max_form_parts - 1 - data.count(b"&"))
        return MultiDict(_pairs(data))


class FormRequest(Request):
    """Flask's request with :class:`FormParser`."""

    form_data_parser_class = FormParser

    def __init__(self, environ: dict[str, Any], *more: Any, **options: Any) -> None:
        query = environ.get("QUERY_STRING", "")
        if not query.isascii():  # clients should have quoted it; Werkzeug would decode it as UTF-8, or fail
            environ["QUERY_STRING"] = "".join(item if item.isascii() else f"%{ord(item):02X}" for item in query)
        super().__init__(environ, *more, **options)


def is_binary(data: bytes) -> bool:
    """Return whether data, judged by its first kilobyte, is something other than UTF-8 text."""
    start = data[:1024]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # the last character may be incomplete
    except UnicodeDecodeError:
        return True
    return b"\0" in start


def _check(left: int | None) -> None:
    if left is not None and left < 0:
        raise RequestEntityTooLarge()


def _stored_bytes(data: bytes) -> int:
    """Return an upper bound of a text's size in memory, in bytes."""
    return len(data) if data.isascii() else WIDEST * len(data)


def _check_headers(data: bytearray) -> None:
    """Check the headers of a part at the beginning of ``data``, and convert Latin-1 of old clients to UTF-8.

    :raises RequestEntityTooLarge: if the headers are too long or too many.
    """
    match = BLANK_LINE.search(data, 0, HEADER_BYTES)
    if match is None:
        _check(HEADER_BYTES - len(data))
        return
    head = data[: match.start()]
    _check(HEADERS - 1 - len(LINE_BREAK.findall(head)))
    try:
        head.decode()
    except UnicodeDecodeError:
        data[: match.start()] = head.decode("latin-1").encode()


def _is_file(part: Field | File) -> bool:
    return isinstance(part, File) or part.headers.get("content-type", "").lower().startswith(BINARY_TYPES)


def _stored_file(part: Field | File, stream: IO[bytes]) -> FileStorage:
    stream.seek(0)
    name = part.filename if isinstance(part, File) else ""
    return FileStorage(stream, name, part.name or "", headers=part.headers)


def _pairs(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a urlencoded form, with one copy of each in memory."""
    at = 0
    while at < len(data):
        end = data.find(b"&", at)
        end = len(data) if end < 0 else end
        equals = data.find(b"=", at, end)
        middle = end if equals < 0 else equals
        if end > at:
            yield _unquote(data, at, middle), _unquote(data, min(middle + 1, end), end)
        at = end + 1


def _unquote(data: bytes, start: int, end: int) -> str:
    """Decode a name or a value in pieces: the standard library needs many times the memory of its input."""
    decoded = bytearray()
    while start < end:
        stop = min(start + CHUNK, end)
        if stop < end:
            percent = data.find(b"%", stop - 2, stop)
            stop = percent if percent >= 0 else stop
        decoded += unquote_to_bytes(data[start:stop].replace(b"+", b" "))
        start = stop
    return decoded.decode(errors="replace")
