"""A network that the engine process computes, as a server process sees it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from app.dispatch import about_to_block
from app.engines.base import check_batch
from app.engines.openvino_engine import OpenvinoEngine
from app.engines.shared.networks import Wanted, load, state_of
from app.engines.shared.seat import Absent, Ended, Refused, Seat
from app.errors import EngineLost, ModelFormatError
from app.machine import cores
from app.types import FloatArray

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""For an engine process that has ended to be started again."""
MOST_ENDS = 2
"""How often the engine process may end over one request. It may be the request that ends it."""

Result = TypeVar("Result")


class SharedEngine:
    """Asks the engine process, over as many connections as there are calls at once. Calls that it had not answered
    when it ended are asked again of its successor; where there is none, this process computes.

    :param address: where the engine process listens.
    :param path: of ``model.xml``, with ``model.bin`` beside it.
    :param milliseconds: what a row takes on one core.
    :raises RuntimeError: where the network cannot be loaded.
    :raises EngineLost: where the engine process ended twice while it loaded.
    """

    def __init__(self, address: bytes, path: Path, milliseconds: float) -> None:
        self._address = address
        try:
            self._wanted = Wanted(str(path.absolute()), milliseconds, state_of(path))
        except OSError as error:
            raise RuntimeError(f"{path} cannot be read: {error.strerror}") from None
        self._kept = 2 * cores()  # connections that nobody uses
        self._lock = threading.Lock()
        self._free: deque[Seat] = deque()
        self._own: OpenvinoEngine | None = None
        self._closed = False
        try:
            self._row_shape = self._ask(lambda seat: seat.row_shape)
        except Absent as absent:
            self._row_shape = self._fall_back(absent).row_shape

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch, from any thread at any time.

        :param batch: float32, (N, …) as the network's input is laid out, N at least 1.
        :returns: float32, (N, classes), the network's first output as it is.
        :raises ValueError: where the batch has another shape.
        :raises ModelFormatError: where OpenVINO cannot compute the network.
        :raises EngineLost: where the engine process ended twice over it, or its successor cannot load the network.
        """
        check_batch(batch, self._row_shape)
        about_to_block()
        rows = np.ascontiguousarray(batch, np.float32)
        own = self._own
        if own is None:
            try:
                return self._ask(lambda seat: seat.compute(rows))
            except Absent as absent:
                own = self._fall_back(absent)
            except Refused as refused:
                raise EngineLost(str(refused)) from None
        return own.predict(rows)

    def close(self) -> None:
        """Let go of the network. It cannot predict after that; what is being computed is finished."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            while self._free:
                self._free.pop().close()
            if self._own is not None:
                self._own.close()

    def _ask(self, work: Callable[[Seat], Result]) -> Result:
        """Do something with a seat, again where the engine process ends meanwhile."""
        # of one process that ends, some connections do so later than others, and may be tried in between
        ended: set[int] = set()
        hung_up = 0
        while True:
            try:
                seat = self._take()
                try:
                    done = work(seat)
                except ModelFormatError:
                    self._put_back(seat)
                    raise
                except BaseException:  # nobody knows what is still under way on it
                    seat.close()
                    raise
            except Ended as end:
                ended.add(end.process)
                log.info("process %d, which computed %s, ended over a request: %s", end.process, self._wanted.path, end)
                hung_up += 1
                if len(ended) >= MOST_ENDS or hung_up > MOST_ENDS + self._kept:
                    raise EngineLost(f"it ended {len(ended)} times over this request") from None
                continue
            self._put_back(seat)
            return done

    def _take(self) -> Seat:
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed")
            while self._free:
                seat = self._free.pop()
                if not seat.is_over():
                    return seat
                seat.close()
        return Seat.take(self._address, self._wanted, time.monotonic() + PATIENCE_SECONDS)

    def _put_back(self, seat: Seat) -> None:
        """Keep a seat for the next call; the surplus of a crowd goes."""
        with self._lock:
            if not self._closed and len(self._free) < self._kept:
                self._free.append(seat)
                return
        seat.close()

    def _fall_back(self, absent: Absent) -> OpenvinoEngine:
        """Load the network in this process.

        :raises EngineLost: where that is impossible.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed")
            if self._own is None:
                log.warning("%s is computed in this server process: no other does so (%s)", self._wanted.path, absent)
                try:
                    self._own = load(self._wanted)
                except (RuntimeError, OSError) as error:
                    raise EngineLost(str(error)) from None
            return self._own
