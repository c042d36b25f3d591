"""Faults that ``make fuzz`` has found in the readers, each with the smallest file that shows it."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import DimpleError, InvalidArchive, ModelFormatError
from app.formats import mxnet_describe
from app.formats.archive.cache import unpack_into
from app.formats.archive.manifest import Manifest, find_handler, named_checkpoint
from app.formats.mxnet_describe import describe_checkpoint
from app.formats.mxnet_graph import read_graph
from app.formats.mxnet_params import read_params
from app.formats.mxnet_shapes import infer_shapes
from app.formats.onnx_graph import read_onnx
from app.formats.signature import read_signature
from app.formats.torch_pickle import MAGIC, read_state_dict
from tests.formats.archive.archives import manifest, zipped
from tests.formats.test_torch_pickle import legacy, tensor

CONVOLUTION: dict[str, Any] = {
    "op": "Convolution",
    "name": "c",
    "attrs": {"kernel": "(1, 1)", "num_filter": "2"},
    "inputs": [[0, 0], [1, 0]],
}
DATA: dict[str, Any] = {"op": "null", "name": "data", "inputs": []}
WEIGHT: dict[str, Any] = {"op": "null", "name": "w", "inputs": []}
SHAPES = {"arg:w": (2, 3, 1, 1)}


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def refused(path: Path, reason: str, read: Any, error: type[DimpleError] = ModelFormatError) -> str:
    with pytest.raises(error, match=reason) as raised:
        read(path)
    return str(raised.value)


def worked_out(path: Path) -> Any:
    return describe_checkpoint(read_graph(path), SHAPES, path)


def signature(tmp_path: Path, **changes: Any) -> Path:
    inputs = [{"data_name": "data", "data_shape": [0, 3, 8, 8]}]
    return written(tmp_path / "signature.json", {"inputs": inputs, **changes})


def test_an_empty_array_with_overflowing_dimensions_is_refused(tmp_path: Path) -> None:
    array = struct.pack("<Iii3qiii", 0xF993FAC9, 0, 3, 0, 2**40, 2**40, 1, 0, 0)
    (tmp_path / "a.params").write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<QQ", 1, 1) + b"w")
    refused(tmp_path / "a.params", r"impossible shape \(0, 1099511627776, 1099511627776\)", read_params)


@pytest.mark.parametrize("name", ["a" * 250, "é" * 130])
def test_a_manifest_may_name_files_with_impossible_names(tmp_path: Path, name: str) -> None:
    manifest = Manifest(model_name=name, handler=f"{name}:handle")
    assert named_checkpoint(tmp_path, manifest) is None
    found = find_handler(tmp_path, manifest)
    assert found is not None and found.file is None


def test_a_model_name_too_long_for_a_folder_is_refused(tmp_path: Path) -> None:
    for length, error in ((200, None), (201, "200 at most"), (300, "200 at most")):
        path = zipped(tmp_path / "a.mar", {"MAR-INF/MANIFEST.json": manifest(modelName="a" * length), "a.txt": ""})
        (tmp_path / str(length)).mkdir()
        if error is None:
            assert unpack_into(path, tmp_path / str(length)).name == "a" * length
        else:
            refused(path, error, lambda path, to=tmp_path / str(length): unpack_into(path, to), InvalidArchive)
            assert list((tmp_path / str(length)).iterdir()) == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400])
def test_a_signature_with_extreme_pixel_values_is_refused(tmp_path: Path, number: str) -> None:
    path = signature(tmp_path, preprocess={"scale": 123456789})
    path.write_text(path.read_text().replace("123456789", number))
    refused(path, r"signature\.json: preprocess\.scale.* must be (a number from|numbers, not NaN)", read_signature)


@pytest.mark.parametrize("shape", [[0, 3, 10**6, 10**6], [0, 3, 8, 2**26], [10**400, 1, 1, 1]])
def test_a_signature_with_a_tensor_larger_than_memory_is_refused(tmp_path: Path, shape: list[int]) -> None:
    path = signature(tmp_path, inputs=[{"data_name": "data", "data_shape": shape}])
    refused(path, "at most 67,108,864 values are possible", read_signature)


@pytest.mark.parametrize("read", [read_signature, read_graph])
def test_nested_json_is_bounded(tmp_path: Path, read: Any) -> None:
    for depth in (201, 900, 100_000):
        (tmp_path / "deep.json").write_text("[" * depth + "]" * depth)
        refused(tmp_path / "deep.json", "more than 200 lists and objects within each other", read)


@pytest.mark.parametrize("read", [read_signature, read_graph])
def test_half_of_a_surrogate_pair_is_refused(tmp_path: Path, read: Any) -> None:
    (tmp_path / "half.json").write_text('{"nodes": ["\\ud800"]}')
    refused(tmp_path / "half.json", "half of a surrogate pair", read)


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    path = signature(tmp_path, inputs=[{"data_name": "😀", "data_shape": [1]}])
    assert "\\ud83d\\ude00" in path.read_text()
    assert read_signature(path).inputs[0].name == "😀"


def test_error_messages_are_bounded(tmp_path: Path) -> None:
    path = signature(tmp_path, inputs=[{"data_name": "data", "data_shape": ["x" * 10**6]}])
    assert len(refused(path, "must be a whole number from 0, not 'xxx", read_signature)) < 4_100
    path = signature(tmp_path, preprocess={"x" * 10**6: 1})
    text = refused(path, "preprocess has no field 'xxx", read_signature)
    assert len(text) < 4_100
    assert text.endswith("has all fields")


@pytest.mark.parametrize("error", [DimpleError, InvalidArchive])
def test_every_error_message_can_be_encoded(error: type[DimpleError]) -> None:
    assert str(error("a \ud800 b")).encode() == b"a ? b"


def test_a_number_with_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    convolution = CONVOLUTION | {"attrs": {"kernel": f"(1, {'9' * 5000})", "num_filter": "2"}}
    path = written(tmp_path / "a-symbol.json", {"nodes": [DATA, WEIGHT, convolution], "heads": [[2, 0]]})
    refused(path, "looks through a window", worked_out)


@pytest.mark.parametrize(
    ("nodes", "head", "reason"),
    [
        pytest.param(
            [DATA, WEIGHT, CONVOLUTION, {"op": "Pooling", "name": "p", "attrs": {"global_pool": "1"}, "inputs": []}],
            2,
            "not a classifier",
            id="a pooling of nothing",
        ),
        pytest.param(
            [DATA, {"op": "null", "name": "x", "inputs": []}, WEIGHT, CONVOLUTION | {"inputs": [[0, 0], [2, 0]]}],
            1,
            "not a classifier|does not tell",
            id="an output that is not computed",
        ),
        pytest.param(
            [DATA, WEIGHT, CONVOLUTION | {"attrs": {"kernel": "(1, 1)", "num_group": "-1"}}],
            2,
            "pictures of -3 channels",
            id="a negative number of groups",
        ),
        pytest.param(
            [
                DATA,
                WEIGHT,
                CONVOLUTION,
                {"op": "Flatten", "name": "f", "inputs": [[2, 0]]},
                {"op": "FullyConnected", "name": "fc", "attrs": {"num_hidden": "-5"}, "inputs": [[3, 0]]},
            ],
            4,
            "not a classifier",
            id="a negative number of classes",
        ),
    ],
)
def test_a_graph_with_dangling_references_is_refused(tmp_path: Path, nodes: Any, head: int, reason: str) -> None:
    path = written(tmp_path / "a-symbol.json", {"nodes": nodes, "heads": [[head, 0]]})
    refused(path, reason, worked_out)


@pytest.mark.slow
def test_an_endless_network_is_refused_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fits no size, so that all 633 would be tried on each of its operations."""
    walks: list[int] = []

    def counted(graph: Any, *rest: Any) -> Any:
        walks.append(len(graph.nodes))
        return infer_shapes(graph, *rest)

    monkeypatch.setattr(mxnet_describe, "infer_shapes", counted)
    relu = [{"op": "relu", "name": "r", "inputs": [[number, 0]]} for number in range(2, 19_000)]
    last = {"op": "FullyConnected", "name": "fc", "attrs": {"num_hidden": "2"}, "inputs": [[19_000, 0], [1, 0]]}
    path = written(
        tmp_path / "a-symbol.json", {"nodes": [DATA, WEIGHT, CONVOLUTION, *relu, last], "heads": [[19_001, 0]]}
    )
    refused(path, "no square size fits", worked_out)
    assert len(mxnet_describe.SIZES) < len(walks) < len(mxnet_describe.SIZES) + 10
    relu *= 2
    refused(written(path, {"nodes": [DATA, *relu], "heads": [[0, 0]]}), "20,000 are possible", worked_out)


