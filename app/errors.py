"""The exception tree, with the HTTP status and the names of each error."""

from __future__ import annotations

import errno
from collections.abc import Sequence

LONGEST_TEXT = 4_000


class DimpleError(Exception):
    """Base of all errors that Dimple raises on purpose.

    The text is for clients: its length is limited, and it has no characters that UTF-8 cannot encode. A longer text
    loses its middle, because reasons come first and next steps last.

    ``status`` is the HTTP status of the response, and ``type`` the error's name in its JSON. Clients rely on both, so
    they stay when a class is renamed. Every class defines its own ``type``, and inherits the rest. The other attributes
    are for Multi Model Server's routes: its name for the error, and the status and the text if they differ from
    Dimple's.
    """

    type = "DimpleError"
    status = 500
    mms_type = "InternalServerException"
    mms_status: int | None = None
    mms_message: str | None = None

    def __init_subclass__(
        cls, type: str, status: int | None = None, mms_type: str | None = None, mms_status: int | None = None
    ) -> None:
        cls.type = type
        cls.status = status or cls.status
        cls.mms_type = mms_type or cls.mms_type
        cls.mms_status = mms_status or cls.mms_status

    def __init__(self, text: str = "") -> None:
        if len(text := str(text)) > LONGEST_TEXT:
            text = f"{text[: LONGEST_TEXT // 2]} … {text[-LONGEST_TEXT // 4 :]}"
        super().__init__(text.encode(errors="replace").decode())


class InternalError(DimpleError, type="InternalError"):
    """An unforeseen error. The log has its traceback; clients receive no details."""

    def __init__(self) -> None:
        super().__init__("Internal server error. The server's log has the details.")


# requests


class BadInput(DimpleError, type="BadInput", status=400, mms_type="BadRequestException"):
    """An invalid request."""


class MissingFile(BadInput, type="MissingFile"):
    """A request without a picture, or with files in several fields.

    :param files: names of the fields with files, if there are several.
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


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(name or "(without a name)" for name in names)[:20])


class BadForm(BadInput, type="BadForm"):
    """A multipart form that is damaged or cut off."""

    def __init__(self, reason: str) -> None:
        what = "cut off before its last boundary" if "cannot parse beyond" in reason else f"damaged: {reason}"
        super().__init__(
            f"The form of the request is {what}. Send it again, with a boundary before each part and '--' behind the "
            "last one (RFC 7578)."
        )


class EmptyFile(BadInput, type="EmptyFile"):
    """A picture of no bytes, or a file field without a file."""

    def __init__(self, name: str = "") -> None:
        what = f"The file {name!r} is empty." if name else "No file was chosen, or it is empty."
        super().__init__(f"{what} Choose a picture and send it again.")


class InvalidImage(BadInput, type="NotAPicture", status=415):
    """Bytes that cannot be decoded as an image."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"This file cannot be read as a picture: {reason}. Send JPEG, PNG, GIF, WebP, AVIF, BMP or TIFF."
        )


class PictureTooLarge(BadInput, type="PictureTooLarge", status=413):
    """A picture of more than ``max_pixels`` pixels, refused before it is decoded."""

    def __init__(self, width: int, height: int, max_pixels: int) -> None:
        super().__init__(
            f"The picture has {width} x {height} pixels; at most {max_pixels:,} pixels are allowed. "
            "Make it smaller, or raise DIMPLE_MAX_PIXELS."
        )


class TooManyFrames(BadInput, type="TooManyFrames", status=413):
    """A picture file of more than ``limit`` frames or pages, refused before one is decoded."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The file has more than {limit:,} frames or pages. Send one of them, or raise DIMPLE_MAX_FRAMES."
        )


class TooManyFiles(BadInput, type="TooManyFiles", status=413):
    """A request with more than ``limit`` pictures."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"The request carries {count} pictures; at most {limit} are allowed. Send them in parts.")


class UnsupportedContentEncoding(BadInput, type="EncodingRefused", status=415):
    """A body with a ``Content-Encoding`` other than ``accepted``."""

    def __init__(self, encoding: str, accepted: str) -> None:
        self.accepted = accepted
        super().__init__(
            f"Content-Encoding {encoding[:80]!r} is not supported (supported: {accepted}). Send the body uncompressed."
        )


class MissingParameter(BadInput, type="MissingParameter"):
    """A missing required parameter, in Multi Model Server's words."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Parameter {name} is required.")


class BadParameter(BadInput, type="BadParameter"):
    """A parameter with an invalid value."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"The parameter {name}={str(value)[:80]!r} is invalid: it must be {expected}.")


