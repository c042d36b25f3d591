"""OpenVINO, the fast engine: it computes converted models, one row at a time.

Each row is a separate infer request, also within a batch. On a CPU eight rows at once take as long as one after
another, and requests spread over streams. A row's result does not depend on the other rows, but for the last bit: lone
and concurrent rows may be compiled differently.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.base import check_batch
from app.errors import ModelFormatError
from app.types import FloatArray
from app.utils.dispatch import about_to_block
from app.utils.error_text import reason_of
from app.utils.openvino_runtime import compile_model, core, drop_page_cache
from app.utils.system import cpu_count

LONG_MILLISECONDS = 4.0
"""Milliseconds on one core from which a single row gets all cores.

Shorter rows gain nothing: they are computed in the calling thread, without a hand-over.
"""


_first = threading.Lock()
"""Lock for the first request of each engine.

OpenVINO's Python bindings build tables at their first request, and two threads that do so at once deadlock: one has the
interpreter's lock, the other the table's lock. So every engine computes once before it is used.
"""


class _InFlight:
    """A counter of the calls that this process is computing, over all its networks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0

    @contextmanager
    def counted(self) -> Iterator[bool]:
        """Count a call while it is computed; yield whether it is the only one."""
        with self._lock:
            self._calls += 1
            is_alone = self._calls == 1
        try:
            yield is_alone
        finally:
            with self._lock:
                self._calls -= 1


_in_flight = _InFlight()