def test_a_missing_array_of_an_unused_input_is_reported(tmp_path: Path) -> None:
    nodes = [DATA, WEIGHT, CONVOLUTION, {"op": "null", "name": "x", "inputs": []}]
    nodes.append({"op": "_Plus", "name": "sum", "inputs": [[2, 0], [3, 0]]})
    path = written(tmp_path / "a-symbol.json", {"nodes": nodes, "heads": [[4, 0]]})
    refused(path, "does not hold x, which _Plus sum of a-symbol.json needs", worked_out)


@pytest.mark.parametrize("opcode", [pickle.BINBYTES8, pickle.BINUNICODE8, pickle.BYTEARRAY8])
def test_a_pickled_text_longer_than_the_file_takes_no_memory(tmp_path: Path, opcode: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(pickle.dumps(MAGIC, 2) + b"\x80\x05" + opcode + struct.pack("<Q", 2**44) + b".")
    assert "MemoryError" not in refused(tmp_path / "a.pth", "the pickle at byte 15 is broken", read_state_dict)


@pytest.mark.parametrize("keys", [[1], ["1", 1], [["1"]], ["1", "1"]])
def test_the_keys_of_pickled_storages_must_be_text(tmp_path: Path, keys: Any) -> None:
    state = {"w": tensor("1", 6, 0, (6,), (1,))}
    path = legacy(tmp_path / "a.pth", state, {"1": np.zeros(6, np.float32)})
    content = path.read_bytes()
    path.write_bytes(content.replace(pickle.dumps(["1"], 2), pickle.dumps(keys, 2)))
    assert path.read_bytes() != content
    refused(path, "its list of storages is not the one", read_state_dict)


@pytest.mark.parametrize(("shape", "strides"), [((0, 2**62, 2**62), (1, 1, 1)), ((0, 1), (2**80, 1))])
def test_an_empty_pickled_tensor_must_have_a_valid_shape(tmp_path: Path, shape: Any, strides: Any) -> None:
    path = legacy(tmp_path / "a.pth", {"w": tensor("1", 6, 0, shape, strides)}, {"1": np.zeros(6, np.float32)})
    refused(path, "the tensor w has the impossible shape", read_state_dict)


def onnx_file(path: Path, nodes: list[Any], *arrays: Any) -> Path:
    from onnx import TensorProto, helper

    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", shapes[:1], shapes[1:], list(arrays))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path


def elsewhere(name: str, place: str) -> Any:
    """Return an array whose values are in another file."""
    from onnx import TensorProto

    array = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    array.external_data.add(key="location", value=place)
    return array


def test_an_onnx_graph_with_a_cycle_terminates(tmp_path: Path) -> None:
    from onnx import helper

    (tmp_path / "w.bin").write_bytes(bytes(4))  # with external weights, ONNX's own checker is not used
    circle = helper.make_node("Identity", ["y"], ["y"])
    path = onnx_file(tmp_path / "a.onnx", [circle], elsewhere("w", "w.bin"))
    assert read_onnx(path).outputs[0].kind == "unknown"


def test_an_onnx_file_may_name_files_with_impossible_names(tmp_path: Path) -> None:
    from onnx import helper

    path = onnx_file(tmp_path / "a.onnx", [helper.make_node("Relu", ["x"], ["y"])], elsewhere("w", "w" * 300))
    refused(path, "File name too long", read_onnx)


def test_onnx_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    from onnx import helper

    path = onnx_file(tmp_path / "a.onnx", [helper.make_node("Relu", ["x"], ["y"])], elsewhere("w", "w-w-w"))
    path.write_bytes(path.read_bytes().replace(b"w-w-w", b"w\xff\xfe-w"))
    refused(path, r"a\.onnx cannot be read as an ONNX model", read_onnx)


def test_external_weights_of_nodes_and_nested_graphs_are_refused(tmp_path: Path) -> None:
    from onnx import helper

    constant = helper.make_node("Constant", [], ["y"], value=elsewhere("hidden", "../secret"))
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("y", 1, [1])])
    either = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    for node in (constant, either):
        path = onnx_file(tmp_path / "a.onnx", [node])
        refused(path, "keeps the weights hidden in '../secret', outside of its folder", read_onnx)
