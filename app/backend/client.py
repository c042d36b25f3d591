"""The backend process as HTTP workers see it: its registry, its queues, and the networks that it computes."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.backend.batching import IsDisconnected, QueueResult, never_disconnected
from app.backend.connections import CHANGE_SECONDS, RESTART_SECONDS, Connection, ConnectionPool
from app.backend.networks import NetworkFile, file_state
from app.backend.registrations import Registration, RegistrationFile
from app.backend.service import BackendService
from app.backend.shared_state import SharedState
from app.engines.base import Engine, check_batch
from app.engines.openvino import LONG_MILLISECONDS, OpenvinoEngine
from app.errors import EngineUnavailable, ModelFormatError, StorageError
from app.handlers.types import HandlerAnswer, HandlerRequest
from app.settings import Settings
from app.types import FloatArray
from app.utils.dispatch import about_to_block

STATUS_SECONDS = 5.0
"""Seconds that a call for the handler workers' status waits for the restart."""
MARGIN_SECONDS = 60.0
"""Seconds added to the maximum duration of a call in the backend process."""


class RemoteEngine:
    """A network that the backend process computes.

    :param path: path of ``model.xml``, with ``model.bin`` beside it.
    :param milliseconds: milliseconds that a row takes on one core.
    :raises RuntimeError: if the network cannot be loaded.
    :raises EngineUnavailable: if no backend process answers.
    """

    def __init__(self, address: bytes, path: Path, milliseconds: float) -> None:
        try:
            self._file = NetworkFile(str(path.absolute()), milliseconds, file_state(path))
        except OSError as error:
            raise RuntimeError(f"{path} cannot be read: {error.strerror}") from None
        self.name = path.parent.name
        self._pool = ConnectionPool(address, self._open)
        try:
            self._row_shape = self._pool.run(lambda connection: connection.row_shape)
        except ModelFormatError as error:
            raise RuntimeError(str(error)) from None

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch. Any thread may call this at any time.

        :param batch: float32, (N, …) in the layout of the network's input, N at least 1.
        :returns: float32, (N, classes), the network's unmodified first output.
        :raises ValueError: if the batch has another shape.
        :raises ModelFormatError: if OpenVINO cannot compute the network.
        :raises EngineUnavailable: if the backend process ended twice during the call, or its successor cannot load the
            network.
        """
        return self.submit(batch, 0, CHANGE_SECONDS).result

    def submit(
        self, batch: FloatArray, generation: int, timeout: float, is_disconnected: IsDisconnected = never_disconnected
    ) -> QueueResult[FloatArray]:
        """Compute a batch in its turn among the batches of the same registration.

        :param timeout: seconds that the batch may wait in the queue.
        :raises DimpleError: as :meth:`app.backend.batching.BatchQueue.submit`; otherwise as :meth:`predict`.
        """
        check_batch(batch, self._row_shape)
        about_to_block()
        return self._pool.run(lambda connection: connection.compute(batch, generation, timeout, is_disconnected))

    def release(self) -> None:
        """Release the network after the current calls. It can still predict, but more slowly."""
        self._pool.release()

    def close(self) -> None:
        """Close the network after the current calls. It cannot predict afterwards."""
        self._pool.close()

    def _open(self, connection: Connection) -> None:
        try:
            shape, _ = connection.call("open", {"name": self.name, "file": asdict(self._file)})
        except ModelFormatError as error:
            if hasattr(self, "_row_shape"):  # an earlier load succeeded
                raise EngineUnavailable(str(error)) from None
            raise
        connection.row_shape = tuple(shape)


class RemoteQueue:
    """The queue before a network that the backend process computes.

    :param timeout: seconds that a request may wait before it is computed.
    """

    def __init__(self, name: str, engine: RemoteEngine, timeout: float) -> None:
        engine.name = name
        self._engine = engine
        self._timeout = timeout
        self.generation = 0

    def submit(self, item: FloatArray, is_disconnected: IsDisconnected = never_disconnected) -> QueueResult[FloatArray]:
        """Compute a batch, as :meth:`RemoteEngine.submit`."""
        return self._engine.submit(item, self.generation, self._timeout, is_disconnected)


class BackendClient:
    """A client of the backend process with the methods of :class:`app.backend.service.BackendService`, for any
    thread."""

    def __init__(self, address: bytes, state: SharedState, settings: Settings) -> None:
        self.state = state
        self._address = address
        self._settings = settings
        self._file = RegistrationFile(settings.instance_dir)
        self._pool = ConnectionPool(address)
        self._presence: Connection | None = None

    def version(self) -> int:
        """Return the registry's version. It differs after every change."""
        return self.state.version

    def wait_started(self) -> None:
        """Wait until the backend process knows all models, and keep it serving for the lifetime of this process."""
        self._pool.run(lambda connection: connection.call("wait_started", {}))
        self._presence = Connection(self._address, time.monotonic() + RESTART_SECONDS)

    def registered(self) -> dict[str, Registration]:
        """Return the registrations by name.

        :raises StorageError: if the registry cannot be read.
        """
        try:
            return {name: model for name, model in self._file.read().models.items() if not model.removed}
        except (OSError, ValueError) as error:
            raise StorageError(self._file.path, str(error)) from None

    def register(self, registration: Registration, replacing: bool) -> Registration:
        """Register a model."""
        arguments = {"registration": asdict(registration), "replacing": replacing}
        return Registration(**self._change("register", arguments))

    def scale(self, name: str, least: int, most: int, wait_seconds: float) -> None:
        """Change a model's numbers of workers."""
        self._change("scale", {"name": name, "least": least, "most": most, "wait_seconds": wait_seconds})

    def unregister(self, name: str) -> None:
        """Unregister a model."""
        self._change("unregister", {"name": name})

    def answer(
        self, name: str, generation: int, request: HandlerRequest, timeout: float, is_disconnected: IsDisconnected
    ) -> QueueResult[HandlerAnswer]:
        """Answer a request with the model's own code."""
        fields = [(field.name, field.content_type, field.is_file) for field in request.fields]
        arguments = {
            "name": name,
            "generation": generation,
            "request": {"id": request.request_id, "headers": dict(request.headers), "fields": fields},
        }
        blobs = [field.data for field in request.fields]
        about_to_block()
        seconds = 2 * timeout + MARGIN_SECONDS  # in the queue, and in the code
        done, (body,) = self._pool.run(
            lambda connection: connection.call("answer", arguments, blobs, seconds, is_disconnected)
        )
        answer = done["answer"]
        error = answer.pop("error")
        result = HandlerAnswer(**{**answer, "body": body, "error": tuple(error) if error else None})
        return QueueResult(result, done["waited"], done["computed"])

    def status(self, generation: int) -> dict[str, Any]:
        """Return the status of the workers of a model with code."""
        try:
            arguments: dict[str, Any] = self._pool.run(
                lambda connection: connection.call("status", {"generation": generation}, seconds=MARGIN_SECONDS)[0],
                STATUS_SECONDS,
            )
            return arguments
        except EngineUnavailable as error:
            return {"workers": [], "failure": str(error)}

    def load_network(self, path: Path, milliseconds: float) -> Engine:
        """Load ``model.xml`` with the ``model.bin`` beside it: a slow network in the backend process, a fast one in
        this process. A hop between processes costs as much as a fast network's computation."""
        if self._settings.shared_engine and milliseconds >= LONG_MILLISECONDS:
            return RemoteEngine(self._address, path, milliseconds)
        return OpenvinoEngine.load(path, milliseconds)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        if self._presence is not None:
            self._presence.close()

    def _change(self, op: str, arguments: dict[str, Any]) -> Any:
        """Make a change without a retry, because a backend process that ended may have made it."""
        about_to_block()
        return self._pool.run(lambda connection: connection.call(op, arguments)[0], again=False)


Backend = BackendService | BackendClient
"""A backend in the same process or behind a socket."""
