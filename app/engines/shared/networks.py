"""The networks that the engine process has loaded: each once, for as long as somebody holds it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.engines.openvino_engine import OpenvinoEngine
from app.machine import cores
from app.slots import Slots
from app.types import FloatArray


@dataclass(frozen=True)
class Wanted:
    """A network that somebody asks for.

    :param path: of its ``model.xml``.
    :param milliseconds: what a row takes on one core.
    :param state: of its files, as :func:`state_of` gives it.
    """

    path: str
    milliseconds: float
    state: str


def state_of(path: Path) -> str:
    """What tells a network's files from others that come to lie in their place.

    :raises OSError: where they are missing.
    """
    files = [one.stat() for one in (path, path.with_suffix(".bin"))]
    return " ".join(f"{one.st_dev}:{one.st_ino}:{one.st_size}:{one.st_mtime_ns}" for one in files)


def load(wanted: Wanted) -> OpenvinoEngine:
    """Load a network.

    :raises RuntimeError: OpenVINO's own, where it cannot be loaded; or where its files are others now.
    :raises OSError: where its files are missing.
    """
    path = Path(wanted.path)
    if state_of(path) != wanted.state:
        raise RuntimeError(f"{path} is not what it was when the model was loaded; load the model again")
    return OpenvinoEngine.load(path, wanted.milliseconds)


class Network:
    """A network, and the line before it."""

    def __init__(self, engine: OpenvinoEngine) -> None:
        self._engine = engine
        # One more than are computed at once: it is there when another ends. SqueezeNet answers a tenth more so. Further
        # ones wait here, because OpenVINO does not keep their order.
        self.line = Slots(cores() + 1)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of its input, without the batch."""
        return self._engine.row_shape

    def predict(self, rows: FloatArray) -> FloatArray:
        """As :meth:`app.engines.openvino_engine.OpenvinoEngine.predict`; to be called by who is in the line's turn."""
        return self._engine.predict(rows)

    def close(self) -> None:
        """Let go of it."""
        self._engine.close()


@dataclass
class _Held:
    loading: threading.Lock = field(default_factory=threading.Lock)
    holders: int = 0
    network: Network | None = None


class Networks:
    """Those that are loaded. Any thread may hold some."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Wanted, _Held] = {}

    @contextmanager
    def hold(self, wanted: Wanted) -> Iterator[Network]:
        """Hold a network, which is loaded where nobody else holds it, and closed when nobody does any more.

        :raises RuntimeError: as :func:`load`, as OSError.
        """
        with self._lock:
            held = self._held.setdefault(wanted, _Held())
            held.holders += 1
        try:
            yield self._loaded(held, wanted)
        finally:
            with self._lock:
                held.holders -= 1
                if not held.holders:
                    del self._held[wanted]
                    if held.network is not None:
                        held.network.close()

    def _loaded(self, held: _Held, wanted: Wanted) -> Network:
        with held.loading:  # one thread compiles, the others wait for it
            if held.network is None:
                held.network = Network(load(wanted))
            return held.network
