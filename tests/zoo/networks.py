"""Gluon networks with fixed random weights, in the place of published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.loader import load
from app.engines.mxnet.compat import prepare
from app.engines.mxnet.engine import read_checkpoint
from app.engines.onnx_export.export import export_onnx
from app.engines.onnx_file import read_model
from app.engines.openvino import OpenvinoEngine
from app.formats.folder import open_model_folder

SPREAD = 1.0
"""Standard deviation of the logits."""


def random_network(network: str, shape: tuple[int, int, int], classes: int, net: Any = None) -> Any:
    """Build a network whose every parameter is random.

    As in a network that learned, signals neither grow nor fade on their way: weights are those of He et al. 2015
    (arXiv:1502.01852), and normalisations know the mean and the variance of what they are given. Without that rounding
    errors of a deep network grow until they are its answer. The last layer is scaled so that logits differ by some
    units.
    """
    prepare()
    import mxnet as mx

    from app.zoo.gluon import build

    net = net or build(network, classes)
    mx.random.seed(5)
    net.initialize(mx.init.Xavier("gaussian", "in", 2))
    batch = random_batch(shape, 1)
    logits(net, batch)  # gives every parameter its shape
    random = np.random.default_rng(5)
    parameters = net.collect_params()
    for name, parameter in parameters.items():
        if name.endswith("gamma"):
            parameter.set_data(mx.nd.array(random.uniform(0.8, 1.2, parameter.shape)))
        elif name.endswith(("beta", "bias")):
            parameter.set_data(mx.nd.array(random.uniform(-0.2, 0.2, parameter.shape)))
    _settle(net, batch)
    spread = float(logits(net, batch).std())
    for parameter in [parameter for parameter in parameters.values() if parameter.shape[0] == classes][
        -2:
    ]:  # weight and bias
        parameter.set_data(parameter.data() * (SPREAD / spread))
    return net


def _settle(net: Any, batch: NDArray[np.float32]) -> None:
    """Give every normalisation the mean and the variance of its input for a batch."""
    import mxnet as mx

    def look(layer: Any, inputs: Any) -> None:
        given = inputs[0].asnumpy()
        axes = tuple(axis for axis in range(given.ndim) if axis != 1)
        variance = given.var(axes)
        layer.running_mean.set_data(mx.nd.array(given.mean(axes)))
        layer.running_var.set_data(mx.nd.array(np.maximum(variance, 0.1)))  # it may be 0 if maps have one pixel

    hooks = []
    net.apply(
        lambda layer: (
            hooks.append(layer.register_forward_pre_hook(look)) if isinstance(layer, mx.gluon.nn.BatchNorm) else None
        )
    )
    logits(net, batch)
    for hook in hooks:
        hook.detach()


def random_batch(shape: tuple[int, int, int], count: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(6).normal(size=(count, *shape)).astype(np.float32)


def direct(net: Any, batch: NDArray[np.float32]) -> NDArray[Any]:
    """Return what Gluon itself computes for a batch, as probabilities, without our code."""
    import mxnet as mx

    given = mx.nd.empty(batch.shape)
    given[:] = batch
    answer: NDArray[Any] = mx.nd.softmax(net(given)).asnumpy()
    return answer


def logits(net: Any, batch: NDArray[np.float32]) -> NDArray[Any]:
    import mxnet as mx

    given = mx.nd.empty(batch.shape)
    given[:] = batch
    answer: NDArray[Any] = net(given).asnumpy()
    return answer


def served(folder: Path, batch: NDArray[np.float32]) -> NDArray[Any]:
    """Return what the reference engine computes for a batch, opened from a model folder."""
    opened = load(open_model_folder(folder), "mxnet")
    try:
        return opened.engine.predict(batch)
    finally:
        opened.engine.close()


def converted(folder: Path, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what OpenVINO computes for a batch, from the ONNX file that our exporter writes of a model folder's
    checkpoint.
    """
    symbol, params = next(folder.glob("*-symbol.json")), next(folder.glob("*.params"))
    export_onnx(read_checkpoint(symbol, params, "data", batch.shape), folder / "net.onnx")
    engine = OpenvinoEngine(read_model(folder / "net.onnx")[0])
    (folder / "net.onnx").unlink()
    try:
        return engine.predict(batch)
    finally:
        engine.close()


def saved(net: Any, path: Path) -> bytes:
    net.save_parameters(str(path))
    return path.read_bytes()
