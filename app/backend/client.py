"""Calls from HTTP workers to the backend process: one connection per call at a time, reused by later calls."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from app.backend.batching import IsDisconnected, QueueResult, never_disconnected
from app.backend.networks import NetworkFile, file_state
from app.backend.protocol import FLOAT_BYTES, Channel, Disconnected, Kind, SharedBuffer, error_from
from app.backend.registrations import Registration, RegistrationFile
from app.backend.service import BackendService
from app.backend.shared_state import SharedState
from app.engines.base import Engine, check_batch
from app.engines.openvino import LONG_MILLISECONDS, OpenvinoEngine
from app.errors import ClientClosedRequest, DimpleError, EngineUnavailable, ModelFormatError, StorageError
from app.handlers.types import HandlerAnswer, HandlerRequest
from app.settings import Settings
from app.types import FloatArray
from app.utils.dispatch import about_to_block
from app.utils.system import cpu_count

RESTART_SECONDS = 30.0
"""Seconds that a call waits for an ended backend process to be restarted."""
STATUS_SECONDS = 5.0
"""Seconds that a call for the handler workers' status waits for the restart."""
MARGIN_SECONDS = 60.0
"""Seconds added to the maximum duration of a call in the backend process."""
CHANGE_SECONDS = 3600.0
"""Timeout of a change in seconds. It may install packages and load code."""
LOOK_SECONDS = 0.25
"""Seconds between two checks of a waiting call for a disconnected client."""
PAUSE_SECONDS = 0.02
MOST_ENDS = 2
"""Maximum number of times that the backend process may end during one request. The request may be the cause."""

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class BackendUnavailable(Exception):
    """Raised if no backend process answers."""


class BackendDied(Exception):
    """Raised if the backend process has ended. ``process`` is its process id."""

    def __init__(self, process: int, reason: object) -> None:
        super().__init__(str(reason))
        self.process = process


class Connection:
    """A connection to the backend process. It is used by one thread at a time.

    :param deadline: time on the monotonic clock until which to wait for a backend process that accepts it.
    :raises BackendUnavailable: if no backend process accepts it by then, or none ever will.
    """

    def __init__(self, address: bytes, deadline: float) -> None:
        self._channel, self.process = _connect(address, deadline)
        self._buffer: SharedBuffer | None = None
        self.row_shape: tuple[int, ...] = ()

    def is_over(self) -> bool:
        """Return whether the backend process has hung up. Call this only while no response is pending."""
        return self._channel.is_readable()

    def call(
        self,
        op: str,
        arguments: dict[str, Any],
        blobs: Sequence[bytes] = (),
        seconds: float = CHANGE_SECONDS,
        is_disconnected: IsDisconnected = never_disconnected,
    ) -> tuple[Any, list[bytes]]:
        """Call an operation of the backend.

        :param seconds: timeout of the response.
        :raises DimpleError: the error that the operation raises.
        :raises BackendDied: if the backend process has ended or has not answered in time.
        :raises ClientClosedRequest: if the client disconnects meanwhile.
        """
        try:
            self._channel.send(Kind.CALL, {"op": op, **arguments}, blobs)
            self._wait(seconds, is_disconnected)
            kind, text, length, *_ = self._channel.receive(Kind.DONE, Kind.FAILED)
            document, parts = self._channel.read(text, length)
        except Disconnected as error:
            raise BackendDied(self.process, error) from None
        if kind is Kind.FAILED:
            raise error_from(document)
        return document, parts

    def compute(
        self, rows: FloatArray, generation: int, timeout: float, is_disconnected: IsDisconnected
    ) -> QueueResult[FloatArray]:
        """Compute float32 rows (N, …) in the backend process: (N, classes).

        :param timeout: seconds that the rows may wait in the queue.
        :raises DimpleError: as :meth:`app.backend.networks.Network.submit`.
        :raises BackendDied: as :meth:`call`; also ClientClosedRequest.
        """
        try:
            size = FLOAT_BYTES * rows.size
            if self._buffer is None or size > self._buffer.size:
                self._buffer = self._channel.send_buffer(size)
            self._buffer.rows(len(rows), self.row_shape)[...] = rows
            self._channel.ask(len(rows), generation, timeout)
            if is_disconnected is not never_disconnected:
                self._wait(timeout + CHANGE_SECONDS, is_disconnected)
            kind, count, length, _, waited, computed = self._channel.receive(Kind.ANSWER, Kind.FAILED)
            if kind is Kind.ANSWER:
                return QueueResult(self._channel.read_rows(count, length), waited, computed)
            raise error_from(self._channel.read(count, length)[0])
        except Disconnected as error:
            raise BackendDied(self.process, error) from None

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _wait(self, seconds: float, is_disconnected: IsDisconnected) -> None:
        """Wait for the response.

        :raises ClientClosedRequest: if the client has disconnected; the connection is unusable afterwards.
        :raises Disconnected: if no response comes in time.
        """
        deadline = time.monotonic() + seconds
        while not self._channel.is_readable(min(LOOK_SECONDS, deadline - time.monotonic())):
            if is_disconnected():
                raise ClientClosedRequest("")
            if time.monotonic() >= deadline:
                raise Disconnected(f"no answer came within {seconds:.0f} s")


