"""Everything that can go wrong, in one tree. No HTTP in it: ``web/problems.py`` knows the status codes.

DimpleError
├── BadInput                  the caller sent something that cannot be used
│   ├── MissingFile           no picture in the request
│   ├── EmptyFile             a picture of no bytes, or a file field with nothing chosen
│   ├── NotAPicture           bytes that do not decode
│   ├── PictureTooLarge       more pixels or frames than are allowed
│   ├── TooManyFiles          more pictures in one request than are allowed
│   ├── MissingParameter      a value that is needed and not given
│   └── BadParameter          a query or form value out of range
├── ModelNotFound             no model of that name
├── ModelNotInStore           nothing in the models folder lies under that URL
├── ModelUnavailable          the model is known but cannot answer, or not now
│   ├── NoWorker              the model is registered, but no worker has been given to it
│   ├── QueueFull             as many requests wait for it as may
│   ├── TooLate               its turn did not come in time
│   └── ClientGone            whoever asked has closed the connection meanwhile
├── ModelConflict             a model of that name is registered already
├── CleaningTimeout           a model that goes has not answered its last requests in time
├── HandlerLoadError          a model's own Python could not be started
├── ModelFormatError          a model's files contradict each other or cannot be read
│   └── InvalidArchive        a model archive that is damaged, unsafe, or whose manifest says nothing usable
├── PackError                 a model's folder that cannot be packed into an archive
├── DataError                 training data that cannot be used
│   └── FetchError            a web server that refuses what is asked of it
├── DownloadFailed            a model that cannot be fetched from its URL
├── LaunchError               what keeps a server from being started, stopped or asked
└── SettingError              a setting with a value that makes no sense
"""

from __future__ import annotations

from collections.abc import Sequence


class DimpleError(Exception):
    """Base of all errors that Dimple raises on purpose. Its text is fit to be shown to the caller."""


class BadInput(DimpleError):
    """The caller sent something that cannot be used."""


class MissingFile(BadInput):
    """A request without a picture.

    :param received: names of the form fields that did arrive.
    """

    def __init__(self, received: Sequence[str] = ()) -> None:
        came = f" It had the fields {', '.join(sorted(received))}." if received else ""
        super().__init__(
            f"The request carries no picture.{came} Send it as the form field 'file' (curl -F file=@picture.jpg) "
            "or as the whole body (curl -T picture.jpg)."
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


class LaunchError(DimpleError):
    """The server cannot be started, stopped or asked, for the reason that the text says."""


class SettingError(DimpleError):
    """A setting with a value that makes no sense."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"The setting {name}={str(value)!r} cannot be used: it must be {expected}.")
