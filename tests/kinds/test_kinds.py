"""Model files of every kind, dropped into the models folder, against what an independent program computes of a picture.

Pictures have the network's size already, so that nothing is resized and the pixels of the reference are these.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from flask import Flask
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app import create_app
from app.cli.import_model import import_command
from app.engines.keras.engine import KerasEngine
from app.engines.mxnet.compat import prepare
from app.errors import ModelFormatError
from app.formats.folder import open_model_folder
from app.formats.mxnet_params import write_params
from app.serving.model import Model, open_model
from app.serving.pipeline import classify
from app.settings import PictureLimits, Settings
from tests.kinds.conftest import converted
from tests.kinds.table import Table

TESTDATA = Path(__file__).parent.parent / "testdata"
DRAW = np.random.default_rng(17)
SIDE = 12
PICTURES = DRAW.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
KERNEL = DRAW.normal(0, 0.4, (4, 3, 3, 3)).astype(np.float32)
DENSE = DRAW.normal(0, 1.0, (4, 3)).astype(np.float32)
IMAGENET_MEAN, IMAGENET_STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])

Pixels = Callable[[Any], Any]
"""From pictures (N, H, W, 3) of 0-255 to the network's input."""


def raw(pictures: Any) -> Any:
    return pictures.astype(np.float32).transpose(0, 3, 1, 2)


def unit(pictures: Any) -> Any:
    return raw(pictures) / 255


def torch(pictures: Any) -> Any:
    return ((pictures / np.float32(255) - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32).transpose(0, 3, 1, 2)


def grey(pictures: Any) -> Any:
    """Return Pillow's luma, 0-1, without an axis for channels."""
    return np.stack([np.asarray(Image.fromarray(picture).convert("L"), np.float32) / 255 for picture in pictures])


def softmax(rows: Any) -> Any:
    wide = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True))
    return wide / wide.sum(axis=1, keepdims=True)


def sigmoid(rows: Any) -> Any:
    positive = 1 / (1 + np.exp(-rows.astype(np.float64)))
    return np.hstack([1 - positive, positive])


def png(picture: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def answers(model: Model, pictures: Any = PICTURES) -> Any:
    """Return the probabilities that a model answers for the pictures, in the order of its labels."""
    rows = []
    for picture in pictures:
        found = classify(model, png(picture), PictureLimits(), top=0).predictions
        by_label = {item.label: item.probability for item in found}
        rows.append([by_label[label] for label in model.labels])
    return np.array(rows)


def difference(found: Any, expected: Any) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max())


# --- ONNX, against ONNX Runtime


