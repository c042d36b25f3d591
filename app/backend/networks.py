"""Slow networks in the backend process: each is compiled once, and stays loaded while a connection uses it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.backend.batching import BatchQueue, IsDisconnected, QueueConfig, QueueResult
from app.engines.openvino import OpenvinoEngine
from app.errors import DimpleError
from app.types import FloatArray
from app.utils.system import cpu_count


@dataclass(frozen=True)
class NetworkFile:
    """A network file.

    :param path: path of its ``model.xml``.
    :param milliseconds: milliseconds that a row takes on one core.
    :param state: state of its files, as :func:`file_state` returns it.
    """

    path: str
    milliseconds: float
    state: str


def file_state(path: Path) -> str:
    """Return a string that changes if a network's files are replaced.

    :raises OSError: if the files are missing.
    """
    files = [item.stat() for item in (path, path.with_suffix(".bin"))]
    return " ".join(f"{file.st_dev}:{file.st_ino}:{file.st_size}:{file.st_mtime_ns}" for file in files)


class Network:
    """A compiled network with a queue for each of its registrations.

    :raises RuntimeError: OpenVINO's own, if the network cannot be loaded; or if its files have been replaced.
    :raises OSError: if its files are missing.
    """

    def __init__(self, file: NetworkFile) -> None:
        path = Path(file.path)
        if file_state(path) != file.state:
            raise RuntimeError(f"{path} is not what it was when the model was loaded; load the model again")
        self._engine = OpenvinoEngine.load(path, file.milliseconds)
        self._lock = threading.Lock()
        self._queues: dict[int, BatchQueue[FloatArray, FloatArray]] = {}

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Return the shape of the network's input without the batch axis."""
        return self._engine.row_shape

    def submit(
        self, name: str, generation: int, rows: FloatArray, timeout: float, is_disconnected: IsDisconnected
    ) -> QueueResult[FloatArray]:
        """Compute rows (N, …) in their turn.

        :param timeout: seconds that the rows may wait in the queue.
        :raises DimpleError: as :meth:`app.backend.batching.BatchQueue.submit`.
        """
        return self._queue(name, generation, timeout).submit(rows, is_disconnected)

    def forget(self, generation: int, error: DimpleError | None) -> None:
        """Remove the queue of an ended registration.

        :param error: raised for the requests that wait in it; None computes them.
        """
        with self._lock:
            queue = self._queues.pop(generation, None)
        if queue is not None and error is not None:
            queue.refuse(error)

    def close(self) -> None:
        """Release the network's resources."""
        self._engine.close()

    def _queue(self, name: str, generation: int, timeout: float) -> BatchQueue[FloatArray, FloatArray]:
        with self._lock:
            if (queue := self._queues.get(generation)) is None:
                # One batch more than can be computed at once is ready when another ends: SqueezeNet's throughput rises
                # by a tenth. Further batches wait here, because OpenVINO does not keep their order.
                config = QueueConfig(concurrency=cpu_count() + 1, timeout=timeout)
                queue = self._queues[generation] = BatchQueue(name, self._compute, config)
            return queue

    def _compute(self, rows: Sequence[FloatArray]) -> list[FloatArray]:
        return [self._engine.predict(row) for row in rows]


@dataclass
class _Loaded:
    loading: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    network: Network | None = None


class Networks:
    """The loaded networks. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[NetworkFile, _Loaded] = {}

    @contextmanager
    def acquire(self, file: NetworkFile) -> Iterator[Network]:
        """Use a network. It is loaded for its first user and closed after its last.

        :raises RuntimeError: as :class:`Network`; also OSError.
        """
        with self._lock:
            loaded = self._loaded.setdefault(file, _Loaded())
            loaded.users += 1
        try:
            with loaded.loading:  # one thread compiles, the others wait for it
                if loaded.network is None:
                    loaded.network = Network(file)
            yield loaded.network
        finally:
            with self._lock:
                loaded.users -= 1
                if not loaded.users:
                    del self._loaded[file]
                    if loaded.network is not None:
                        loaded.network.close()

    def forget(self, generation: int, error: DimpleError | None) -> None:
        """Remove the queues of an ended registration, as :meth:`Network.forget`."""
        with self._lock:
            networks = [item.network for item in self._loaded.values() if item.network is not None]
        for network in networks:
            network.forget(generation, error)
