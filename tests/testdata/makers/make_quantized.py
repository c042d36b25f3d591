"""One classifier in each format in which ONNX Runtime writes quantized networks: ``python make_quantized.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from common import CLASSES, SIDE, imagenet, record
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

FOLDER = Path(__file__).parent
FORMATS = {"qoperator": QuantFormat.QOperator, "qdq": QuantFormat.QDQ}


def network(path: Path) -> None:
    """Write the network in floats: convolutions with and without bias, pools, two branches that join, a layer."""
    draw = np.random.RandomState(5)

    def weights(*shape: int) -> np.ndarray:
        return draw.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    learned = {
        "stem": weights(8, 3, 3, 3),
        "stem_bias": weights(8, 1)[:, 0] / 4,
        "left": weights(8, 8, 1, 1),
        "right": weights(8, 1, 3, 3),
        "dense": draw.normal(0, 3, (16, CLASSES)).astype(np.float32),
        "dense_bias": np.float32([0.3, -0.2, 0.1]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem", "stem_bias"], ["m0"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["m0"], ["m1"], alpha=0.1),
        helper.make_node("Conv", ["m1", "left"], ["l0"]),
        helper.make_node("Sigmoid", ["l0"], ["l1"]),
        helper.make_node("Conv", ["m1", "right"], ["r0"], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Add", ["l1", "r0"], ["s0"]),
        helper.make_node("Mul", ["s0", "l1"], ["s1"]),
        helper.make_node("Concat", ["s0", "s1"], ["c0"], axis=1),
        helper.make_node("AveragePool", ["c0"], ["p0"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p0"], ["p1"]),
        helper.make_node("Flatten", ["p1"], ["row"]),
        helper.make_node("Gemm", ["row", "dense", "dense_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in learned.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


class Pictures(CalibrationDataReader):
    """The pictures, one by one."""

    def __init__(self) -> None:
        self._rows = iter(imagenet()[:, np.newaxis])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next picture."""
        row = next(self._rows, None)
        return None if row is None else {"x": row}


def main() -> None:
    source = FOLDER / "float.onnx"
    network(source)
    for name, kind in FORMATS.items():
        extra = {"WeightSymmetric": True}
        quantize_static(
            source, FOLDER / f"{name}.onnx", Pictures(), quant_format=kind, per_channel=True, extra_options=extra
        )
    quantize_dynamic(source, FOLDER / "dynamic.onnx")
    for name, title in {**FORMATS, "dynamic": None}.items():
        session = onnxruntime.InferenceSession(str(FOLDER / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        answers = np.concatenate([session.run(None, {"x": row[np.newaxis]})[0] for row in imagenet()])
        kind = f"ONNX: quantized, {title.name if title else 'dynamic'}"
        record(FOLDER, name, kind, f"ONNX Runtime {onnxruntime.__version__}", answers)
    source.unlink()


if __name__ == "__main__":
    main()