# models that answer requests


class ModelNotFound(DimpleError, type="ModelNotFound", status=404, mms_type="ModelNotFoundException"):
    """An unknown model name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.mms_message = f"Model not found: {name[:80]}"
        there = f"There are: {', '.join(known)}." if known else "No model is loaded."
        super().__init__(f"{self.mms_message}. {there}")


class ProjectNotFound(DimpleError, type="ProjectNotFound", status=404):
    """An unknown project of the page that teaches models."""

    def __init__(self, identity: str) -> None:
        super().__init__(f"There is no project {identity[:80]!r}. It may have been deleted.")


class ModelUnavailable(DimpleError, type="ModelUnavailable", status=503, mms_type="ServiceUnavailableException"):
    """A registered model that cannot answer now."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The model {name} cannot answer: {reason}")


class NoWorker(ModelUnavailable, type="NoWorker"):
    """A model without workers, in Multi Model Server's words."""

    def __init__(self, name: str) -> None:
        DimpleError.__init__(
            self, f"No worker is available to serve request for model: {name}. Consider increasing job queue size."
        )


class QueueFull(NoWorker, type="QueueFull"):
    """A model whose queue is full. Multi Model Server's message is the same as for a model without workers."""


class QueueTimeout(ModelUnavailable, type="TooLate"):
    """A request that waited in the queue for longer than the model's response timeout."""

    def __init__(self, name: str) -> None:
        DimpleError.__init__(
            self,
            f"The request timed out in the queue of the model {name}. Try again, or register the model with a longer "
            "response_timeout.",
        )


class ClientClosedRequest(ModelUnavailable, type="ClientGone"):
    """A client that closed the connection before its request was computed."""

    def __init__(self, name: str) -> None:
        DimpleError.__init__(self, f"The connection was closed before the model {name} came to this request.")


class EngineUnavailable(ModelUnavailable, type="EngineLost"):
    """An engine process that did not answer."""

    def __init__(self, reason: str) -> None:
        DimpleError.__init__(self, f"The backend process did not answer: {reason.rstrip('.')}. Try again in a moment.")


class NoReplica(ModelUnavailable, type="NoReplica"):
    """A model on a cluster without a ready replica."""

    def __init__(self, name: str) -> None:
        DimpleError.__init__(
            self, f"No replica of the model {name} is ready on the cluster. It starts by itself; try again."
        )


class ClusterUnavailable(ModelUnavailable, type="ClusterLost"):
    """A model on an unreachable cluster. ``reason`` is the text without the model's name."""

    def __init__(self, name: str, reason: str) -> None:
        self.reason = f"it is computed on a cluster, which does not do so now: {reason.rstrip('.')}. Try again."
        super().__init__(name, self.reason)


class InvalidHandlerResponse(DimpleError, type="BadAnswer", status=502):
    """An answer of a model's own code that HTTP cannot carry.

    :param what: the part of the answer, with its value.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"The handler of the model {name} answered with {what}, which HTTP cannot carry. Correct it there."
        )


# models that are registered, loaded, packed and trained


class ModelNotInStore(DimpleError, type="ModelNotInStore", status=404, mms_type="ModelNotFoundException"):
    """A URL that matches nothing in the models folder."""


class ModelConflict(DimpleError, type="ModelConflict", status=409, mms_type="ConflictStatusException"):
    """A name under which another model is registered."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Model {name} is already registered.")


class UnregisterTimeout(DimpleError, type="CleaningTimeout", status=408, mms_type="RequestTimeoutException"):
    """A model that could not be unregistered because its last requests did not end in time."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Timed out while cleaning resources: {name}")


class HandlerLoadError(DimpleError, type="HandlerLoadError"):
    """A model's own code that could not be loaded.

    :param code: 507 if memory ran out, else 500.
    """

    mms_message = "Failed to start workers"

    def __init__(self, name: str, handler: str, reason: str, code: int = 500) -> None:
        super().__init__(f"The handler {handler} of the model {name} could not be loaded: {reason}. Its log says more.")
        self.mms_status = code
        self.reason = reason


class ModelFormatError(DimpleError, type="ModelFormatError", mms_type="InvalidModelException", mms_status=400):
    """Files of a model that contradict each other or cannot be read."""


class InvalidArchive(ModelFormatError, type="InvalidArchive"):
    """A model archive that is damaged or unsafe, or has no usable manifest."""


class RequirementsError(ModelFormatError, type="RequirementsError"):
    """Python packages of a model's own code that cannot be installed."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"The requirements.txt of the model {name} could not be installed: {reason}. The log has pip's output; "
            "correct the file, or DIMPLE_PIP_OPTIONS."
        )


