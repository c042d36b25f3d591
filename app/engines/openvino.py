"""OpenVINO: the fast engine. It computes what was converted from a model's own file, one row at a time.

A row is a request of its own, also within a batch: on a CPU eight rows at once take as long as one after another, and
requests spread over streams. What a row gives does not depend on those beside it.
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
"""A lone row that takes so long on one core is given all of them. Shorter ones gain nothing: they are computed in the
thread that asks, without a hand-over."""


_first = threading.Lock()
"""OpenVINO's Python side makes tables at its first request, and two threads that do that at once wait for each other
for ever: one has the interpreter's lock, the other the table's. So every engine computes once before it is asked."""


class _InFlight:
    """How many calls of this process are being computed, of all its networks together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0

    @contextmanager
    def counted(self) -> Iterator[bool]:
        """Count a call while it is computed. Yields whether it is the only one."""
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
    """A compiled network: for a crowd, a stream for every core; for a lone row one stream, of all cores where that is
    faster.

    OpenVINO hands requests to streams in the order in which they came, so nobody starves. Nothing is pinned: every
    process would be pinned to the same cores.
    """

    def __init__(self, model: Any, milliseconds: float | None = None) -> None:
        """Compile a model of OpenVINO's that takes (1, …), and let it compute once.

        Where there are several cores it is compiled twice, and so has its weights twice: OpenVINO shares them between
        streams, not between compiled models.

        :param milliseconds: what a row takes on one core. Where that is not told, as it is to be found out or does not
            matter, the network is compiled once, for a crowd.
        """
        self._row_shape: tuple[int, ...] = tuple(model.input(0).shape)[1:]
        never_fails = _never_fails(model)
        self._crowd = _Requests(compile_model(model, streams=cpu_count(), threads=cpu_count()), never_fails)
        self._milliseconds = LONG_MILLISECONDS if milliseconds is None else milliseconds
        self._is_long = milliseconds is not None and milliseconds >= LONG_MILLISECONDS
        self._lone = self._crowd
        if milliseconds is not None and cpu_count() > 1 and (self._is_long or _has_fixed_shapes(model)):
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
        """Load ``model.xml`` with the ``model.bin`` beside it, which is mapped into memory.

        :param milliseconds: what a row takes on one core.
        :raises RuntimeError: OpenVINO's own, where it is no model of OpenVINO's, or this machine cannot compute it.
        """
        engine = cls(core().read_model(path), milliseconds)
        drop_page_cache(path.with_suffix(".bin"))
        return engine

    @property
    def is_short(self) -> bool:
        """Return whether a row takes so little that it may be computed by the thread that reads all connections."""
        return self._milliseconds < LONG_MILLISECONDS

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of the network's input, without the batch."""
        return self._row_shape

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch, from any thread at any time.

        :param batch: float32, (N, …) as the network's input is laid out, N at least 1.
        :returns: float32, (N, classes), the network's first output as it is.
        :raises ValueError: where the batch has another shape.
        :raises ModelFormatError: where OpenVINO cannot compute the network.
        """
        check_batch(batch, self._row_shape)
        rows = np.ascontiguousarray(batch, np.float32)
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed")
            crowd, lone = self._crowd, self._lone
        if self._milliseconds * len(rows) >= LONG_MILLISECONDS:
            about_to_block()
        with _in_flight.counted() as is_alone:  # what takes long is computed by one process of a server
            requests = lone if is_alone and len(rows) == 1 else crowd
            try:
                return requests.compute(rows, self._at_once)
            except RuntimeError as error:
                raise ModelFormatError(f"OpenVINO cannot compute this network: {reason_of(error)}") from None

    def close(self) -> None:
        """Let go of the network. It cannot predict after that; what is being computed is finished."""
        with self._lock:
            self._closed = True
            del self._crowd, self._lone


class _Requests:
    """The infer requests of a compiled model: each has room for one input and one output, and is used by one thread.

    :param never_fails: whether no input makes the network fail.
    """

    def __init__(self, compiled: Any, never_fails: bool) -> None:
        self._compiled = compiled
        self._never_fails = never_fails
        self._free: deque[_Request] = deque()  # its pop and append need no lock

    def compute(self, rows: FloatArray, at_once: int) -> FloatArray:
        """Compute rows (N, …) -> (N, classes), ``at_once`` of them in flight at most."""
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
    """One infer request, with the array that is its own input.

    To copy a row into that takes microseconds; to hand an array over through OpenVINO's Python side, 0.2 ms.
    """

    def __init__(self, request: Any, never_fails: bool) -> None:
        self._request = request
        self._never_fails = never_fails
        self._input = request.get_input_tensor(0).data

    def compute(self, row: FloatArray) -> FloatArray:
        """Compute a row (1, …) -> (1, classes), float32.

        OpenVINO's own ``infer`` loses errors of a stream of one thread, and the answer is what the memory held before;
        but ``start_async`` hands a network over to another thread, which takes as long as a short network.
        """
        if self._never_fails:
            self._input[...] = row
            self._request.infer(share_outputs=True)
            return self._answer()
        self.start(row)
        return self.finish()

    def start(self, row: FloatArray) -> None:
        """Begin to compute a row; :meth:`finish` must follow."""
        self._input[...] = row
        self._request.start_async()

    def finish(self) -> FloatArray:
        """Wait for what was started."""
        self._request.wait()
        return self._answer()

    def _answer(self) -> FloatArray:
        # asked for anew each time, as some networks change the place; copied, as the next row is written over it
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
"""Operations that take every value, if the shapes are fixed; those that look something up by an index do not."""


def _never_fails(model: Any) -> bool:
    return _has_fixed_shapes(model) and all(node.get_type_name() in ARITHMETIC for node in model.get_ops())


def _has_fixed_shapes(model: Any) -> bool:
    """Return whether every array in a network has the same shape for every row. Where one has not, OpenVINO does not
    tell all that goes wrong in the thread that asks, but gives the row's answer before."""
    return all(output.get_partial_shape().is_static for node in model.get_ops() for output in node.outputs())
