from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from app.errors import ModelFormatError
from app.formats.folder import is_model_folder, open_model_folder
from app.formats.infer_signature import ModelFiles, infer_signature
from app.formats.onnx_graph import read_onnx


def write(path: Path, shape: list[Any], opset: int = 13, op: str = "Softmax", head: str = "Softmax") -> None:
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"], name="pool"),
            helper.make_node("Flatten", ["pooled"], ["row"], name="flat"),
            helper.make_node(head, ["row"], ["answer"], name="head"),
        ],
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [shape[0], 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("opset", range(7, 25))
def test_the_input_of_files_of_every_opset_is_read(tmp_path: Path, opset: int) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 40, 50], opset)
    facts = read_onnx(tmp_path / "net.onnx")
    assert (facts.opset, facts.input_name, facts.input_shape) == (opset, "pixels", (0, 3, 40, 50))
    [output] = facts.outputs
    assert (output.name, output.shape, output.kind) == ("answer", (0, 3), "distribution")


@pytest.mark.parametrize("opset", [1, 6, 25])
def test_other_opsets_are_refused_by_number(tmp_path: Path, opset: int) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 40, 50], opset, head="Relu")
    with pytest.raises(ModelFormatError, match=rf"net\.onnx.*opset {opset}; 7 to 24"):
        read_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("shape", "size", "expected", "layout"),
    [
        (["N", 3, "H", "W"], None, (0, 3, 224, 224), "NCHW"),
        (["N", 3, "H", "W"], (300, 200), (0, 3, 300, 200), "NCHW"),
        ([1, 1, 28, 28], None, (0, 1, 28, 28), "NCHW"),
        (["N", 96, 80, 3], None, (0, 96, 80, 3), "NHWC"),
    ],
)
def test_the_signature_follows_from_the_inputs_shape(
    tmp_path: Path, shape: list[Any], size: tuple[int, int] | None, expected: tuple[int, ...], layout: str
) -> None:
    write(tmp_path / "net.onnx", shape)
    found = infer_signature(ModelFiles(onnx=tmp_path / "net.onnx"), size).signature
    assert (found.inputs[0].shape, found.preprocess.layout) == (expected, layout)
    assert found.preprocess.color == ("grey" if 1 in (shape[1], shape[3]) else "rgb")


@pytest.mark.parametrize(("head", "activation"), [("Softmax", "none"), ("Sigmoid", "none"), ("Relu", "softmax")])
def test_the_head_distinguishes_probabilities_from_logits(tmp_path: Path, head: str, activation: str) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 8, 8], head=head)
    found = infer_signature(ModelFiles(onnx=tmp_path / "net.onnx")).signature
    assert found.postprocess.activation == activation


def test_a_file_with_two_inputs_is_refused_with_their_names(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 8, 8])
    model = onnx.load(str(tmp_path / "net.onnx"))
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    onnx.save(model, str(tmp_path / "net.onnx"))
    with pytest.raises(ModelFormatError, match=r"net\.onnx has 2 inputs \(pixels, mask\)"):
        read_onnx(tmp_path / "net.onnx")


def test_metadata_of_other_programs_are_ignored(tmp_path: Path) -> None:
    write(tmp_path / "net.onnx", ["N", 3, 8, 8])
    model = onnx.load(str(tmp_path / "net.onnx"))
    helper.set_model_props(model, {"labels": "not json", "author": "x"})
    onnx.save(model, str(tmp_path / "net.onnx"))
    facts = read_onnx(tmp_path / "net.onnx")
    assert (facts.labels, facts.signature) == (None, None)
    helper.set_model_props(model, {"labels": json.dumps(["a", "b", "c"])})
    onnx.save(model, str(tmp_path / "net.onnx"))
    assert read_onnx(tmp_path / "net.onnx").labels == ("a", "b", "c")


def test_a_folder_with_an_onnx_file_is_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    assert not is_model_folder(folder)
    (folder / "net.onnx").touch()
    assert is_model_folder(folder)
    assert open_model_folder(folder).onnx == folder / "net.onnx"
    (folder / "other.onnx").touch()
    with pytest.raises(ModelFormatError, match=r"more than one \*\.onnx"):
        open_model_folder(folder)
