"""MXNet checkpoints: read without MXNet, and computed by MXNet itself, which defines what a checkpoint means."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.base import Network, check_batch
from app.engines.mxnet.compat import prepare
from app.engines.mxnet.passes import fuse, merge_biases
from app.errors import ModelFormatError
from app.formats.mxnet_describe import free_inputs
from app.formats.mxnet_graph import Graph, graph_of, read_document
from app.formats.mxnet_params import bare_name, read_params
from app.types import FloatArray
from app.utils.dispatch import about_to_block
from app.utils.error_text import listed

MAX_EXECUTORS = 4
"""Number of batch sizes that stay bound at once. Each has its own activations; all share the parameters."""

Arrays = Mapping[str, NDArray[Any]]
Shapes = dict[str, tuple[int, ...]]


class MxnetEngine:
    """A loaded checkpoint. Any thread may call ``predict``; the calls are computed one at a time."""

    package = "mxnet"

    def __init__(self, symbol: Any, plain: Any, params: Arrays, input_name: str, row_shape: tuple[int, ...]) -> None:
        """Store a graph and parameters that :meth:`load` has checked.

        :param plain: the graph before MXNet's fusion, which is internal to MXNet.
        :param row_shape: the input's shape without the batch axis.
        """
        self._symbol = symbol
        self._plain = plain
        self._input_name = input_name
        self._row_shape = row_shape
        self._arguments = _on_device(symbol.list_arguments(), params)
        self._states = _on_device(symbol.list_auxiliary_states(), params)
        self._executors: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def load(
        cls, symbol: Path, params: Path, input_name: str, input_shape: tuple[int, ...], output: str = ""
    ) -> MxnetEngine:
        """Load a checkpoint and check that its parts match each other and the input.

        :param input_shape: with the batch axis, whose size is ignored.
        :param output: the name of the output to return; the first output if none has that name.
        :raises ModelFormatError: if a file is broken, parameters are missing or have a wrong shape, or the network
            rejects the input.
        """
        read = read_checkpoint(symbol, params, input_name, input_shape, output)
        prepare()
        network, computed = _open(read.document, symbol)
        _check_shapes(network, read.arrays, {input_name: (1, *read.row_shape)}, symbol, params)
        return cls(fuse(network, computed), network, read.arrays, input_name, read.row_shape)

    @classmethod
    def of_network(cls, network: Network) -> MxnetEngine:
        """Return an engine that computes a network as its graph is, without fusion."""
        prepare()
        import mxnet as mx

        symbol = mx.sym.load_json(json.dumps(network.document))
        return cls(symbol, symbol, network.arrays, network.input_name, network.row_shape)

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch.

        :param batch: float32, (N, …) in the layout of the network's input, N at least 1.
        :returns: float32, (N, classes), the network's unchanged first output.
        :raises ValueError: if the batch has another shape.
        :raises ModelFormatError: if MXNet cannot compute the network.
        """
        check_batch(batch, self._row_shape)
        from mxnet.base import MXNetError

        about_to_block()
        with self._lock:
            if self._closed:
                raise RuntimeError("this engine is closed")
            try:
                output = self._compute(np.ascontiguousarray(batch, np.float32))
            except MXNetError as error:
                raise ModelFormatError(f"MXNet cannot compute this network: {_reason(error)}") from None
        return output.reshape(len(batch), -1).astype(np.float32, copy=False)

    def network(self) -> Network:
        """Return the network that is computed, its biases merged into its convolutions."""
        arrays = {name: array.asnumpy() for name, array in {**self._arguments, **self._states}.items()}
        return Network(json.loads(self._plain.tojson()), arrays, self._input_name, self._row_shape)

    def close(self) -> None:
        """Release the parameters and all executors; ``predict`` must not be called after that."""
        with self._lock:
            self._closed = True
            self._executors.clear()
            self._arguments.clear()
            self._states.clear()

    def _compute(self, batch: FloatArray) -> NDArray[Any]:
        executor = self._executor(len(batch))
        executor.arg_dict[self._input_name][:] = batch
        outputs = executor.forward(is_train=False)
        result: NDArray[Any] = outputs[0].asnumpy()
        return result

    def _executor(self, size: int) -> Any:
        """Return the executor for a batch size, binding it in place of the least recently used one if necessary."""
        if size in self._executors:
            self._executors.move_to_end(size)
        else:
            while len(self._executors) >= MAX_EXECUTORS:
                self._executors.popitem(last=False)
            self._executors[size] = self._bind(size)
        return self._executors[size]

    def _bind(self, size: int) -> Any:
        import mxnet as mx

        known: Shapes = {name: array.shape for name, array in self._arguments.items()}
        known[self._input_name] = (size, *self._row_shape)
        shapes, _outputs, _states = self._symbol.infer_shape_partial(**known)
        fed = {
            name: mx.nd.zeros(shape)  # the input, and labels: only training reads labels, but they must exist
            for name, shape in zip(self._symbol.list_arguments(), shapes, strict=True)
            if name not in self._arguments
        }
        return self._symbol.bind(mx.cpu(), {**self._arguments, **fed}, grad_req="null", aux_states=self._states)


