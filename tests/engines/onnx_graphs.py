"""Small ONNX classifiers, drawn at random from what exporters write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5
SIDE = 12


class Drawn:
    """A classifier of pictures (N, 3, 12, 12), as one exporter or another would have written it.

    ``outputs`` are the names of those of its outputs that are rows: the answer, and in some graphs features and logits,
    before and after it. ``sorted`` is the same model with its nodes in the order in which they are computed.
    """

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._arrays: dict[str, Any] = {}
        self._opset = int(self._draw.integers(11, 24))
        self._last = bool(self._draw.random() < 0.3)
        maps, channels = ("pixels", 3) if not self._last else (self._add("Transpose", "pixels", perm=[0, 3, 1, 2]), 3)
        for _ in range(self._draw.integers(1, 4)):
            maps, channels = self._layer(maps, channels)
        row, size = self._row(maps, channels)
        logits = self._dense(row, size)
        answer = self._softmax(logits) if self._draw.random() < 0.8 else self._add("Sigmoid", logits)
        self.outputs = [answer]
        if self._draw.random() < 0.5:
            self.outputs += [row, logits]
            self._draw.shuffle(self.outputs)
        self.sorted = self._model(self._nodes)
        self.model = self._model([self._nodes[n] for n in self._draw.permutation(len(self._nodes))])

    def batch(self, count: int) -> Any:
        """Return pictures (count, …), float32, as the input is laid out."""
        shape = (SIDE, SIDE, 3) if self._last else (3, SIDE, SIDE)
        return self._draw.normal(size=(count, *shape)).astype(np.float32)

    def _model(self, nodes: Sequence[Any]) -> onnx.ModelProto:
        shape = ["N", SIDE, SIDE, 3] if self._last else ["N", 3, "H", "W"]
        graph = helper.make_graph(
            nodes,
            "drawn",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None]) for name in self.outputs],
            [numpy_helper.from_array(array, name) for name, array in self._arrays.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)])
        model.ir_version = int(self._draw.integers(7, 12))
        return model

    def _add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], name=f"/{name}/{op}", **attributes))
        return name

    def _array(self, array: Any) -> str:
        self._arrays[name := f"array{len(self._arrays)}"] = np.asarray(array)
        return name

    def _weights(self, *shape: int, spread: float = 0.4) -> str:
        return self._array(self._draw.normal(0, spread, shape).astype(np.float32))

    def _layer(self, maps: str, channels: int) -> tuple[str, int]:
        kind = self._draw.choice(["conv", "conv", "depthwise", "norm", "pool", "average", "resize", "pad", "squeeze"])
        if kind == "conv":
            filters = int(self._draw.integers(3, 7))
            pads = {"pads": [1, 1, 1, 1]} if self._draw.random() < 0.5 else {"auto_pad": "SAME_UPPER"}
            maps = self._add("Conv", maps, self._weights(filters, channels, 3, 3), self._weights(filters), **pads)
            return self._activation(maps), filters
        if kind == "depthwise":
            weights = self._weights(channels, 1, 3, 3)
            return self._activation(self._add("Conv", maps, weights, group=channels, pads=[1, 1, 1, 1])), channels
        if kind == "norm":
            mean, variance = self._weights(channels), self._array(np.linspace(0.5, 2, channels, dtype=np.float32))
            learned = (self._weights(channels, spread=1), self._weights(channels), mean, variance)
            return self._add("BatchNormalization", maps, *learned), channels
        if kind == "pool":
            return self._add("MaxPool", maps, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), channels
        if kind == "average":
            inside = int(self._draw.integers(0, 2))
            pads = {"pads": [1, 1, 1, 1], "count_include_pad": inside}
            return self._add("AveragePool", maps, kernel_shape=[3, 3], **pads), channels
        if kind == "resize":  # to the size that it has
            mode = {
                "mode": str(self._draw.choice(["nearest", "linear"])),
                "coordinate_transformation_mode": str(self._draw.choice(["half_pixel", "asymmetric", "align_corners"])),
            }
            region = self._array(np.zeros(0, np.float32))
            return self._add("Resize", maps, region, self._array(np.ones(4, np.float32)), **mode), channels
        if kind == "pad":
            return self._add("Pad", maps, self._array(np.array([0, 0, 1, 0, 0, 0, 0, 1]))), channels
        squeezed = self._add("Conv", self._add("GlobalAveragePool", maps), self._weights(channels, channels, 1, 1))
        return self._add("Mul", maps, self._add("Sigmoid", squeezed)), channels

    def _activation(self, maps: str) -> str:
        kind = self._draw.choice(["Relu", "LeakyRelu", "Elu", "PRelu", "HardSwish", "Clip", "Gelu"])
        if kind == "PRelu":
            return self._add("PRelu", maps, self._array(np.float32([[[0.2]]])))
        if kind == "Clip":
            return self._add("Clip", maps, self._array(np.float32(0)), self._array(np.float32(6)))
        if kind == "HardSwish":  # as it is written before opset 14
            return self._add("Mul", maps, self._add("HardSigmoid", maps, alpha=1 / 6, beta=0.5))
        if kind == "Gelu":  # as it is written before opset 20
            bent = self._add("Erf", self._add("Mul", maps, self._array(np.float32(np.sqrt(0.5)))))
            return self._add("Mul", maps, self._add("Add", bent, self._array(np.float32(1))))
        return self._add(str(kind), maps)

    def _row(self, maps: str, channels: int) -> tuple[str, int]:
        """Add the operations that make a row of maps: averages, in many spellings, or their maxima."""
        kind = self._draw.choice(["flatten", "reshape", "shape", "squeeze", "mean", "mean axis kept", "max"])
        if kind.startswith("mean"):
            keepdims = int(kind != "mean")
            if self._opset < 18:
                row = self._add("ReduceMean", maps, axes=[2, 3], keepdims=keepdims)
            else:
                row = self._add("ReduceMean", maps, self._array(np.array([-2, -1])), keepdims=keepdims)
            return self._add("Flatten", row), channels
        pooled = self._add("GlobalMaxPool" if kind == "max" else "GlobalAveragePool", maps)
        if kind == "reshape":
            return self._add("Reshape", pooled, self._array(np.array([-1, channels]))), channels
        if kind == "shape":  # PyTorch's x.view(x.size(0), -1)
            batch = self._add("Gather", self._add("Shape", pooled), self._array(np.array([0])))
            return self._add(
                "Reshape", pooled, self._add("Concat", batch, self._array(np.array([-1])), axis=0)
            ), channels
        if kind == "squeeze":
            if self._opset < 13:
                return self._add("Squeeze", pooled, axes=[2, 3]), channels
            return self._add("Squeeze", pooled, self._array(np.array([2, 3]))), channels
        return self._add("Flatten", pooled), channels

    def _dense(self, row: str, size: int) -> str:
        if self._draw.random() < 0.5:
            weights = self._weights(CLASSES, size, spread=1)
            return self._add("Gemm", row, weights, self._weights(CLASSES), transB=1)
        product = self._add("MatMul", row, self._weights(size, CLASSES, spread=1))
        return self._add("Add", product, self._weights(CLASSES))

    def _softmax(self, logits: str) -> str:
        return self._add("Softmax", logits, axis=int(self._draw.choice([-1, 1])))
