"""The request at hand: the application's services, what the client accepts, its body and its pictures."""

from __future__ import annotations

import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

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
    """The rooms behind the web, wired together by :func:`app.create_app`."""

    settings: Settings
    registry: Registry
    uploads: Uploads
    by_name: ByName


def services() -> Services:
    """Return the one that belongs to the application that serves the present request."""
    extension: Services = current_app.extensions["dimple"]
    return extension


PROGRAMS_ONLY = ("/predict", "/healthz", "/readyz")


def wants_html() -> bool:
    """Say whether the answer should be a page: the client prefers HTML, and the route has pages at all."""
    if request.path.startswith(PROGRAMS_ONLY):
        return False
    return accepted_type(["application/json", "text/html"]) == "text/html"


def accepted_type(types: Sequence[str]) -> str | None:
    """Return which of the types the client prefers, whatever parameters it gives, such as a charset.

    :param types: without parameters, the most fitting first.
    :returns: None if the client accepts none of them.
    """
    accepted = MIMEAccept((text.partition(";")[0].strip(), quality) for text, quality in request.accept_mimetypes)
    return accepted.best_match(types)


def whole_body() -> bytes:
    """All of the present request's body.

    :raises RequestEntityTooLarge: where it is longer than the settings allow.
    :raises ClientDisconnected: where the client ends before it does.
    """
    length, most = request.content_length, request.max_content_length
    if length is None or "stream" in vars(request):  # somebody has begun to read
        data = request.get_data(cache=False)
        if length is None and len(data) == most:
            raise RequestEntityTooLarge()  # Werkzeug ends a body of unknown length at the limit, silently
        return data
    if most is not None and length > most:
        raise RequestEntityTooLarge()
    try:
        data = bytes(request.environ["wsgi.input"].read(length))  # without Werkzeug's streams: 30 microseconds
    except OSError:
        raise ClientDisconnected() from None
    if len(data) < length:
        raise ClientDisconnected()
    return data


def inflate(chunks: Iterable[bytes], wbits: int, most: int) -> bytes:
    """Decompress a stream of zlib's or gzip's. Never more than ``most`` bytes of output exist.

    :param chunks: the stream in pieces, which are read no further than it is allowed to inflate.
    :param wbits: the format, as :func:`zlib.decompressobj` takes it.
    :raises RequestEntityTooLarge: if there is more output.
    :raises zlib.error: if it is not such a stream.
    :raises EOFError: if it is cut off, or something follows it.
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
    """Return a question that may be asked later, from any thread: has the client of this request closed its connection?

    A client that has only ended its own half counts as gone, as most servers have it. Under a server that does not show
    its socket, and over TLS, where nothing can be seen without reading, everybody stays.
    """
    connection = request.environ.get("gunicorn.socket")
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
        return never_disconnected

    def is_disconnected() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False  # open, and silent
        except OSError:
            return True

    return is_disconnected


FIELD = "file"


@dataclass(frozen=True)
class Upload:
    """A picture as it came. ``name`` is the client's name for it: text to show, never a path to use."""

    name: str
    data: bytes


def read_uploads(max_files: int) -> list[Upload]:
    """Return the pictures of the request: its parts named ``file``, those of the only field with files, or the whole
    body.

    A form is taken apart only when it is multipart: ``curl --data-binary`` calls every body a urlencoded form.

    :raises MissingFile: where there is none.
    :raises EmptyFile: where nothing was sent.
    :raises TooManyFiles: where there are more than ``max_files``.
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
    """Return the one picture of a form.

    :raises MissingFile: where there is none.
    :raises TooManyFiles: where there are several.
    :raises EmptyFile: where no file was chosen, or it has no bytes.
    """
    upload = read_uploads(1)[0]
    check_filled(upload)
    return upload


def check_filled(upload: Upload) -> None:
    """Refuse what no model needs to look at.

    :raises EmptyFile: if it has no bytes, or is a text without a file name in a form.
    """
    nameless = not upload.name and request.mimetype == "multipart/form-data"
    if not upload.data or (nameless and not is_binary(upload.data)):  # browsers send a field with nothing chosen so
        raise EmptyFile(upload.name)


def _file_parts() -> list[FileStorage]:
    files = request.files
    if FIELD in files or len(files) == 1:
        return files.getlist(FIELD if FIELD in files else next(iter(files)))
    raise MissingFile([*files, *request.form], files=list(files))


def read_top() -> int | None:
    """Return how many classes the client asks for with ``?top=K``; None where it does not say.

    :raises BadParameter: where it is not a whole number of at least 1.
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
