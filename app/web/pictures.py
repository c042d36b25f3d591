"""The pictures and parameters of a request, however the client sends them."""

from __future__ import annotations

from dataclasses import dataclass

from flask import request
from werkzeug.datastructures import FileStorage

from app.errors import BadParameter, EmptyFile, MissingFile, TooManyFiles
from app.web.bodies import whole_body

FIELD = "file"


@dataclass(frozen=True)
class Upload:
    """A picture as it came. ``name`` is the client's name for it: text to show, never a path to use."""

    name: str
    data: bytes


def read_uploads(max_files: int) -> list[Upload]:
    """The pictures of the request: its parts named ``file``, the only part with a file, or the whole body.

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
    """The one picture of a form.

    :raises MissingFile: where there is none.
    :raises TooManyFiles: where there are several.
    :raises EmptyFile: where no file was chosen, or it has no bytes.
    """
    upload = read_uploads(1)[0]
    check_filled(upload)
    return upload


def check_filled(upload: Upload) -> None:
    """Refuse what no model needs to look at.

    :raises EmptyFile: where a part of a form carries no name or no bytes.
    """
    if not upload.data or (not upload.name and request.mimetype == "multipart/form-data"):
        raise EmptyFile(upload.name)


def _file_parts() -> list[FileStorage]:
    named = request.files.getlist(FIELD)
    if named:
        return named
    parts = [part for _, part in request.files.items(multi=True)]
    if len(parts) == 1:
        return parts
    raise MissingFile([*request.files, *request.form])


def read_top() -> int | None:
    """How many classes the client asks for with ``?top=K``; None where it does not say.

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
