"""From MXNet to ONNX, by MXNet's own exporter (``mx.onnx.export_model`` of 1.9.1), and what it leaves to be put right.

Its translations are written for the operators of ONNX's opset 13, but it marks the file, and has it checked, as of the
newest opset that the installed ``onnx`` knows, in which some of them mean another thing or nothing at all.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from app.engines.base import Network
from app.engines.compat import prepare, quietly
from app.engines.rewrites import rewrite

OPSET = 13


def export_onnx(network: Network, path: Path) -> None:
    """Write a network as an ONNX model for one row at a time, (1, …) -> (1, …).

    To be called in a process of its own: it changes what ``onnx`` checks by default.

    :raises Exception: of any kind, where MXNet's exporter cannot translate the network.
    """
    prepare()
    with quietly():  # both deprecate what the other uses
        import mxnet as mx
        import mxnet.onnx
        import onnx

        onnx.checker.DEFAULT_CONTEXT.opset_imports = {"": OPSET}
        document, arrays = rewrite(network.document, network.arrays, _shapes(network))
        symbol = mx.sym.load_json(json.dumps(document))
        needed = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
        params = {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items() if name in needed}
        mxnet.onnx.export_model(symbol, params, [(1, *network.row_shape)], [np.float32], str(path))
    _put_right(path)


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """What each node with one output gives for one row."""
    import mxnet as mx

    inner = mx.sym.load_json(json.dumps(network.document)).get_internals()
    _arguments, outputs, _states = inner.infer_shape_partial(**{network.input_name: (1, *network.row_shape)})
    named = zip(inner.list_outputs(), outputs, strict=True)
    return {name.removesuffix("_output"): shape for name, shape in named if name.endswith("_output") and _known(shape)}


def _known(shape: tuple[int, ...]) -> bool:
    return bool(shape) and min(shape) > 0


def _put_right(path: Path) -> None:
    """Mark the file as of its opset, and take the parameters out of the inputs, where a runtime may not fold them."""
    import onnx

    model = onnx.load(str(path))
    del model.opset_import[:]
    model.opset_import.extend([onnx.helper.make_opsetid("", OPSET)])
    learned = {one.name for one in model.graph.initializer}
    fed = [one for one in model.graph.input if one.name not in learned]
    del model.graph.input[:]
    model.graph.input.extend(fed)
    onnx.save(model, str(path))