def _open(document: dict[str, Any], path: Path) -> tuple[Any, Graph]:
    """Open a symbol, in 32 bits and with every bias merged into its convolution; return it and its graph."""
    import mxnet as mx

    try:
        today = json.loads(mx.sym.load_json(json.dumps(document)).tojson())  # the file may be of any version of MXNet
        _in_32_bits(today)
        merged = merge_biases(today)
        symbol = mx.sym.load_json(json.dumps(merged))
    except mx.base.MXNetError as error:
        raise ModelFormatError(f"{path} is not a symbol file that MXNet can open: {_reason(error)}") from None
    return symbol, graph_of(merged, path)


def _in_32_bits(document: dict[str, Any]) -> None:
    """Make a network compute in 32-bit floats only: MXNet's CPU code has few operations for 16 and 64 bits."""
    for attrs in (node.get("attrs", {}) for node in document["nodes"]):
        attrs.pop("__dtype__", None)
        if attrs.get("dtype") in ("float16", "float64"):
            attrs["dtype"] = "float32"


def _on_device(names: list[str], params: Arrays) -> dict[str, Any]:
    """Return the parameters of these names as MXNet's arrays, floats in 32 bits and integers unchanged.

    MXNet's Module, too, casts a file's parameters to the types that the network computes with.
    """
    import mxnet as mx

    made = {}
    for name in names:
        if name in params:
            kind = params[name].dtype
            made[name] = mx.nd.empty(params[name].shape, dtype=np.float32 if kind.kind == "f" else kind)
            made[name][:] = params[name]
    return made


def _check_shapes(symbol: Any, params: Arrays, data: Shapes, symbol_path: Path, params_path: Path) -> None:
    """Check that the network accepts the input, the parameters have the inferred shapes, and the output has rows."""
    names = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    if missing := [name for name in symbol.list_auxiliary_states() if name not in params]:
        raise _lacking(params_path, symbol_path, missing)
    arguments, _outputs, states = _infer(symbol, data, symbol_path)
    for name, expected in zip(names, [*arguments, *states], strict=True):
        if name in params and _is_known(expected) and params[name].shape != expected:
            raise ModelFormatError(
                f"{params_path} does not fit {symbol_path.name} with an input of {_rows(data)}: "
                f"{name} has the shape {params[name].shape}, {expected} is needed"
            )
    learned = {name: params[name].shape for name in symbol.list_arguments() if name in params}
    _arguments, outputs, _states = _infer(symbol, {**data, **learned}, symbol_path)
    if not _is_known(outputs[0]) or outputs[0][0] != 1:
        raise ModelFormatError(f"{symbol_path} gives {outputs[0]} for one picture, where one row is expected")


def _infer(symbol: Any, known: Shapes, path: Path) -> Any:
    """Infer the shapes of the arguments, the outputs and the auxiliary states, as far as MXNet can."""
    from mxnet.base import MXNetError

    try:
        return symbol.infer_shape_partial(**known)
    except MXNetError as error:
        raise ModelFormatError(f"{path} does not take an input of {_rows(known)}: {_reason(error)}") from None


def _is_known(shape: tuple[int, ...]) -> bool:
    return bool(shape) and min(shape) > 0


def _rows(known: Shapes) -> str:
    """Format the input's shape, the first of the known shapes, for any batch size."""
    shape = next(iter(known.values()))
    return f"(N, {', '.join(map(str, shape[1:]))})"


def _reason(error: Exception) -> str:
    """Extract the useful part of MXNet's error report: which operation failed, and why."""
    report = re.sub(r"\[[\d:]+\] \S+:\d+: ", "", str(error))  # timestamp and position in MXNet's source
    telling = "Error in operator|Check failed|Cannot find|Invalid Parameter"
    lines = [line for line in report.splitlines() if re.search(telling, line)] or report.strip().splitlines() or [""]
    operator = re.search(r"Error in operator (\S+):", lines[0])
    message = (
        re.split(r"Error in operator \S+: |Check failed: .*?: ", lines[0])[-1].removeprefix("MXNetError: ").strip(" :")
    )
    return (f"{operator.group(1)}: " if operator else "") + message[:200]


def read_checkpoint(
    symbol: Path, params: Path, input_name: str, input_shape: tuple[int, ...], output: str = ""
) -> Network:
    """Read a checkpoint, and check that it has all parameters that one of its outputs needs.

    :param input_shape: with the batch axis, whose size is ignored.
    :param output: the name of the output; the first output if none has that name.
    :returns: the part of the network that computes the output, with floats in 32 bits.
    :raises ModelFormatError: if a file is broken, parameters are missing, or the input has another name or an open
        size.
    """
    document = read_document(symbol, output)
    arrays = {bare_name(name): array for name, array in read_params(params).items()}
    arrays.pop(input_name, None)
    free = free_inputs(graph_of(document, symbol), set(arrays))
    if input_name not in free:
        raise ModelFormatError(f"{symbol} has no input {input_name!r}; it takes {', '.join(free[:4]) or 'nothing'}")
    if missing := [name for name in free if name != input_name]:
        raise _lacking(params, symbol, missing)
    if len(input_shape) < 2 or min(input_shape[1:]) < 1:
        raise ModelFormatError(f"{symbol}: the input's shape {input_shape} must give every size but the batch's")
    floats = {
        name: array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }
    return Network(document, floats, input_name, tuple(input_shape[1:]))


def _lacking(params: Path, symbol: Path, names: list[str]) -> ModelFormatError:
    return ModelFormatError(f"{params} lacks parameters that {symbol.name} needs: {listed(names, 3)}")