@dataclass(frozen=True)
class Onnx:
    """An ONNX file: ``first`` makes ``pixels`` of ``x``; ``last`` makes outputs of ``logits``."""

    kind: str
    pixels: Pixels = torch
    first: tuple[Any, ...] = ()
    last: tuple[Any, ...] = ()
    output: str = ""
    probable: Callable[[Any], Any] = softmax
    element: int = TensorProto.FLOAT
    shape: tuple[Any, ...] = ("N", 3, SIDE, SIDE)
    outputs: tuple[str, ...] = ()
    constants: tuple[tuple[str, Any], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    opset: int = 13
    shuffled: bool = False
    function: bool = False


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def same(rows: Any) -> Any:
    return rows


SOFTMAX = node("Softmax", "logits", "p", axis=1)
TO_FLOAT = node("Cast", "x", "f", to=TensorProto.FLOAT)
LAST_TO_FIRST = node("Transpose", "f", "pixels", perm=[0, 3, 1, 2])
MEAN, STD = np.reshape(IMAGENET_MEAN, (1, 3, 1, 1)), np.reshape(IMAGENET_STD, (1, 3, 1, 1))

ONNX = [
    Onnx("logits"),
    Onnx("softmax", last=(SOFTMAX,), output="p", probable=same),
    Onnx("one logit", probable=sigmoid, constants=(("dense", DENSE[:, :1]),)),
    Onnx(
        "softmax behind QuantizeLinear and DequantizeLinear",
        last=(SOFTMAX, node("QuantizeLinear", "p s z", "q"), node("DequantizeLinear", "q s z", "y")),
        output="y",
        probable=same,
        constants=(("s", np.float32(1 / 255)), ("z", np.uint8(0))),
    ),
    Onnx("softmax behind Clip", last=(SOFTMAX, node("Clip", "p", "y")), output="y", probable=same),
    Onnx(
        "softmax behind Reshape and Squeeze",
        last=(SOFTMAX, node("Reshape", "p r", "q"), node("Squeeze", "q a", "y")),
        output="y",
        probable=same,
        constants=(("r", np.int64([-1, 3, 1])), ("a", np.int64([2]))),
    ),
    Onnx(
        "softmax written as its formula",
        last=(node("Exp", "logits", "e"), node("ReduceSum", "e a", "t"), node("Div", "e t", "y")),
        output="y",
        probable=same,
        constants=(("a", np.int64([1])),),
    ),
    Onnx(
        "whole numbers, channels last (uint8)",
        lambda pictures: pictures,
        (TO_FLOAT, node("Div", "f c", "d"), node("Transpose", "d", "pixels", perm=[0, 3, 1, 2])),
        element=TensorProto.UINT8,
        shape=("N", SIDE, SIDE, 3),
        constants=(("c", np.float32(255)),),
    ),
    Onnx(
        "whole numbers (int64)",
        lambda pictures: pictures.astype(np.int64).transpose(0, 3, 1, 2),
        (node("Cast", "x", "pixels", to=TensorProto.FLOAT),),
        element=TensorProto.INT64,
        constants=(("dense", DENSE / 100),),
    ),
    Onnx(
        "normalises 0-255 itself",
        raw,
        (node("Sub", "x m", "f"), node("Div", "f s", "pixels")),
        constants=(("m", MEAN * 255), ("s", STD * 255)),
    ),
    Onnx(
        "normalises 0-1 itself",
        unit,
        (node("Sub", "x m", "f"), node("Div", "f s", "pixels")),
        constants=(("m", MEAN), ("s", STD)),
    ),
    Onnx(
        "several outputs: whole numbers and maps first",
        last=(SOFTMAX, node("ArgMax", "logits", "label", axis=1)),
        output="p",
        outputs=("label", "maps", "p"),
        probable=same,
    ),
    Onnx("labels in the metadata, as a dictionary", metadata=(("labels", '{"0": "a", "1": "b", "2": "c"}'),)),
    Onnx("another program's signature in the metadata", metadata=(("signature", "signed"),)),
    Onnx(
        "grey pictures without an axis for channels",
        grey,
        (node("Unsqueeze", "x a", "g"), node("Concat", "g g g", "pixels", axis=1)),
        shape=("N", SIDE, SIDE),
        constants=(("a", np.int64([1])),),
    ),
    Onnx("opset 22", opset=22),
    Onnx("nodes in no order", last=(SOFTMAX,), output="p", probable=same, shuffled=True),
    Onnx(
        "functions of its own",
        last=(node("Own", "logits", "y", domain="own"),),
        output="y",
        probable=same,
        function=True,
    ),
]


SLOW = {
    "softmax behind Clip",
    "whole numbers (int64)",
    "normalises 0-1 itself",
    "labels in the metadata, as a dictionary",
    "another program's signature in the metadata",
    "opset 22",
    "nodes in no order",
}
"""Kinds that are read as another one is: a process converts each."""


def write_onnx(path: Path, case: Onnx) -> None:
    arrays = {"kernel": KERNEL, "dense": DENSE, **dict(case.constants)}
    nodes = [
        *case.first,
        node("Conv", f"{'pixels' if case.first else 'x'} kernel", "maps"),
        node("GlobalAveragePool", "maps", "pooled"),
        node("Flatten", "pooled", "row"),
        node("MatMul", "row dense", "logits"),
        *case.last,
    ]
    used = {name for node in nodes for name in node.input}
    kinds = {"label": TensorProto.INT64}
    shapes = {"label": ["N", 1], "maps": ["N", 4, SIDE - 2, SIDE - 2], "logits": ["N", arrays["dense"].shape[1]]}
    outputs = [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shapes.get(name, ["N", 3]))
        for name in case.outputs or (case.output or "logits",)
    ]
    graph = helper.make_graph(
        nodes[::-1] if case.shuffled else nodes,
        "net",
        [helper.make_tensor_value_info("x", case.element, list(case.shape))],
        outputs,
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items() if name in used],
    )
    domains = [helper.make_opsetid("", case.opset), *([helper.make_opsetid("own", 1)] if case.function else [])]
    functions = [
        helper.make_function(
            "own", "Own", ["a"], ["b"], [helper.make_node("Softmax", ["a"], ["b"], axis=1)], domains[:1]
        )
    ]
    model = helper.make_model(graph, opset_imports=domains, functions=functions if case.function else [])
    model.ir_version = 8
    helper.set_model_props(model, dict(case.metadata))
    path.write_bytes(model.SerializeToString())


