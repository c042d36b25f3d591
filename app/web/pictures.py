"""The pictures and parameters of a request, however the client sends them."""

from __future__ import annotations

from dataclasses import dataclass

from flask import request
from werkzeug.datastructures import FileStorage

from app.errors import BadParameter, EmptyFile, MissingFile, TooManyFiles
from app.web.bodies import whole_body
from app.web.forms import is_binary

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
