"""Small graphs, computed by MXNet itself and by ONNX Runtime and OpenVINO from the exported file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.base import Network
from app.engines.mxnet.compat import prepare
from app.engines.onnx_export.export import export_onnx
from app.utils.openvino_runtime import compile_model, core

prepare()
import mxnet as mx  # noqa: E402

SHAPE = (4, 6, 6)


def random_arrays(symbol: Any, shape: tuple[int, ...], seed: int = 0) -> dict[str, Any]:
    """Return values for all inputs of a symbol but the picture and labels."""
    draw = np.random.default_rng(seed)
    arguments, _outputs, states = symbol.infer_shape_partial(data=(1, *shape))
    sizes = dict(zip(symbol.list_arguments(), arguments, strict=True))
    arrays = {name: draw.normal(0, 0.5, size) for name, size in sizes.items() if name != "data" and "label" not in name}
    named = zip(symbol.list_auxiliary_states(), states, strict=True)
    return {
        name: array.astype(np.float32)
        for name, array in {**arrays, **{name: draw.uniform(0.5, 2, size) for name, size in named}}.items()
    }


def picture(shape: tuple[int, ...] = SHAPE, seed: int = 1) -> Any:
    return np.random.default_rng(seed).uniform(-2, 2, (1, *shape)).astype(np.float32)


def by_mxnet(symbol: Any, arrays: dict[str, Any], batch: Any, output: int = 0) -> Any:
    """Return what MXNet computes, without any rewriting or fusion."""
    shapes, _outputs, _states = symbol.infer_shape_partial(data=batch.shape)
    fed = {name: mx.nd.array(arrays[name]) for name in symbol.list_arguments() if name in arrays}
    for name, size in zip(symbol.list_arguments(), shapes, strict=True):
        if name not in arrays:
            fed[name] = mx.nd.array(batch) if name == "data" else mx.nd.zeros(size)
    states = {name: mx.nd.array(arrays[name]) for name in symbol.list_auxiliary_states()}
    executor = symbol.bind(mx.cpu(), fed, aux_states=states, grad_req="null")
    return executor.forward(is_train=False)[output].asnumpy()


def network_of(symbol: Any, arrays: dict[str, Any], shape: tuple[int, ...]) -> Network:
    return Network(json.loads(symbol.tojson()), arrays, "data", shape)


def by_onnxruntime(path: Path, batch: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"data": batch})[0]


def by_openvino(path: Path, batch: Any) -> Any:
    compiled = compile_model(core().read_model(str(path)), streams=1, threads=1)
    return np.array(compiled(batch)[0])


def compared(symbol: Any, folder: Path, shape: tuple[int, ...] = SHAPE, batch: Any = None) -> tuple[Any, list[Any]]:
    """Return what MXNet computes of a picture, and what ONNX Runtime and OpenVINO compute of the exported file."""
    arrays = random_arrays(symbol, shape)
    batch = picture(shape) if batch is None else batch
    export_onnx(network_of(symbol, arrays, shape), folder / "net.onnx")
    expected = by_mxnet(symbol, arrays, batch)
    return expected, [compute(folder / "net.onnx", batch) for compute in (by_onnxruntime, by_openvino)]