class PackError(DimpleError, type="PackError"):
    """A model folder that cannot be packed into an archive."""


class DataError(DimpleError, type="DataError"):
    """Training data that cannot be used."""


class FetchError(DataError, type="FetchError"):
    """A download that a web server refused, with the status of its response."""

    def __init__(self, message: str, response_status: int) -> None:
        self.response_status = response_status
        super().__init__(message)


class DownloadError(DimpleError, type="DownloadFailed", status=400, mms_type="DownloadModelException"):
    """A model that cannot be downloaded from its URL."""


# access


class UrlNotAllowed(DimpleError, type="UrlRefused", status=403, mms_type="ForbiddenException"):
    """A URL that this server may not fetch, because of its scheme, its host or its address."""

    def __init__(self, url: str, reason: str, next_step: str) -> None:
        super().__init__(f"The URL {url[:200]} is refused: {reason}. {next_step}.")


class TokenRequired(DimpleError, type="TokenWanted", status=401, mms_type="UnauthorizedException"):
    """A request without a token to a route that requires one.

    :param role: the minimum role of the token.
    """

    def __init__(self, role: str) -> None:
        super().__init__(
            f"A token for {role} is needed here. Send it as 'Authorization: Bearer TOKEN'. "
            f"Create one with: dimple token add NAME --role {role}."
        )


class InvalidToken(TokenRequired, type="TokenRefused"):
    """A token that is unknown, revoked or expired."""

    def __init__(self, role: str, expired: bool) -> None:
        self.reason = "is expired" if expired else "is not known"
        DimpleError.__init__(
            self, f"The token {self.reason}. Create another with: dimple token add NAME --role {role}."
        )


class InsufficientRole(DimpleError, type="RoleTooSmall", status=403, mms_type="ForbiddenException"):
    """A token whose role does not allow the request.

    :param required: the minimum role that does.
    """

    def __init__(self, name: str, role: str, required: str) -> None:
        self.required = required
        super().__init__(f"The token {name} is for {role}; this takes one for {required}.")


class TooManyRequests(DimpleError, type="TooManyRequests", status=429, mms_type="TooManyRequestsException"):
    """A client over its rate limit, with the ``seconds`` until it may send the next request."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"Too many requests; retry in {seconds:.1f} s.")


class TokenError(DimpleError, type="TokenError"):
    """A token that cannot be created or revoked, or a token file that cannot be read."""


# the server and the machine


class RegistryBusy(DimpleError, type="RegistryBusy", status=503, mms_type="ServiceUnavailableException"):
    """A lock on the registrations that another program holds."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"Nothing was changed: another program holds the lock on {path}. Try again; if the lock stays, end that "
            "program."
        )


class StorageError(DimpleError, type="StorageError", status=507, mms_type="InsufficientStorageException"):
    """A file that cannot be written, because the disk is full or Dimple may not write there."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path} cannot be written ({reason}). Free disk space, or fix the permissions.")


class TooManyOpenFiles(DimpleError, type="FilesExhausted", status=503, mms_type="ServiceUnavailableException"):
    """A process or machine at its limit of open files."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The server cannot open another file now ({reason}). Try again, or raise ulimit -n.")


class ClusterError(DimpleError, type="ClusterError"):
    """A cluster that cannot be used."""


class LaunchError(DimpleError, type="LaunchError"):
    """A server that cannot be started, stopped or reached."""


class SettingError(DimpleError, type="SettingError"):
    """A setting with an invalid value."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"The setting {name}={str(value)!r} is invalid: it must be {expected}.")


class UnknownSetting(SettingError, type="UnknownSetting"):
    """A name that no setting has.

    :param place: the file and line, or empty for an environment variable.
    :param similar: settings with similar names.
    """

    def __init__(self, name: str, value: str, place: str = "", similar: Sequence[str] = ()) -> None:
        hint = f"; did you mean {' or '.join(similar)}?" if similar else "."
        unknown = f"{place}: unknown setting" if place else "Unknown setting"
        DimpleError.__init__(self, f"{unknown} {name}={value!r}{hint} docs/settings.md lists all settings.")


def of_system(error: BaseException) -> DimpleError | None:
    """Return the error for an error of the operating system: a full disk, or too many open files.

    :returns: None for any other error.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return StorageError(error.filename or "a file", error.strerror)  # type: ignore[attr-defined]
    if number in (errno.EMFILE, errno.ENFILE):
        return TooManyOpenFiles(error.strerror)  # type: ignore[attr-defined]
    return None
