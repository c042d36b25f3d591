"""Everything that can go wrong, in one tree. No HTTP in it: ``web/problems.py`` knows the status codes.

DimpleError
├── BadInput                  the caller sent something that cannot be used
│   ├── MissingFile           no picture in the request
│   ├── BadForm               a form that is damaged or cut off
│   ├── EmptyFile             a picture of no bytes, or a file field with nothing chosen
│   ├── NotAPicture           bytes that do not decode
│   ├── PictureTooLarge       more pixels or frames than are allowed
│   ├── TooManyFiles          more pictures in one request than are allowed
│   ├── TooManyFrames         an animation or a document of more frames or pages than are allowed
│   ├── EncodingRefused       a body that is packed for the way in a manner that is not taken
│   ├── MissingParameter      a value that is needed and not given
│   └── BadParameter          a query or form value out of range
├── ModelNotFound             no model of that name
├── ModelNotInStore           nothing in the models folder lies under that URL
├── ModelUnavailable          the model is known but cannot answer, or not now
│   ├── NoWorker              the model is registered, but no worker has been given to it
│   ├── QueueFull             as many requests wait for it as may
│   ├── TooLate               its turn did not come in time
│   ├── NoReplica             it is computed on a cluster, which has no replica of it at this moment
│   ├── ClusterLost           it is computed on a cluster, which cannot be reached
│   ├── EngineLost            the process that computes it ended over this request
│   └── ClientGone            whoever asked has closed the connection meanwhile
├── ModelConflict             a model of that name is registered already
├── CleaningTimeout           a model that goes has not answered its last requests in time
├── BadAnswer                 a model's own code answers with what HTTP cannot carry
├── HandlerLoadError          a model's own Python could not be started
├── ModelFormatError          a model's files contradict each other or cannot be read
│   ├── InvalidArchive        a model archive that is damaged, unsafe, or whose manifest says nothing usable
│   └── RequirementsError     the Python packages that a model's own code asks for cannot be installed
├── PackError                 a model's folder that cannot be packed into an archive
├── DataError                 training data that cannot be used
│   └── FetchError            a web server that refuses what is asked of it
├── DownloadFailed            a model that cannot be fetched from its URL
├── UrlRefused                a URL that this server is not to fetch
├── TokenError                a token that cannot be made or revoked, or a file of tokens that cannot be read
├── TokenWanted               a request without a token where one is needed
│   └── TokenRefused          one with a token that is unknown or expired
├── RoleTooSmall              a token that is for something less
├── TooManyRequests           a client that asks too often
├── ClusterError              what keeps a cluster from being started, joined or used
├── RegistryBusy              another program keeps the registrations locked
├── StorageError              what is to be kept cannot be written: no room, or no right to
├── FilesExhausted            the process has as many files open as it may
├── LaunchError               what keeps a server from being started, stopped or asked
└── SettingError              a setting with a value that makes no sense
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

LONGEST_TEXT = 4_000


def _readable(text: str) -> str:
    """Cut what is too long in its middle: reasons come first, next steps last."""
    if len(text) > LONGEST_TEXT:
        text = f"{text[: LONGEST_TEXT // 2]} … {text[-LONGEST_TEXT // 4 :]}"
    return text.encode(errors="replace").decode()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(name or "(without a name)" for name in names)[:20])


class DimpleError(Exception):
    """Base of all errors that Dimple raises on purpose. Its text is fit to be shown to the caller: of bounded length,
    and of characters that can be written, whatever was put into it."""

    def __init__(self, text: str = "") -> None:
        super().__init__(_readable(str(text)))


class BadInput(DimpleError):
    """The caller sent something that cannot be used."""


class MissingFile(BadInput):
    """A request without a picture, or with files of which none can be chosen.

    :param received: names of the form fields that did arrive.
    :param files: names of those that hold files, if there are several.
    """

    def __init__(self, received: Sequence[str] = (), files: Sequence[str] = ()) -> None:
        came = f" It had the fields {_listed(received)}." if received else ""
        what = f"The request carries no picture.{came}"
        if files:
            what = f"The request carries files in the fields {_listed(files)}, and only one field may have them."
        super().__init__(
            f"{what} Send the picture as the form field 'file' (curl -F file=@picture.jpg) or as the whole body "
            "(curl -T picture.jpg)."
        )


class BadForm(BadInput):
    """A multipart form that is damaged or cut off."""

    def __init__(self, reason: str) -> None:
        what = "cut off before its last boundary" if "cannot parse beyond" in reason else f"damaged: {reason}"
        super().__init__(
            f"The form of the request is {what}. Send it again, with a boundary before each part and '--' behind the "
            "last one (RFC 7578)."
        )


class EmptyFile(BadInput):
    """A picture of no bytes."""

    def __init__(self, name: str = "") -> None:
        what = f"The file {name!r} is empty." if name else "No file was chosen, or it is empty."
        super().__init__(f"{what} Choose a picture and send it again.")


class NotAPicture(BadInput):
    """Bytes that do not decode to a picture."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This is not a picture that can be read: {reason}. Send JPEG, PNG, GIF, WebP, BMP or TIFF.")