class ConnectionPool:
    """A pool of connections for concurrent calls from any thread. A call that was unanswered when the backend process
    ended is retried on its successor.

    :param prepare: function called with each new connection.
    """

    def __init__(self, address: bytes, prepare: Callable[[Connection], object] = lambda connection: None) -> None:
        self._address = address
        self._prepare = prepare
        self._spare = 2 * cpu_count()  # maximum number of idle connections
        self._lock = threading.Lock()
        self._free: deque[Connection] = deque()
        self._closed = False

    def run(
        self, work: Callable[[Connection], Result], patience: float = RESTART_SECONDS, again: bool = True
    ) -> Result:
        """Call a function with a connection.

        :param patience: seconds to wait for a backend process that accepts connections.
        :param again: whether the function may be retried.
        :raises EngineUnavailable: if no backend process answers, or it ended during the call.
        """
        # Connections of one ending process close at different times, and may be tried in between.
        ended: set[int] = set()
        hung_up = 0
        while True:
            try:
                connection = self._take(patience)
                try:
                    result = work(connection)
                except ClientClosedRequest:
                    connection.close()
                    raise
                except DimpleError:
                    self._put_back(connection)
                    raise
                except BaseException:  # a call may still be under way on it
                    connection.close()
                    raise
            except BackendUnavailable as error:
                raise EngineUnavailable(f"no process answers ({error})") from None
            except BackendDied as end:
                ended.add(end.process)
                hung_up += 1
                log.info("process %d, the backend, ended over a call: %s", end.process, end)
                if not again or len(ended) >= MOST_ENDS or hung_up > MOST_ENDS + self._spare:
                    raise EngineUnavailable(f"it ended {len(ended)} times over this request") from None
                continue
            self._put_back(connection)
            return result

    def release(self) -> None:
        """Close idle connections from now on."""
        with self._lock:
            self._spare = 0
            while self._free:
                self._free.pop().close()

    def close(self) -> None:
        """Close all idle connections; close the others when their calls end."""
        with self._lock:
            self._closed = True
            while self._free:
                self._free.pop().close()

    def _take(self, patience: float) -> Connection:
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed")
            while self._free:
                connection = self._free.pop()
                if not connection.is_over():
                    return connection
                connection.close()
        connection = Connection(self._address, time.monotonic() + patience)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_back(self, connection: Connection) -> None:
        """Return a connection to the pool; close it if the pool is full."""
        with self._lock:
            if not self._closed and len(self._free) < self._spare:
                self._free.append(connection)
                return
        connection.close()


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


def _connect(address: bytes, deadline: float) -> tuple[Channel, int]:
    """Connect, wait for a live backend process, and return the connection with its process id."""
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(address)
            connection.setblocking(True)
            channel = Channel(connection)
            if not channel.is_readable(deadline - time.monotonic()):
                raise BackendUnavailable("no process accepts connections")
            _, text, length, process, *_ = channel.receive(Kind.HELLO)
            channel.read(text, length)
            return channel, process
        except (Disconnected, BlockingIOError) as error:  # the process ended, or the backlog is full
            connection.close()
            if time.monotonic() > deadline:
                raise BackendUnavailable(str(error)) from None
            time.sleep(PAUSE_SECONDS)
        except OSError as error:
            connection.close()
            raise BackendUnavailable(str(error)) from None
        except BaseException:
            connection.close()
            raise