def by_onnxruntime(path: Path, case: Onnx) -> Any:
    import onnxruntime

    if case.shuffled:  # ONNX Runtime needs nodes in order
        model = onnx.load(str(path))
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        path = path.with_suffix(".sorted")
        onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = session.run([case.output or "logits"], {"x": case.pixels(PICTURES)})[0]
    return case.probable(rows.reshape(len(rows), -1))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] if case.kind in SLOW else [], id=case.kind.replace(" ", "-"))
        for case in ONNX
    ],
)
def test_an_onnx_file_answers_as_onnx_runtime(tmp_path: Path, case: Onnx, table: Table) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    write_onnx(folder / "net.onnx", case)
    model = converted(folder, tmp_path / "cache")
    expected = by_onnxruntime(folder / "net.onnx", case)
    assert np.ptp(expected, axis=0).max() > 1e-4  # the two pictures differ
    if "labels" in dict(case.metadata):
        assert model.labels == ("a", "b", "c")
    worst = difference(answers(model), expected)
    assert worst < 1e-5
    table.add(f"ONNX: {case.kind}", "onnx", "ONNX Runtime", worst)


# --- MXNet, against its own Module


def layers(mx: Any, pixels: Any, classes: int = 3, name: str = "") -> Any:
    maps = mx.sym.Activation(
        mx.sym.Convolution(pixels, kernel=(3, 3), num_filter=4, name=f"{name}conv"), act_type="relu"
    )
    return mx.sym.FullyConnected(mx.sym.Flatten(maps), num_hidden=classes, name=f"{name}fc")


def one_by_one(mx: Any, x: Any) -> Any:
    maps = mx.sym.Convolution(x, kernel=(SIDE, SIDE), num_filter=8)
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(maps, num_hidden=3), name="softmax")


MXNET = [
    ("logits", lambda mx, x: layers(mx, x), raw, softmax, "<f4", 0),
    ("softmax", lambda mx, x: mx.sym.SoftmaxOutput(layers(mx, x), name="softmax"), raw, same, "<f4", 0),
    ("one logit", lambda mx, x: layers(mx, x, 1), raw, sigmoid, "<f4", 0),
    ("normalises 0-255 itself", lambda mx, x: layers(mx, (x - 127.5) / 128), raw, softmax, "<f4", 0),
    ("normalises 0-1 itself", lambda mx, x: layers(mx, x * 2 - 1), unit, softmax, "<f4", 0),
    (
        "several outputs: boxes first",
        lambda mx, x: mx.sym.Group(
            [layers(mx, x, 4, "box_"), mx.sym.SoftmaxActivation(layers(mx, x, 2), name="prob1")]
        ),
        raw,
        same,
        "<f4",
        1,
    ),
    ("parameters of 16 bits", lambda mx, x: layers(mx, x), raw, softmax, "<f2", 0),
    ("parameters of 64 bits", lambda mx, x: layers(mx, x), raw, softmax, "<f8", 0),
    ("1 x 1 maps, then FullyConnected", one_by_one, raw, same, "<f4", 0),
]


@pytest.mark.parametrize(
    ("kind", "build", "pixels", "probable", "dtype", "output"),
    MXNET,
    ids=[case[0].replace(" ", "-") for case in MXNET],
)
def test_a_checkpoint_answers_as_the_module_of_mxnet(
    tmp_path: Path,
    table: Table,
    kind: str,
    build: Any,
    pixels: Pixels,
    probable: Callable[[Any], Any],
    dtype: str,
    output: int,
) -> None:
    prepare()
    import mxnet as mx

    symbol, shape = build(mx, mx.sym.var("data")), (len(PICTURES), 3, SIDE, SIDE)
    sizes, _outputs, _states = symbol.infer_shape(data=shape)
    named = zip(symbol.list_arguments(), sizes, strict=True)
    arrays = {
        name: DRAW.normal(0, 0.02, size).astype(dtype)
        for name, size in named
        if name != "data" and not name.endswith("label")
    }
    folder = tmp_path / "net"
    folder.mkdir()
    symbol.save(str(folder / "net-symbol.json"))
    write_params(folder / "net-0000.params", {f"arg:{name}": array for name, array in arrays.items()})
    module = mx.mod.Module(symbol, data_names=["data"], label_names=None)
    module.bind(for_training=False, data_shapes=[("data", shape)])
    exact = {name: mx.nd.array(array.astype(np.float32)) for name, array in arrays.items()}
    module.set_params(exact, {}, allow_missing=True)
    module.forward(mx.io.DataBatch([mx.nd.array(pixels(PICTURES))]), is_train=False)
    expected = probable(module.get_outputs()[output].asnumpy())

    model = open_model(open_model_folder(folder), "mxnet", cache_dir=None)
    worst = max(difference(answers(model), expected) for _ in range(3))
    assert np.ptp(expected, axis=0).max() > 1e-4
    assert worst < 1e-5
    table.add(f"MXNet: {kind}", "MXNet 1.9.1", "MXNet's Module", worst)