class PictureTooLarge(BadInput):
    """A picture with more pixels than are allowed, refused before it is decoded."""

    def __init__(self, width: int, height: int, max_pixels: int) -> None:
        super().__init__(
            f"The picture has {width} x {height} pixels; at most {max_pixels:,} pixels are allowed. "
            "Make it smaller, or raise DIMPLE_MAX_PIXELS."
        )


class TooManyFiles(BadInput):
    """More pictures in one request than are allowed."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"The request carries {count} pictures; at most {limit} are allowed. Send them in parts.")


class BadParameter(BadInput):
    """A query or form value that cannot be used."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"The parameter {name}={str(value)[:80]!r} cannot be used: it must be {expected}.")


class TooManyFrames(BadInput):
    """A picture file of more frames or pages than are allowed, refused before one is decoded."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The file has more than {limit:,} frames or pages. Send one of them, or raise DIMPLE_MAX_FRAMES."
        )


class EncodingRefused(BadInput):
    """A body whose ``Content-Encoding`` is not taken. ``accepted`` are those that are."""

    def __init__(self, encoding: str, accepted: str) -> None:
        self.accepted = accepted
        super().__init__(
            f"A body with Content-Encoding: {encoding[:80]} is not taken; taken is {accepted}. Send it as it is."
        )


class MissingParameter(BadInput):
    """A value that is needed and not given."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Parameter {name} is required.")


class ModelNotFound(DimpleError):
    """No model of that name.

    :param known: the names there are, for the message.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        there = f"There are: {', '.join(known)}." if known else "No model is loaded."
        self.name = name[:80]
        super().__init__(f"Model not found: {self.name}. {there}")


class ModelNotInStore(DimpleError):
    """Nothing in the models folder lies under that URL."""


class ModelUnavailable(DimpleError):
    """The model is known but cannot answer: it could not be loaded, or has no time."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The model {name} cannot answer: {reason}")


class HandlerLoadError(DimpleError):
    """A model's own Python could not be started.

    :param code: 507 where memory ran out, else 500.
    """

    def __init__(self, name: str, handler: str, reason: str, code: int = 500) -> None:
        super().__init__(f"The handler {handler} of the model {name} could not be loaded: {reason}. Its log says more.")
        self.code = code
        self.reason = reason


class BadAnswer(DimpleError):
    """A model's own code answers with what HTTP cannot carry.

    :param what: the part of the answer, with its value.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"The handler of the model {name} answered with {what}, which HTTP cannot carry. Correct it there."
        )


class NoWorker(ModelUnavailable):
    """The model is registered, but no worker has been given to it."""

    def __init__(self, name: str) -> None:
        DimpleError.__init__(
            self, f"No worker is available to serve request for model: {name}. Consider increasing job queue size."
        )


class QueueFull(NoWorker):
    """As many requests wait for the model as may. Multi Model Server says the same as where it has no worker."""


class TooLate(ModelUnavailable):
    """The request's turn did not come within the model's response timeout."""

    def __init__(self, name: str) -> None:
        DimpleError.__init__(
            self,
            f"The model {name} did not come to this request within its response timeout, because others were before it."
            " Try again, or register the model with a longer response_timeout.",
        )


class ClientGone(ModelUnavailable):
    """Whoever asked has closed the connection, so nothing was computed."""

    def __init__(self, name: str) -> None:
        DimpleError.__init__(self, f"The connection was closed before the model {name} came to this request.")


class NoReplica(ModelUnavailable):
    """The model is computed on a cluster, which has no replica of it at this moment."""

    def __init__(self, name: str) -> None:
        DimpleError.__init__(
            self, f"No replica of the model {name} is ready on the cluster. It starts by itself; try again."
        )


class ClusterLost(ModelUnavailable):
    """The model is computed on a cluster, which cannot be reached, or has lost what computed. ``reason`` says so
    without the model's name."""

    def __init__(self, name: str, reason: str) -> None:
        self.reason = f"it is computed on a cluster, which does not do so now: {reason.rstrip('.')}. Try again."
        super().__init__(name, self.reason)


class EngineLost(ModelUnavailable):
    """The process that computes what takes long did not do so, for the reason that the text says."""

    def __init__(self, reason: str) -> None:
        DimpleError.__init__(
            self, f"The process that computes this model gave no answer: {reason.rstrip('.')}. Try again in a moment."
        )


class ModelConflict(DimpleError):
    """A model of that name is registered already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Model {name} is already registered.")


class CleaningTimeout(DimpleError):
    """A model that is to go has not answered its last requests in time, and stays."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Timed out while cleaning resources: {name}")


class ModelFormatError(DimpleError):
    """A model's files contradict each other or cannot be read."""


class InvalidArchive(ModelFormatError):
    """A model archive that is damaged, unsafe, or whose manifest says nothing usable."""


