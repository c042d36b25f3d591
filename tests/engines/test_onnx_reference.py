"""ONNX files as their references compute them, and the proof of their conversion."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.engines.cache import read_entry
from app.engines.conversion import build
from app.engines.onnx_reference import OnnxReference
from app.errors import ModelFormatError
from app.formats.folder import open_model_folder
from app.types import Signature, TensorSpec
from tests.engines.onnx_graphs import Drawn

WEIGHTS = np.float32([[1, 2], [3, -4], [0.5, 0]])


def write_sums(path: Path, element: int, *more: onnx.NodeProto, output: str = "y") -> Signature:
    """Write a network whose two outputs are weighted sums of the channels' means."""
    nodes = [
        *more,
        helper.make_node("MatMul", ["row", "weights"], ["y"]),
        helper.make_node("Flatten", ["means"], ["row"]),
        helper.make_node("GlobalAveragePool", ["f"], ["means"]),
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("x", element, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return Signature((TensorSpec("x", (0, 3, 4, 4)),), (TensorSpec(output, (0, 2)),))


@pytest.mark.parametrize("package", ["onnxruntime", "onnx"])
def test_integers_are_rounded_and_nodes_are_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    signature = write_sums(tmp_path / "net.onnx", TensorProto.UINT8)
    if package == "onnx":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    reference = OnnxReference.load(tmp_path / "net.onnx", signature)
    assert reference.package == package
    batch = np.stack([np.full((3, 4, 4), value, np.float32) for value in (1.6, 300)])
    assert reference.predict(batch) == pytest.approx(np.float32([2, 2, 2]) @ WEIGHTS * np.float32([[1], [255 / 2]]))


@pytest.mark.parametrize("opset", [7, 9, 13, 14])
@pytest.mark.parametrize("package", ["onnxruntime", "onnx"])
def test_a_batch_normalization_uses_its_own_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, opset: int
) -> None:
    statistics = {"s": [2, 1, 3], "b": [1, 0, -1], "m": [4, 5, 6], "v": [1, 4, 9]}
    nodes = [
        helper.make_node("BatchNormalization", ["x", *statistics], ["f"], epsilon=0.0),
        helper.make_node("GlobalAveragePool", ["f"], ["means"]),
        helper.make_node("Flatten", ["means"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "normalized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.float32(values), name) for name, values in statistics.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    if package == "onnx":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    signature = Signature((TensorSpec("x", (0, 3, 4, 4)),), (TensorSpec("y", (0, 3)),))
    reference = OnnxReference.load(tmp_path / "net.onnx", signature)
    assert reference.package == package
    found = reference.predict(np.full((1, 3, 4, 4), 7, np.float32))
    assert found == pytest.approx(np.float32([[2 * 3 + 1, 2 / 2, 3 * 1 / 3 - 1]]))


def test_an_unknown_operation_is_refused_by_name(tmp_path: Path) -> None:
    signature = write_sums(
        tmp_path / "net.onnx", TensorProto.FLOAT, helper.make_node("Nothing", ["y"], ["z"]), output="z"
    )
    with pytest.raises(ModelFormatError, match="Nothing"):
        OnnxReference.load(tmp_path / "net.onnx", signature)


@pytest.mark.parametrize("package", ["onnxruntime", "onnx"])
def test_an_onnx_file_is_proven_when_it_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    if package == "onnx":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "net").mkdir()
    (tmp_path / "entry").mkdir()
    onnx.save(Drawn(3).model, str(tmp_path / "net" / "net.onnx"))
    folder = open_model_folder(tmp_path / "net")
    build(folder, "auto", tmp_path / "entry")
    entry = read_entry(tmp_path / "entry")
    assert entry is not None and entry.record.parity is not None
    assert (entry.record.parity.reference, entry.record.parity.samples) == (package, 14)
    assert 0 <= entry.record.parity.max_abs_difference < 1e-5