class OpenvinoEngine:
    """A compiled network, with streams on all cores for concurrent rows and for single rows.

    Concurrent rows get one stream per core. A single row gets one stream of all cores if that is faster. OpenVINO
    assigns requests to streams in order of arrival, so none starves. Threads are not pinned to cores: every process
    would be pinned to the same ones.
    """

    def __init__(self, model: Any, milliseconds: float | None = None) -> None:
        """Compile an OpenVINO model that takes (1, …), and compute once.

        On several cores it is compiled twice, which doubles the memory for weights: OpenVINO shares them between
        streams, not between compiled models.

        :param milliseconds: time of one row on one core. If None, because it is not yet known or does not matter, the
            network is compiled once, for concurrent rows.
        """
        self._row_shape: tuple[int, ...] = tuple(model.input(0).shape)[1:]
        fixed = _has_fixed_shapes(model)
        never_fails = fixed and all(node.get_type_name() in ARITHMETIC for node in model.get_ops())
        self._crowd = _Requests(compile_model(model, streams=cpu_count(), threads=cpu_count()), never_fails)
        self._milliseconds = LONG_MILLISECONDS if milliseconds is None else milliseconds
        self._is_long = milliseconds is not None and milliseconds >= LONG_MILLISECONDS
        self._lone = self._crowd
        if milliseconds is not None and cpu_count() > 1 and (self._is_long or fixed):
            threads = cpu_count() if self._is_long else 1
            self._lone = _Requests(compile_model(model, streams=1, threads=threads), never_fails)
        self._at_once = 2 * cpu_count()  # requests of one batch: a stream never waits for this thread
        for requests in (self._crowd, self._lone):
            with _first:
                requests.compute(np.zeros((1, *self._row_shape), np.float32), self._at_once)
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def load(cls, path: Path, milliseconds: float) -> OpenvinoEngine:
        """Load ``model.xml`` with the ``model.bin`` beside it, which is memory-mapped.

        :param milliseconds: time of one row on one core.
        :raises RuntimeError: by OpenVINO, if the file is not an OpenVINO model, or this machine cannot compute it.
        """
        engine = cls(core().read_model(path), milliseconds)
        drop_page_cache(path.with_suffix(".bin"))
        return engine

    @property
    def is_short(self) -> bool:
        """Return whether a row is short enough to be computed in the thread that reads all connections."""
        return self._milliseconds < LONG_MILLISECONDS

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Return the shape of the network's input without the batch axis."""
        return self._row_shape

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch, from any thread at any time.

        :param batch: float32, (N, …) in the layout of the network's input, N at least 1.
        :returns: float32, (N, classes), the network's unchanged first output.
        :raises ValueError: if the batch has another shape.
        :raises ModelFormatError: if OpenVINO cannot compute the network.
        """
        check_batch(batch, self._row_shape)
        rows = np.ascontiguousarray(batch, np.float32)
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed")
            crowd, lone = self._crowd, self._lone
        if self._milliseconds * len(rows) >= LONG_MILLISECONDS:
            about_to_block()
        with _in_flight.counted() as is_alone:  # long rows are computed by only one process of a server
            requests = lone if is_alone and len(rows) == 1 else crowd
            try:
                return requests.compute(rows, self._at_once)
            except RuntimeError as error:
                raise ModelFormatError(f"OpenVINO cannot compute this network: {reason_of(error)}") from None

    def close(self) -> None:
        """Release the network after the running computations; ``predict`` must not be called after that."""
        with self._lock:
            self._closed = True
            del self._crowd, self._lone


class _Requests:
    """A pool of a compiled model's infer requests, each with one input, one output and one thread at a time.

    :param never_fails: whether no input makes the network fail.
    """

    def __init__(self, compiled: Any, never_fails: bool) -> None:
        self._compiled = compiled
        self._never_fails = never_fails
        self._free: deque[_Request] = deque()  # its pop and append need no lock

    def compute(self, rows: FloatArray, at_once: int) -> FloatArray:
        """Compute rows (N, …) -> (N, classes), with at most ``at_once`` of them in flight."""
        if len(rows) == 1:
            request = self._take()
            answer = request.compute(rows)
            self._free.append(request)
            return answer
        requests = [self._take() for _ in range(min(len(rows), at_once))]
        answers: list[FloatArray] = []
        for number in range(len(rows) + len(requests)):
            request = requests[number % len(requests)]
            if number >= len(requests):
                answers.append(request.finish())
            if number < len(rows):
                request.start(rows[number : number + 1])
        self._free.extend(requests)
        return np.concatenate(answers)

    def _take(self) -> _Request:
        try:
            return self._free.pop()
        except IndexError:
            return _Request(self._compiled.create_infer_request(), self._never_fails)


class _Request:
    """An infer request with its own input array.

    Copying a row into that array takes microseconds; passing an array through OpenVINO's Python bindings takes 0.2 ms.
    """

    def __init__(self, request: Any, never_fails: bool) -> None:
        self._request = request
        self._never_fails = never_fails
        self._input = request.get_input_tensor(0).data

    def compute(self, row: FloatArray) -> FloatArray:
        """Compute a row (1, …) -> (1, classes), float32.

        OpenVINO's own ``infer`` loses errors of a single-threaded stream, and returns what was in memory before.
        ``start_async`` reports them, but its hand-over to another thread takes as long as a short network.
        """
        if self._never_fails:
            self._input[...] = row
            self._request.infer(share_outputs=True)
            return self._answer()
        self.start(row)
        return self.finish()

    def start(self, row: FloatArray) -> None:
        """Start to compute a row; a call of :meth:`finish` must follow."""
        self._input[...] = row
        self._request.start_async()

    def finish(self) -> FloatArray:
        """Wait for the row that was started, and return its output."""
        self._request.wait()
        return self._answer()

    def _answer(self) -> FloatArray:
        # the tensor is fetched each time, as some networks move it; it is copied, as the next row overwrites it
        answer: FloatArray = self._request.get_output_tensor(0).data.reshape(1, -1).astype(np.float32)
        return answer


ARITHMETIC = frozenset(
    {
        *("Add", "AvgPool", "Clamp", "Concat", "Constant", "Convert", "Convolution", "Divide", "Elu", "FakeQuantize"),
        *("GroupConvolution", "HSigmoid", "HSwish", "LRN", "MatMul", "MaxPool", "Maximum", "Minimum", "Multiply"),
        *("PRelu", "Pad", "Parameter", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Result", "Sigmoid", "Slice"),
        *("Softmax", "Split", "Squeeze", "StridedSlice", "Subtract", "Swish", "Tanh", "Transpose", "Unsqueeze"),
        "VariadicSplit",
    }
)
"""Operations that accept every value if the shapes are fixed; operations that look up an index do not."""


def _has_fixed_shapes(model: Any) -> bool:
    """Return whether every array in a network has the same shape for every row.

    Otherwise OpenVINO does not report all errors in the calling thread, but returns the previous row's output.
    """
    return all(output.get_partial_shape().is_static for node in model.get_ops() for output in node.outputs())