class RequirementsError(ModelFormatError):
    """The Python packages that a model's own code asks for cannot be installed."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"The requirements.txt of the model {name} could not be installed: {reason}. The log has what pip said; "
            "correct the file, or DIMPLE_PIP_OPTIONS."
        )


class PackError(DimpleError):
    """A model's folder that cannot be packed into an archive."""


class DataError(DimpleError):
    """Training data that cannot be used."""


class FetchError(DataError):
    """A web server refuses what is asked of it. ``status`` is that of its answer."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


class DownloadFailed(DimpleError):
    """A model cannot be fetched from its URL."""


class UrlRefused(DimpleError):
    """A URL that this server is not to fetch, because of its scheme, its host or its address."""

    def __init__(self, url: str, reason: str, next_step: str) -> None:
        super().__init__(f"The URL {url[:200]} is refused: {reason}. {next_step}.")


class TokenError(DimpleError):
    """A token that cannot be made or revoked, or a file of tokens that cannot be read."""


class TokenWanted(DimpleError):
    """A request without a token where one is needed. ``role`` is what the token must be for."""

    def __init__(self, role: str) -> None:
        self.role = role
        super().__init__(
            f"A token for {role} is needed here. Send it as 'Authorization: Bearer TOKEN'; "
            f"flask --app app token add NAME --role {role} makes one."
        )


class TokenRefused(TokenWanted):
    """A token that is unknown, was revoked, or is expired."""

    def __init__(self, role: str, expired: bool) -> None:
        self.role = role
        self.reason = "is expired" if expired else "is not known"
        DimpleError.__init__(
            self, f"The token {self.reason}. Ask for another: flask --app app token add NAME --role {role} makes one."
        )


class RoleTooSmall(DimpleError):
    """A token that is for something less than what is asked. ``wanted`` is the role that it would need."""

    def __init__(self, name: str, role: str, wanted: str) -> None:
        self.wanted = wanted
        super().__init__(f"The token {name} is for {role}; this takes one for {wanted}.")


class TooManyRequests(DimpleError):
    """A client that asks more often than it may. ``seconds`` tell when it may again."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"Too many requests: the next is taken in {seconds:.1f} s. Ask more slowly.")


class ClusterError(DimpleError):
    """A cluster cannot be started, joined or used, for the reason that the text says."""


class RegistryBusy(DimpleError):
    """Another program keeps the registrations locked."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"Nothing was changed: another program keeps {path} locked. Try again; if it lasts, end that program."
        )


class StorageError(DimpleError):
    """What is to be kept cannot be written: no room on the disk, or no right to write there."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"Nothing was kept: {path} cannot be written ({reason}). Make room, or let Dimple write it.")


class FilesExhausted(DimpleError):
    """The process has as many files open as it may, or the machine."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The server cannot open another file now ({reason}). Try again, or raise ulimit -n.")


def of_system(error: BaseException) -> DimpleError | None:
    """What an error of the operating system means, where that is known wherever it comes up: a disk that is full, files
    that are too many. None for any other."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return StorageError(error.filename or "a file", error.strerror)  # type: ignore[attr-defined]
    if number in (errno.EMFILE, errno.ENFILE):
        return FilesExhausted(error.strerror)  # type: ignore[attr-defined]
    return None


_NO_REASON = re.compile(
    r"(Check '.*' failed at .*|Exception from \S+|FrontEnd API failed with .*|While validating .*):$"
    r"|Loading input model$|Model wasn't fully converted|Summary:$|Details:$|Not Implemented:$|-- Conversion is failed"
    r"|-- .* with a message:$|\[ONNX Frontend\] Conversion failed|To facilitate the conversion|Cannot fallback"
    r"|==> Context:"
)
"""The lines in the errors of OpenVINO and onnx that say where in their own source something failed, or that it did."""
_NODE = re.compile(r"<Node\((\w+)\): (\S+)>|with friendly_name '([^']+)'")


def reason_of(error: BaseException | bytes, longest: int | None = 300) -> str:
    """Return in one line what a library's error, or a process that failed, gives as its reason.

    It is the last line but for those in which OpenVINO and onnx name places in their source; for an exception with the
    network's node before it, if it names one. Without a line it is the exception's type; empty if a process said
    nothing.

    :param error: an exception, or what a process has written.
    :param longest: the length in characters at which it is cut off; None for any length.
    """
    text = error.decode(errors="replace") if isinstance(error, bytes) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not _NO_REASON.match(line)] or lines[-1:]
    if not lines:
        return "" if isinstance(error, bytes) else type(error).__name__
    nodes = [] if isinstance(error, bytes) else _NODE.findall(text)
    node = " ".join(part for part in nodes[0] if part) + ": " if nodes else ""
    if isinstance(error, LookupError):  # its text is the key alone
        node = f"{type(error).__name__}: "
    return (node + lines[-1].removeprefix("-- "))[:longest]


class LaunchError(DimpleError):
    """The server cannot be started, stopped or asked, for the reason that the text says."""


class SettingError(DimpleError):
    """A setting with a value that makes no sense."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"The setting {name}={str(value)!r} cannot be used: it must be {expected}.")
