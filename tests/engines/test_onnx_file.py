"""ONNX files that people bring, against another runtime: ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.engines.onnx_file import convert_file
from app.engines.opening import load
from app.engines.openvino_engine import OpenvinoEngine
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder, open_model_folder
from app.formats.infer_signature import infer_folder
from app.types import Signature, TensorSpec

DRAW = np.random.default_rng(5)
KERNEL = DRAW.normal(0, 0.4, (4, 3, 3, 3)).astype(np.float32)
WEIGHT = DRAW.normal(0, 1.0, (4, 5)).astype(np.float32)


def write(path: Path, shape: list[Any], opset: int = 13, softmax: bool = True, last: bool = False) -> None:
    """Convolution, ReLU, average, layer and, where asked for, softmax."""
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["maps0"], perm=[0, 3, 1, 2])
        if last
        else helper.make_node("Identity", ["pixels"], ["maps0"]),
        helper.make_node("Conv", ["maps0", "kernel"], ["maps1"]),
        helper.make_node("Relu", ["maps1"], ["maps2"]),
        helper.make_node("GlobalAveragePool", ["maps2"], ["maps3"]),
        helper.make_node("Flatten", ["maps3"], ["row"]),
        helper.make_node("Gemm", ["row", "weight", "bias"], ["answer" if not softmax else "logits"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["answer"], axis=1))
    learned = {"kernel": KERNEL, "weight": WEIGHT, "bias": np.zeros(5, np.float32)}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [shape[0], 5])],
        [numpy_helper.from_array(array, name) for name, array in learned.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def folder_of(file: Path, signature: Signature | None = None) -> ModelFolder:
    return ModelFolder(file.parent, "net", "1.0", signature, None, None, None, onnx=file)


def convert(folder: ModelFolder, path: Path) -> Signature:
    return convert_file(folder, infer_folder(folder).signature, path)


def by_onnxruntime(file: Path, batch: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"pixels": batch[n : n + 1]})[0] for n in range(len(batch))])


@pytest.mark.parametrize("opset", range(7, 22))
def test_files_of_every_opset_answer_as_in_onnx_runtime(tmp_path: Path, opset: int) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 16, 16], opset)
    signature = convert(folder_of(tmp_path / "net.onnx"), tmp_path)
    assert (signature.inputs, signature.outputs) == (
        (TensorSpec("pixels", (0, 3, 16, 16)),),
        (TensorSpec("answer", (0, 5)),),
    )
    batch = DRAW.normal(size=(4, 3, 16, 16)).astype(np.float32)
    expected = by_onnxruntime(tmp_path / "net.onnx", batch)
    assert np.ptp(expected, axis=0).max() > 1e-2
    engine = OpenvinoEngine.load(tmp_path / "model.xml", 0)
    assert engine.predict(batch) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "last", "size", "layout"),
    [
        ([1, 3, 20, 24], False, (0, 3, 20, 24), "NCHW"),
        (["N", 3, "H", "W"], False, (0, 3, 224, 224), "NCHW"),
        (["N", 20, 24, 3], True, (0, 20, 24, 3), "NHWC"),
    ],
)
def test_a_file_alone_tells_its_size_and_layout(
    tmp_path: Path, shape: list[Any], last: bool, size: tuple[int, ...], layout: str
) -> None:
    write(tmp_path / "net.onnx", shape, last=last)
    signature = convert(folder_of(tmp_path / "net.onnx"), tmp_path)
    assert (signature.inputs[0].shape, signature.preprocess.layout) == (size, layout)


@pytest.mark.parametrize(("softmax", "activation"), [(True, "none"), (False, "softmax")])
def test_a_file_alone_tells_whether_it_gives_probabilities(tmp_path: Path, softmax: bool, activation: str) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 16, 16], softmax=softmax)
    assert convert(folder_of(tmp_path / "net.onnx"), tmp_path).postprocess.activation == activation


def test_the_folders_own_signature_counts(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx", ["N", 3, "H", "W"])
    own = Signature((TensorSpec("pixels", (0, 3, 40, 40)),), ())
    assert convert(folder_of(tmp_path / "net.onnx", own), tmp_path).inputs == own.inputs
    assert OpenvinoEngine.load(tmp_path / "model.xml", 0).predict(np.zeros((2, 3, 40, 40), np.float32)).shape == (2, 5)


def test_weights_beside_the_file_are_taken_and_elsewhere_refused(tmp_path: Path) -> None:
    for name, taken in (("net.onnx.data", True), ("../secret", False)):
        folder = tmp_path / ("taken" if taken else "refused")
        folder.mkdir()
        write(folder / "net.onnx", ["N", 3, 16, 16])
        model = onnx.load(str(folder / "net.onnx"))
        onnx.save(
            model, str(folder / "net.onnx"), save_as_external_data=True, location="net.onnx.data", size_threshold=0
        )
        if taken:
            convert(folder_of(folder / "net.onnx"), folder)
            continue
        model = onnx.load(str(folder / "net.onnx"), load_external_data=False)
        model.graph.initializer[0].external_data[0].value = name
        (folder / "net.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(
            ModelFormatError, match=r"net\.onnx keeps the weights kernel in '\.\./secret', outside of its folder"
        ):
            convert(folder_of(folder / "net.onnx"), folder)


def test_a_folder_with_an_onnx_file_is_opened_whatever_engine_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    write(tmp_path / "net" / "net.onnx", ["N", 3, 16, 16])
    batch = DRAW.normal(size=(2, 3, 16, 16)).astype(np.float32)
    for choice in ("auto", "mxnet"):
        opened = load(open_model_folder(tmp_path / "net"), choice, tmp_path / "cache")
        assert (opened.kind, opened.parity) == ("openvino", None)
        assert opened.signature.inputs == (TensorSpec("pixels", (0, 3, 16, 16)),)
        expected = by_onnxruntime(tmp_path / "net" / "net.onnx", batch)
        assert opened.engine.predict(batch) == pytest.approx(expected, abs=1e-6)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "net.onnx").write_bytes(b"no model at all")
    with pytest.raises(ModelFormatError, match=r"net\.onnx cannot be read as an ONNX model"):
        load(folder_of(tmp_path / "net" / "net.onnx"), "auto", tmp_path / "cache")
