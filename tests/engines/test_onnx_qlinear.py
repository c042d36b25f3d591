"""Quantized operations of ONNX, against ONNX Runtime, which computes them in whole numbers.

``tests/kinds/test_makers.py`` has a file of its quantizer with the other operations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.engines.onnx_file import convert_file
from app.engines.openvino import OpenvinoEngine
from app.formats.folder import ModelFolder
from app.types import Signature, TensorSpec

DRAW = np.random.default_rng(8)
SIZE, CLASSES = 6, 5
SCALE, ZERO, STEP = np.float32(0.02), np.uint8(128), np.float32(0.05)
SCALES = np.float32([0.01, 0.02, 0.03, 0.02, 0.01])
WHOLE = DRAW.integers(-127, 128, (3 * SIZE * SIZE, CLASSES)).astype(np.int8)
BIAS = DRAW.integers(-3000, 3000, CLASSES).astype(np.int32)
QUANTIZED = ["q", "x_scale", "x_zero"]
WEIGHTS = ["w", "w_scales", "w_zeros"]
RESULT = ["y_scale", "y_zero"]
QDQ = Path(__file__).parent.parent / "testdata" / "makers" / "qdq.onnx"
NODES: dict[str, tuple[Any, dict[str, Any]]] = {
    "columns of a product": (
        helper.make_node("QLinearMatMul", [*QUANTIZED, *WEIGHTS, *RESULT], ["y"]),
        {"w": WHOLE, "w_zeros": np.zeros(CLASSES, np.int8)},
    ),
    "columns of a layer": (
        helper.make_node("QGemm", [*QUANTIZED, *WEIGHTS, "bias", *RESULT], ["y"], domain="com.microsoft"),
        {"w": WHOLE, "w_zeros": np.zeros(CLASSES, np.int8)},
    ),
    "rows of a layer": (
        helper.make_node("QGemm", [*QUANTIZED, *WEIGHTS, "bias", *RESULT], ["y"], domain="com.microsoft", transB=1),
        {"w": WHOLE.T.copy(), "w_zeros": np.zeros(CLASSES, np.int8)},
    ),
    "weights with a zero point": (
        helper.make_node("QLinearMatMul", [*QUANTIZED, "w", "x_scale", "w_zeros", *RESULT], ["y"]),
        {"w": DRAW.integers(0, 256, WHOLE.shape).astype(np.uint8), "w_zeros": np.uint8(120)},
    ),
}


def write(path: Path, kind: str) -> None:
    """Write a picture's quantization, a quantized layer, and the floats of its result."""
    node, own = NODES[kind]
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["row"]),
        helper.make_node("QuantizeLinear", ["row", "x_scale", "x_zero"], ["q"]),
        node,
        helper.make_node("DequantizeLinear", ["y", *RESULT], ["answer"]),
    ]
    learned = {
        **{"x_scale": SCALE, "x_zero": ZERO, "w_scales": SCALES, "y_scale": STEP, "y_zero": ZERO, "bias": BIAS},
        **own,
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in learned.items()],
    )
    opsets = [helper.make_opsetid("", 11), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 8
    onnx.save(model, str(path))


@pytest.mark.parametrize("kind", NODES)
def test_a_quantized_operation_answers_as_in_onnx_runtime(tmp_path: Path, kind: str) -> None:
    import onnxruntime

    write(tmp_path / "net.onnx", kind)
    rows = DRAW.normal(0, 0.4, (6, 1, 3, SIZE, SIZE)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"pixels": row})[0] for row in rows])
    assert np.ptp(expected, axis=0).min() > 10 * STEP
    folder = ModelFolder(tmp_path, "net", "1.0", None, None, None, None, onnx=tmp_path / "net.onnx")
    convert_file(folder, Signature((TensorSpec("pixels", (0, 3, SIZE, SIZE)),), ()), tmp_path)
    actual = OpenvinoEngine.load(tmp_path / "model.xml", 0).predict(rows[:, 0])
    assert np.abs(actual - expected).max() <= STEP * 1.01  # a sum may be rounded to the next step


@pytest.mark.parametrize("in_floats", [False, True])
def test_a_network_with_quantized_maps_answers_as_in_onnx_runtime_also_in_floats(
    tmp_path: Path, in_floats: bool
) -> None:
    import onnxruntime

    rows = DRAW.normal(0, 1.0, (6, 1, 3, 12, 12)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(QDQ), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"x": row})[0] for row in rows])
    folder = ModelFolder(tmp_path, "net", "1.0", None, None, None, None, onnx=QDQ)
    convert_file(folder, Signature((TensorSpec("x", (0, 3, 12, 12)),), ()), tmp_path, in_floats)
    model = (tmp_path / "model.xml").read_text()
    assert ('type="FakeQuantize"' in model) is not in_floats
    actual = OpenvinoEngine.load(tmp_path / "model.xml", 0).predict(rows[:, 0])
    assert np.abs(actual - expected).max() <= 2 / 255  # two steps of the output
