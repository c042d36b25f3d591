"""Inference of pixels, labels and activation, against the arithmetic that each file states."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.engines.conversion import load_reference
from app.engines.mxnet.compat import prepare
from app.errors import ModelFormatError
from app.formats.folder import open_model_folder
from app.formats.infer_signature import ModelFiles, infer_folder, infer_signature
from app.formats.inference import Inference, settle
from app.formats.mxnet_params import write_params
from app.types import Postprocess, Preprocess, Signature, TensorSpec

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Nodes = list[Any]


def onnx_file(
    path: Path,
    first: Nodes = (),  # type: ignore[assignment]
    last: Nodes = (),  # type: ignore[assignment]
    shape: tuple[Any, ...] = ("N", 3, 64, 64),
    element: int = TensorProto.FLOAT,
    outputs: list[tuple[str, int, list[Any]]] | None = None,
    constants: dict[str, Any] | None = None,
    metadata: dict[str, str] | None = None,
    producer: str = "",
) -> Path:
    """Write a network: ``first`` makes ``pixels`` of ``x``, layers give ``logits``, ``last`` makes outputs of them."""
    weights = {"kernel": np.ones((4, 3, 1, 1), np.float32), "weight": np.ones((4, 5), np.float32)}
    weights |= {name: np.asarray(value, np.float32) for name, value in (constants or {}).items()}
    nodes = [
        *first,
        helper.make_node("Conv", ["pixels" if first else "x", "kernel"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["row"]),
        helper.make_node("Gemm", ["row", "weight"], ["logits"]),
        *last,
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", element, list(shape))],
        [helper.make_tensor_value_info(*output) for output in outputs or [("logits", TensorProto.FLOAT, ["N", 5])]],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name=producer)
    model.ir_version = 8
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, [output], **attributes)


def arithmetic(preprocess: Preprocess) -> tuple[Any, Any]:
    """Return the values of black and white."""
    mean, std = np.array(preprocess.mean), np.array(preprocess.std)
    return (0 - mean) / std, (255 * preprocess.scale - mean) / std


@pytest.mark.parametrize(
    ("steps", "constants", "black", "white", "color"),
    [
        # networks that take pixels of 0-255
        ([("Div", "c")], {"c": 255}, 0, 255, "rgb"),
        ([("Mul", "c"), ("Sub", "d")], {"c": 1 / 127.5, "d": 1}, 0, 255, "rgb"),
        (
            [("Sub", "c"), ("Div", "d")],
            {"c": np.reshape([123.7, 116.3, 103.5], (1, 3, 1, 1)), "d": 58.4},
            0,
            255,
            "rgb",
        ),
        ([("Sub", "c")], {"c": np.reshape([103.939, 116.779, 123.68], (3, 1, 1))}, 0, 255, "bgr"),
        (
            [("Div", "c"), ("Sub", "d"), ("Div", "e")],
            {"c": 255, "d": np.reshape(IMAGENET_MEAN, (1, 3, 1, 1)), "e": np.reshape(IMAGENET_STD, (1, 3, 1, 1))},
            0,
            255,
            "rgb",
        ),
        # networks that take 0-1: of these the mean lies between
        (
            [("Sub", "c"), ("Div", "d")],
            {"c": np.reshape(IMAGENET_MEAN, (1, 3, 1, 1)), "d": np.reshape(IMAGENET_STD, (1, 3, 1, 1))},
            0,
            1,
            "rgb",
        ),
        ([("Mul", "c"), ("Sub", "d")], {"c": 2, "d": 1}, 0, 1, "rgb"),
        ([("Mul", "c")], {"c": 255}, 0, 1, "rgb"),
        # and -1 to 1
        ([("Add", "c"), ("Mul", "d")], {"c": 1, "d": 127.5}, -1, 1, "rgb"),
    ],
)
def test_a_graph_that_normalises_its_input_gets_unnormalised_pixels(
    tmp_path: Path, steps: list[tuple[str, str]], constants: dict[str, Any], black: float, white: float, color: str
) -> None:
    names = ["x", *(f"step{number}" for number in range(len(steps) - 1)), "pixels"]
    first = [node(kind, [names[n], constant], names[n + 1]) for n, (kind, constant) in enumerate(steps)]
    file = onnx_file(tmp_path / "net.onnx", first, constants=constants)
    found = infer_signature(ModelFiles(onnx=file))
    assert arithmetic(found.signature.preprocess) == (pytest.approx(black), pytest.approx(white))
    assert found.signature.preprocess.color == color
    assert "begins with" in found.reasons["pixels"]


def test_reversed_channels_before_the_means_leave_pictures_as_rgb(tmp_path: Path) -> None:
    first = [node("Gather", ["x", "order"], "turned", axis=1), node("Sub", ["turned", "c"], "pixels")]
    constants = {"c": np.reshape([103.939, 116.779, 123.68], (3, 1, 1)), "order": [2, 1, 0]}
    file = onnx_file(tmp_path / "net.onnx", first, constants=constants)
    assert infer_signature(ModelFiles(onnx=file)).signature.preprocess.color == "rgb"


@pytest.mark.parametrize(
    ("mean", "variance", "black", "white"),
    [
        ([120.0] * 3, [3600.0] * 3, 0, 255),
        ([0.45] * 3, [0.07] * 3, 0, 1),
        (
            [-0.33] * 3,
            [1.4] * 3,
            (0 - np.array(IMAGENET_MEAN)) / IMAGENET_STD,
            (1 - np.array(IMAGENET_MEAN)) / IMAGENET_STD,
        ),
        ([-0.05] * 3, [0.25] * 3, -1, 1),
    ],
)
def test_the_range_of_the_input_follows_from_the_first_normalisation(
    tmp_path: Path, mean: list[float], variance: list[float], black: Any, white: Any
) -> None:
    constants = {"gamma": [1, 1, 1], "beta": [0, 0, 0], "mean": mean, "variance": variance}
    first = [node("BatchNormalization", ["x", "gamma", "beta", "mean", "variance"], "pixels")]
    file = onnx_file(tmp_path / "net.onnx", first, constants=constants)
    preprocess = infer_signature(ModelFiles(onnx=file)).signature.preprocess
    assert arithmetic(preprocess) == (pytest.approx(black), pytest.approx(white))


@pytest.mark.parametrize("element", [TensorProto.UINT8, TensorProto.INT64])
def test_an_integer_input_gets_raw_pixels(tmp_path: Path, element: int) -> None:
    first = [node("Cast", ["x"], "pixels", to=TensorProto.FLOAT)]
    file = onnx_file(tmp_path / "net.onnx", first, element=element)
    assert arithmetic(infer_signature(ModelFiles(onnx=file)).signature.preprocess) == (0, 255)


PROBABILITIES = node("Softmax", ["logits"], "p", axis=1)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ([], "softmax"),
        ([node("Softmax", ["logits"], "y", axis=1)], "none"),
        ([PROBABILITIES, node("Clip", ["p"], "y")], "none"),
        ([PROBABILITIES, node("Unsqueeze", ["p", "two"], "q"), node("Squeeze", ["q", "two"], "y")], "none"),
        ([node("Sigmoid", ["logits"], "y")], "none"),
        ([node("LogSoftmax", ["logits"], "y", axis=1)], "softmax"),
    ],
)  # fmt: skip
def test_a_distribution_is_recognised_behind_operations_that_preserve_it(
    tmp_path: Path, last: Nodes, kind: str
) -> None:
    outputs = [("y" if last else "logits", TensorProto.FLOAT, ["N", 5])]
    graph = onnx_file(tmp_path / "net.onnx", last=last, outputs=outputs)
    model = onnx.load(str(graph))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "two"))
    graph.write_bytes(model.SerializeToString())
    assert infer_signature(ModelFiles(onnx=graph)).signature.postprocess.activation == kind


def signature(activation: Any) -> Inference:
    tensor = TensorSpec("x", (0, 3, 8, 8))
    return Inference(Signature((tensor,), (), postprocess=Postprocess(activation)), {"output": "inferred"})


@pytest.mark.parametrize(
    ("inferred", "rows", "activation"),
    [
        ("softmax", [[0.2, 0.8], [0.6, 0.4]], "none"),  # the graph hides its softmax
        ("softmax", [[2.0, -1.0], [0.5, 3.0]], "softmax"),
        ("none", [[2.0, -1.0], [0.5, 3.0]], "softmax"),
        ("none", [[0.9, 0.8], [0.1, 0.4]], "none"),  # one sigmoid for each class
        ("softmax", [[2.0], [-3.0]], "sigmoid"),
        ("none", [[0.3], [0.9]], "none"),
        ("none", [[1.3], [-0.9]], "sigmoid"),
    ],
)
def test_the_outputs_of_the_network_determine_the_activation(
    inferred: str, rows: list[list[float]], activation: str
) -> None:
    found = settle(signature(inferred), np.array(rows, np.float32))
    assert found.signature.postprocess.activation == activation
    assert ("inferred" in found.reasons["output"]) is (activation == inferred)


def test_a_stated_activation_is_left_alone() -> None:
    stated = replace(signature("softmax"), settled=True)
    assert settle(stated, np.array([[0.5, 0.5]], np.float32)) is stated


def test_the_distribution_among_several_outputs_is_used_unless_another_is_named(tmp_path: Path) -> None:
    last = [
        node("Softmax", ["logits"], "probabilities", axis=1),
        node("ArgMax", ["logits"], "label", axis=1, keepdims=0),
    ]
    outputs = [
        ("label", TensorProto.INT64, ["N"]),
        ("maps", TensorProto.FLOAT, ["N", 4, 64, 64]),
        ("logits", TensorProto.FLOAT, ["N", 5]),
        ("probabilities", TensorProto.FLOAT, ["N", 5]),
    ]
    files = ModelFiles(onnx=onnx_file(tmp_path / "net.onnx", last=last, outputs=outputs))
    found = infer_signature(files)
    assert found.signature.outputs == (TensorSpec("probabilities", (0, 5)),)
    assert "--output" in found.reasons["output"] and "logits" in found.reasons["output"]
    assert infer_signature(files, output="logits").signature.outputs == (TensorSpec("logits", (0, 5)),)
    for output in ("label", "maps"):
        with pytest.raises(ModelFormatError, match=rf"not a classifier.*{output}"):
            infer_signature(files, output=output)


@pytest.mark.parametrize(
    ("last", "output"),
    [
        ([node("LpNormalization", ["logits"], "y", axis=1)], ("y", TensorProto.FLOAT, ["N", 5])),
        ([], ("maps", TensorProto.FLOAT, ["N", 40, 31])),
        ([], ("row", TensorProto.INT64, ["N", 5])),
    ],
)
def test_an_output_that_is_not_a_row_of_classes_is_refused_with_its_shape(
    tmp_path: Path, last: Nodes, output: Any
) -> None:
    file = onnx_file(tmp_path / "net.onnx", last=last, outputs=[output])
    with pytest.raises(ModelFormatError, match=r"net\.onnx is not a classifier: .*(40, 31|5)"):
        infer_signature(ModelFiles(onnx=file))


def test_labels_for_every_value_turn_a_vector_into_classes(tmp_path: Path) -> None:
    last = [node("LpNormalization", ["logits"], "y", axis=1)]
    file = onnx_file(tmp_path / "net.onnx", last=last, outputs=[("y", TensorProto.FLOAT, ["N", 5])])
    assert infer_signature(ModelFiles(onnx=file), labels=5).signature.outputs == (TensorSpec("y", (0, 5)),)


@pytest.mark.parametrize(
    ("metadata", "labels"),
    [
        ({"labels": '["a", "b"]'}, ("a", "b")),
        ({"labels": '{"0": "a", "1": "b"}'}, ("a", "b")),
        ({"labels": '{"b": 1, "a": 0}'}, ("a", "b")),
        ({"names": "{0: 'a', 1: 'b'}"}, ("a", "b")),  # as Ultralytics writes them
        ({"labels": "a, b"}, None),
        ({"signature": "signed by me"}, None),
        ({"signature": '{"sha256": "00"}'}, None),
    ],
)
def test_labels_are_read_from_metadata_and_unknown_entries_are_ignored(
    tmp_path: Path, metadata: dict[str, str], labels: tuple[str, ...] | None
) -> None:
    found = infer_signature(ModelFiles(onnx=onnx_file(tmp_path / "net.onnx", metadata=metadata)))
    assert found.labels == labels
    assert found.signature.inputs == (TensorSpec("x", (0, 3, 64, 64)),)


@pytest.mark.parametrize(
    ("pixel_range", "pixel_format", "black", "white", "color"),
    [
        ("NominalRange_0_255", "Bgr8", 0, 255, "bgr"),
        ("Normalized_0_1", "Rgb8", 0, 1, "rgb"),
        ("Normalized_1_1", "Rgb8", -1, 1, "rgb"),
    ],
)
def test_the_image_metadata_of_onnx_are_used(
    tmp_path: Path, pixel_range: str, pixel_format: str, black: float, white: float, color: str
) -> None:
    metadata = {"Image.NominalPixelRange": pixel_range, "Image.BitmapPixelFormat": pixel_format}
    found = infer_signature(ModelFiles(onnx=onnx_file(tmp_path / "net.onnx", metadata=metadata))).signature
    assert arithmetic(found.preprocess) == (pytest.approx(black), pytest.approx(white))
    assert found.preprocess.color == color


def test_an_input_without_an_axis_for_channels_takes_grey_pictures(tmp_path: Path) -> None:
    first = [node("Identity", ["x"], "pixels")]
    file = onnx_file(tmp_path / "net.onnx", first, shape=("N", 28, 28))
    found = infer_signature(ModelFiles(onnx=file)).signature
    assert (found.inputs[0].shape, found.preprocess.color) == ((0, 28, 28), "grey")


def test_an_open_size_is_the_stated_or_usual_one_and_a_fixed_size_is_kept(tmp_path: Path) -> None:
    open_sides = ModelFiles(onnx=onnx_file(tmp_path / "open.onnx", shape=("N", 3, "H", "W")))
    assert infer_signature(open_sides).signature.inputs[0].shape == (0, 3, 224, 224)
    assert infer_signature(open_sides, (96, 128)).signature.inputs[0].shape == (0, 3, 96, 128)
    fixed = ModelFiles(onnx=onnx_file(tmp_path / "fixed.onnx"))
    with pytest.raises(ModelFormatError, match=r"fixed at 64 x 64, not 96 x 96"):
        infer_signature(fixed, (96, 96))


# --- MXNet


def checkpoint(
    folder: Path, build: Any, shape: tuple[int, ...] = (1, 3, 32, 32), data: str = "data", **learned: Any
) -> ModelFiles:
    prepare()
    import mxnet as mx

    symbol = build(mx, mx.sym.var(data))
    arguments, _outputs, states = symbol.infer_shape(**{data: shape})
    named = [*zip(symbol.list_arguments(), arguments, strict=True)]
    params = {f"arg:{name}": np.ones(size, np.float32) for name, size in named if name != data and "label" not in name}
    for name, size in zip(symbol.list_auxiliary_states(), states, strict=True):
        params[f"aux:{name}"] = np.ones(size, np.float32)
    params |= {name.replace("__", ":"): np.asarray(value, np.float32) for name, value in learned.items()}
    symbol.save(str(folder / "net-symbol.json"))
    write_params(folder / "net-0000.params", params)
    return ModelFiles(folder / "net-symbol.json", folder / "net-0000.params")


def layers(mx: Any, pixels: Any, classes: int = 5) -> Any:
    maps = mx.sym.Convolution(pixels, kernel=(3, 3), num_filter=4, name="conv")
    return mx.sym.FullyConnected(mx.sym.Flatten(maps), num_hidden=classes, name="fc")


@pytest.mark.parametrize(
    ("first", "black", "white"),
    [
        (lambda x: x / 255, 0, 255),
        (lambda x: (x - 127.5) * (1 / 128), 0, 255),
        (lambda x: 2 * x - 1, 0, 1),
    ],
)
def test_a_checkpoint_that_normalises_its_input_gets_unnormalised_pixels(
    tmp_path: Path, first: Any, black: float, white: float
) -> None:
    found = infer_signature(checkpoint(tmp_path, lambda mx, x: layers(mx, first(x)))).signature
    assert arithmetic(found.preprocess) == (pytest.approx(black), pytest.approx(white))


@pytest.mark.parametrize(
    ("mean", "variance", "raw"), [([-0.33, -0.3, -0.3], [1.4] * 3, False), ([120, 110, 105], [4000] * 3, True)]
)
def test_the_running_mean_of_the_first_batchnorm_distinguishes_raw_pixels(
    tmp_path: Path, mean: list[float], variance: list[float], raw: bool
) -> None:
    files = checkpoint(
        tmp_path,
        lambda mx, x: layers(mx, mx.sym.BatchNorm(x, name="bn_data")),
        aux__bn_data_moving_mean=mean,
        aux__bn_data_moving_var=variance,
    )
    assert (infer_signature(files).signature.preprocess.scale == 1) is raw


def test_a_distribution_is_preferred_to_an_earlier_output_of_boxes(tmp_path: Path) -> None:
    files = checkpoint(
        tmp_path,
        lambda mx, x: mx.sym.Group([layers(mx, x, 4), mx.sym.SoftmaxActivation(layers_of_two(mx, x), name="prob1")]),
    )
    found = infer_signature(files)
    assert found.signature.outputs == (TensorSpec("prob1", (0, 2)),)
    assert infer_signature(files, output="fc").signature.outputs == (TensorSpec("fc", (0, 4)),)


def layers_of_two(mx: Any, x: Any) -> Any:
    maps = mx.sym.Convolution(x, kernel=(3, 3), num_filter=2, name="conv2")
    return mx.sym.FullyConnected(mx.sym.Flatten(maps), num_hidden=2, name="fc2")


def test_an_embedding_is_refused_as_a_vector(tmp_path: Path) -> None:
    files = checkpoint(tmp_path, lambda mx, x: mx.sym.BatchNorm(layers(mx, x, 512), name="fc1"))
    with pytest.raises(ModelFormatError, match=r"fc1 is a vector of 512 features"):
        infer_signature(files)


# --- folders


def test_values_missing_in_a_signature_of_mms_follow_from_its_input(tmp_path: Path) -> None:
    """The smile tutorial's own folder: one channel is grey, Keras-MXNet's name for an input means values of 0-1."""
    folder = tmp_path / "smileCNN"
    folder.mkdir()
    checkpoint(folder, lambda mx, x: mx.sym.softmax(layers(mx, x, 2)), (1, 1, 32, 32), "/conv2d_1_input1")
    inputs = [{"data_name": "/conv2d_1_input1", "data_shape": [0, 1, 32, 32]}]
    (folder / "signature.json").write_text(json.dumps({"inputs": inputs, "input_type": "image/jpeg"}))
    (folder / "synset.txt").write_text("non-smiling\nsmiling\n")
    found = infer_folder(open_model_folder(folder)).signature
    assert (found.preprocess.color, arithmetic(found.preprocess)) == ("grey", (0, pytest.approx(1)))
    assert found.postprocess.activation == "none"


@pytest.mark.parametrize(("archived", "activation"), [(False, "softmax"), (True, "none")])
def test_logits_get_a_softmax_except_in_archives_of_the_mms_vision_service(
    tmp_path: Path, archived: bool, activation: str
) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    checkpoint(folder, layers)
    inputs = [{"data_name": "data", "data_shape": [0, 3, 32, 32]}]
    (folder / "signature.json").write_text(json.dumps({"inputs": inputs}))
    if archived:
        (folder / "MAR-INF").mkdir()
        manifest = {"model": {"modelName": "net", "handler": "mxnet_vision_service:handle"}}
        (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    found = infer_folder(open_model_folder(folder)).signature
    assert found.postprocess.activation == activation
    assert arithmetic(found.preprocess) == (0, 255)  # raw pixels either way, as MMS gives them


# --- Keras


def keras_layer(kind: str, name: str, *before: str, **options: Any) -> dict[str, Any]:
    inbound = [[[item, 0, 0, {}] for item in before]] if before else []
    return {"class_name": kind, "name": name, "config": {"name": name, **options}, "inbound_nodes": inbound}


def write_keras(path: Path, layers: list[dict[str, Any]], outputs: list[str], weights: dict[str, list[Any]]) -> None:
    config = {
        "name": "model",
        "layers": layers,
        "input_layers": [["x", 0, 0]],
        "output_layers": [[name, 0, 0] for name in outputs],
    }
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        group = file.create_group("model_weights")
        group.attrs["backend"], group.attrs["keras_version"] = "tensorflow", "2.15.0"
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            inside = group.create_group(name)
            inside.attrs["weight_names"] = [f"{name}/{number}".encode() for number in range(len(arrays))]
            for number, array in enumerate(arrays):
                inside[f"{name}/{number}"] = array


def test_the_distribution_among_the_outputs_of_a_keras_network_is_used(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    boxes, classes = draw.normal(size=(3, 4)).astype(np.float32), draw.normal(size=(3, 2)).astype(np.float32)
    folder = tmp_path / "net"
    folder.mkdir()
    write_keras(
        folder / "net.h5",
        [
            keras_layer("InputLayer", "x", batch_input_shape=[None, 8, 8, 3]),
            keras_layer("GlobalAveragePooling2D", "pooled", "x", data_format="channels_last"),
            keras_layer("Dense", "boxes", "pooled", units=4, activation="linear", use_bias=False),
            keras_layer("Dense", "classes", "pooled", units=2, activation="softmax", use_bias=False),
        ],
        ["boxes", "classes"],
        {"boxes": [boxes], "classes": [classes]},
    )
    opened = load_reference(open_model_folder(folder), "keras")
    assert opened.signature.outputs == (TensorSpec("classes", (0, 2)),)
    assert "--output" in opened.reasons["output"] and "boxes" in opened.reasons["output"]
    pictures = draw.uniform(size=(2, 8, 8, 3)).astype(np.float32)
    logits = np.exp(pictures.mean(axis=(1, 2)) @ classes)
    expected = logits / logits.sum(axis=1, keepdims=True)
    assert opened.engine.predict(pictures) == pytest.approx(expected, abs=1e-6)
    named = infer_signature(ModelFiles(h5=folder / "net.h5"), output="boxes").signature
    assert (named.outputs, named.postprocess.activation) == ((TensorSpec("boxes", (0, 4)),), "softmax")


def test_the_means_of_caffe_on_reversed_channels_imply_raw_rgb(tmp_path: Path) -> None:
    """``keras.applications.vgg16.preprocess_input`` in the graph, as TensorFlow 2 writes it."""
    ellipsis, back = {"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}
    turned = keras_layer("SlicingOpLambda", "turned", function="__operators__.getitem")
    turned["inbound_nodes"] = [["x", 0, 0, {"slice_spec": [ellipsis, back]}]]
    shifted = keras_layer("TFOpLambda", "shifted", function="nn.bias_add")
    shifted["inbound_nodes"] = [["turned", 0, 0, {"bias": [-103.939, -116.779, -123.68], "data_format": "NHWC"}]]
    write_keras(
        tmp_path / "net.h5",
        [
            keras_layer("InputLayer", "x", batch_input_shape=[None, 8, 8, 3]),
            turned,
            shifted,
            keras_layer("GlobalAveragePooling2D", "pooled", "shifted", data_format="channels_last"),
            keras_layer("Dense", "classes", "pooled", units=2, activation="softmax", use_bias=False),
        ],
        ["classes"],
        {"classes": [np.ones((3, 2), np.float32)]},
    )
    preprocess = infer_signature(ModelFiles(h5=tmp_path / "net.h5")).signature.preprocess
    assert (preprocess.color, arithmetic(preprocess)) == ("rgb", (0, 255))


@pytest.mark.parametrize(
    ("pooling", "name", "pixels"),
    [
        # Teachable Machine's
        ("global_average_pooling2d_GlobalAveragePooling2D1", "dense_Dense1", ("fit", "lanczos", -1, 1)),
        ("pooled", "dense_Dense1", ("stretch", "bilinear", 0, 1)),  # another one's, trained in TensorFlow.js
        ("pooled", "dense_1", ("stretch", "bilinear", 0, 1)),
    ],
)
def test_the_layers_of_teachable_machine_imply_its_pixel_range(
    tmp_path: Path, pooling: str, name: str, pixels: tuple[Any, ...]
) -> None:
    write_keras(
        tmp_path / "net.h5",
        [
            keras_layer("InputLayer", "x", batch_input_shape=[None, 224, 224, 3]),
            keras_layer("GlobalAveragePooling2D", pooling, "x", data_format="channels_last"),
            keras_layer("Dense", name, pooling, units=2, activation="softmax", use_bias=False),
        ],
        [name],
        {name: [np.ones((3, 2), np.float32)]},
    )
    found = infer_signature(ModelFiles(h5=tmp_path / "net.h5")).signature.preprocess
    assert (found.resize, found.interpolation) == pixels[:2]
    assert arithmetic(found) == (pytest.approx(pixels[2]), pytest.approx(pixels[3]))


@pytest.mark.parametrize(
    ("name", "color"),
    [
        ("tf215_grey_new_axis", "grey"),  # an axis for the channel, then / 255
        ("tf215_nested_frozen", "rgb"),  # / 127.5 - 1
        ("tf215_operations", "rgb"),  # reversed channels less Caffe's means, / 64
        ("tf23_operations", "rgb"),  # the same, as TensorFlow 2.3 wrote it down
        ("tf215_nested_three", "rgb"),  # a Rescaling in a model inside
    ],
)
def test_a_keras_network_that_normalises_its_input_gets_raw_pixels(name: str, color: str) -> None:
    path = Path(__file__).parent.parent / "testdata" / f"{name}.h5"
    preprocess = infer_signature(ModelFiles(h5=path)).signature.preprocess
    assert (preprocess.color, preprocess.scale, preprocess.mean, preprocess.std) == (color, 1.0, (0.0,), (1.0,))
