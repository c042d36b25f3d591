"""The current request: the application's services, accepted types, body and uploaded images."""

from __future__ import annotations

import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import current_app, request
from werkzeug.datastructures import FileStorage, MIMEAccept
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from app.backend.batching import never_disconnected
from app.backend.sources import ByName
from app.errors import BadParameter, EmptyFile, MissingFile, TooManyFiles
from app.serving.registry import Registry
from app.serving.uploads import Uploads
from app.settings import Settings
from app.web.forms import is_binary


@dataclass(frozen=True)
class Services:
    """Services behind the web layer, wired together by :func:`app.create_app`.

    ``by_name`` fetches a model of the catalogue; ``catalogue`` lists it.
    """

    settings: Settings
    registry: Registry
    uploads: Uploads
    by_name: ByName
    catalogue: Callable[[], list[dict[str, Any]]]


def services() -> Services:
    """Return the services of the application that serves the current request."""
    extension: Services = current_app.extensions["dimple"]
    return extension


PROGRAMS_ONLY = ("/predict", "/healthz", "/readyz")


def wants_html() -> bool:
    """Return whether the response should be a page: the client prefers HTML, and the route has pages."""
    if request.path.startswith(PROGRAMS_ONLY):
        return False
    return accepted_type(["application/json", "text/html"]) == "text/html"


def accepted_type(types: Sequence[str]) -> str | None:
    """Return the type that the client prefers; parameters in Accept, such as a charset, are ignored.

    :param types: types without parameters, the most suitable first.
    :returns: None if the client accepts none of them.
    """
    accepted = MIMEAccept((text.partition(";")[0].strip(), quality) for text, quality in request.accept_mimetypes)
    return accepted.best_match(types)


def whole_body() -> bytes:
    """Return the whole body of the current request.

    :raises RequestEntityTooLarge: if the body is longer than the settings allow.
    :raises ClientDisconnected: if the client disconnects before the body is complete.
    """
    length, most = request.content_length, request.max_content_length
    if length is None or "stream" in vars(request):  # the body has been read in part
        data = request.get_data(cache=False)
        if length is None and len(data) == most:
            raise RequestEntityTooLarge()  # Werkzeug silently truncates a body of unknown length at the limit
        return data
    if most is not None and length > most:
        raise RequestEntityTooLarge()
    try:
        data = bytes(request.environ["wsgi.input"].read(length))  # bypassing Werkzeug's streams saves 30 microseconds
    except OSError:
        raise ClientDisconnected() from None
    if len(data) < length:
        raise ClientDisconnected()
    return data


def inflate(chunks: Iterable[bytes], wbits: int, most: int) -> bytes:
    """Decompress a zlib or gzip stream. Never more than ``most`` bytes of output exist.

    :param chunks: chunks of the stream, read only until the limit is reached.
    :param wbits: format, as in :func:`zlib.decompressobj`.
    :raises RequestEntityTooLarge: if the output is longer.
    :raises zlib.error: if the data is not such a stream.
    :raises EOFError: if the stream is truncated, or other data follows it.
    """
    inflater, pieces, left = zlib.decompressobj(wbits), [], most + 1
    for chunk in chunks:
        pieces.append(inflater.decompress(chunk, left))
        left -= len(pieces[-1])
        if not left:
            raise RequestEntityTooLarge()
        if inflater.unused_data:
            break
    if not inflater.eof or inflater.unused_data:
        raise EOFError()
    return b"".join(pieces)


def client_disconnected() -> Callable[[], bool]:
    """Return a function that checks, from any thread, if the client of this request has closed its connection.

    A client that has only shut down its sending half counts as disconnected, as in most servers. The function always
    returns False if the server does not expose its socket, and over TLS, where a check would have to read.
    """
    connection = request.environ.get("gunicorn.socket")
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
        return never_disconnected

    def is_disconnected() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False  # open and idle
        except OSError:
            return True

    return is_disconnected


FIELD = "file"


@dataclass(frozen=True)
class Upload:
    """An uploaded image. ``name`` is the client's file name: text to display, never a path to use."""

    name: str
    data: bytes


def read_uploads(max_files: int) -> list[Upload]:
    """Return the images of the request: its parts named ``file``, the parts of its only file field, or the whole body.

    Only multipart forms are parsed: ``curl --data-binary`` labels every body as a urlencoded form.

    :raises MissingFile: if the request has no image.
    :raises TooManyFiles: if there are more than ``max_files`` images.
    """
    if request.mimetype != "multipart/form-data":
        data = whole_body()
        if not data:
            raise MissingFile()
        return [Upload("", data)]
    parts = _file_parts()
    if len(parts) > max_files:
        raise TooManyFiles(len(parts), max_files)
    return [Upload(part.filename or "", part.read()) for part in parts]


def read_upload() -> Upload:
    """Return the only image of the request.

    :raises MissingFile: if there is none.
    :raises TooManyFiles: if there are several.
    :raises EmptyFile: if no file was chosen, or the file has no bytes.
    """
    upload = read_uploads(1)[0]
    check_filled(upload)
    return upload


def check_filled(upload: Upload) -> None:
    """Reject an upload without an image.

    :raises EmptyFile: if the upload has no bytes, or is a form's text field without a file name.
    """
    nameless = not upload.name and request.mimetype == "multipart/form-data"
    if not upload.data or (nameless and not is_binary(upload.data)):  # browsers send an empty file field so
        raise EmptyFile(upload.name)


def _file_parts() -> list[FileStorage]:
    files = request.files
    if FIELD in files or len(files) == 1:
        return files.getlist(FIELD if FIELD in files else next(iter(files)))
    raise MissingFile([*files, *request.form], files=list(files))


def read_top() -> int | None:
    """Return the number of classes that the client requests with ``?top=K``; None without the parameter.

    :raises BadParameter: if the value is not a whole number of at least 1.
    """
    text = request.args.get("top")
    if text is None:
        return None
    try:
        top = int(text)
    except ValueError:
        top = 0
    if top < 1:
        raise BadParameter("top", text, "a whole number of at least 1")
    return top