# --- Keras: files of the real versions, with what these have answered

KERAS = {
    path.name: json.loads(path.with_suffix(".json").read_text())
    for path in sorted([*TESTDATA.glob("*.h5"), *TESTDATA.glob("*.keras")])
    if "lambda" not in path.stem
    and path.with_suffix(".json").is_file()
    and "answers" in json.loads(path.with_suffix(".json").read_text())
}


def version_of(path: Path) -> str:
    """Return the version of Keras in a file."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    with h5py.File(path) as file:
        version = file.get("model_weights", file).attrs.get("keras_version", "1.2")
    return version.decode() if isinstance(version, bytes) else str(version)


@pytest.mark.parametrize("name", KERAS)
def test_a_keras_file_answers_as_the_version_that_saved_it(table: Table, name: str) -> None:
    facts, path = KERAS[name], TESTDATA / name
    pictures = np.array(facts["pictures"], np.float32)
    if pictures.ndim == 3:
        pictures = pictures[..., np.newaxis]  # grey pictures, for which Keras needs no axis for the channel
    expected = np.array(facts["answers"], np.float64).reshape(len(pictures), -1)
    engine = KerasEngine.load(path, (0, *pictures.shape[1:]))
    worst = difference(engine.predict(pictures), expected) / max(1.0, float(np.abs(expected).max()))
    assert worst < 1e-5
    described = re.sub(r"^(tf\d*_)?(keras\d*_)?", "", path.stem).replace("_", " ")
    kind = f"Keras: {described}" + (" (.keras)" if path.suffix == ".keras" else "")
    table.add(kind, f"Keras {version_of(path)}", "the Keras that saved it", worst)


# --- both ways in


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    place = tmp_path / "app"
    (place / "models").mkdir(parents=True)
    return create_app(Settings(models_dir=place / "models", uploads_dir=place / "up", instance_dir=place / "instance"))


def test_an_import_answers_as_the_same_file_dropped_into_the_models_folder(
    app: Flask, tmp_path: Path, table: Table
) -> None:
    case = next(case for case in ONNX if case.kind == "softmax written as its formula")
    models = tmp_path / "app" / "models"
    (models / "dropped").mkdir()
    write_onnx(models / "dropped" / "net.onnx", case)
    done = app.test_cli_runner().invoke(import_command, [str(models / "dropped" / "net.onnx"), "--name", "imported"])
    assert done.exit_code == 0, done.output
    assert "rows that the network gives sum to 1" in done.output
    found = [
        answers(open_model(open_model_folder(models / name), "auto", cache_dir=tmp_path / "app" / "instance" / "cache"))
        for name in ("imported", "dropped")
    ]
    worst = difference(*found)
    assert worst == 0
    table.add("both ways: imported, or dropped into the folder", "onnx", "each other", worst)


def test_an_export_served_again_keeps_labels_faces_and_pixels(app: Flask, tmp_path: Path, table: Table) -> None:
    from app.serving.export import write_onnx as export
    from app.settings import ROOT

    smile = open_model_folder(ROOT / "models" / "smile")
    assert smile.labels is not None
    folder, cache = tmp_path / "again", tmp_path / "cache"
    folder.mkdir()
    export(smile, smile.labels, folder / "smile.onnx")
    before = open_model(smile, "mxnet", cache_dir=None)
    after = converted(folder, cache)
    assert (after.labels, after.preprocess, after.postprocess) == (before.labels, before.preprocess, before.postprocess)
    worst = difference(answers(after), answers(before))
    assert worst < 1e-5
    table.add("both ways: exported to ONNX and dropped", "models export", "the model itself", worst)


REFUSALS = [
    ("ONNX: an embedding", Onnx("", last=(node("LpNormalization", "logits", "y", axis=1),), output="y"), "vector of 3"),
    ("ONNX: maps in place of classes", Onnx("", outputs=("maps",)), r"maps \[0, 4, 10, 10\]"),
    (
        "ONNX: whole numbers alone",
        Onnx("", last=(node("ArgMax", "logits", "label", axis=1),), outputs=("label",)),
        "whole numbers",
    ),
]


@pytest.mark.parametrize(("kind", "case", "message"), REFUSALS, ids=[kind for kind, _case, _message in REFUSALS])
def test_networks_that_are_not_classifiers_are_refused_by_output_shape(
    tmp_path: Path, table: Table, kind: str, case: Onnx, message: str
) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    write_onnx(folder / "net.onnx", case)
    with pytest.raises(ModelFormatError, match=message):
        converted(folder, tmp_path / "cache")
    table.add(kind, "onnx", "", "refused, with the shape")
