"""Signature of a Keras file, inferred from its architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.errors import ModelFormatError
from app.formats.inference import (
    SMALL,
    USUAL_KERAS,
    USUAL_SIDE,
    Inference,
    activation_of,
    as_grey,
    complete_shape,
    no_picture,
    output_reason,
    refuse_features,
)
from app.formats.keras_file import H5Model, read_h5
from app.formats.keras_graph import Call, Graph, Leaf, output_names, picture_shape, read_graph, tensors_in
from app.formats.keras_weights import assign_weights
from app.formats.pixels import (
    BY_TEACHABLE_MACHINE,
    CAFFE,
    RAW,
    SIGNED,
    TEACHABLE_MACHINE,
    TORCH,
    UNIT,
    Normalisation,
    arithmetic,
    from_teachable_machine,
    pixels_of,
)
from app.formats.signature import layout_of
from app.types import Layout, Postprocess, Preprocess, Signature, TensorSpec

FEATURES = 256
"""The least length of a row of pooled values, in steps of 32, that is features of a network without its classifier."""

KERAS_APPLICATIONS: tuple[tuple[tuple[str, ...], Preprocess, str], ...] = (
    (("efficientnet", "convnext", "regnet"), RAW, "0-255"),
    (("vgg16", "vgg19", "resnet50", "resnet101", "resnet152"), CAFFE, "BGR less the mean"),
    (("mobilenet", "inception", "xception", "nasnet"), SIGNED, "from -1 to 1"),
    (("densenet",), TORCH, "normalised as PyTorch's"),
    (("resnet50v2", "resnet101v2", "resnet152v2"), SIGNED, "from -1 to 1"),
    (("mobilenetv3",), RAW, "0-255"),
)
"""Preprocessing of ``keras.applications`` by the beginning of a network's name; the last match counts."""
NORMALISATIONS = ("BatchNormalization", "UnitNormalization", "LayerNormalization")
AUGMENTATIONS = re.compile(r"Random\w+|GaussianNoise|.*Dropout\w*|Resizing|CenterCrop|Reshape|Permute|ZeroPadding2D")
"""Keras layers that at prediction leave pixel values unchanged or only move them."""


def infer_h5(
    path: Path, architecture: Path | None, size: tuple[int, int] | None, output: str, labels: int | None
) -> Inference:
    """Infer the signature of a Keras file.

    :param architecture: the model's description, as in :func:`app.formats.keras_file.read_h5`.
    :param size: height and width of the input, if the user states them.
    :param output: the name of the output to use, if the user states it.
    :param labels: the number of labels, if there are any.
    :raises ModelFormatError: if the file cannot be read, or is not an image classifier.
    """
    model = read_h5(path, architecture)
    try:
        return _infer(model, path, size, output, labels)
    except ModelFormatError as error:
        message = str(error)
        raise (
            error if message.startswith(str(path)) else ModelFormatError(f"{path} cannot be served: {error}")
        ) from None
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:  # JSON of any shape
        reason = f"{type(error).__name__}: {error}"
        raise ModelFormatError(f"{path} does not describe its layers as Keras does: {reason}") from None


def _infer(model: H5Model, path: Path, size: tuple[int, int] | None, output: str, labels: int | None) -> Inference:
    names = output_names(model.config)
    chosen = output if output in names else _best_output(model, names)
    graph = read_graph(model.config, chosen)
    shape = picture_shape(graph)
    if len(shape) != 4:
        raise no_picture(graph.input_name, graph.input_shape)
    layers = [call.leaf for call in graph.calls]
    first = any(leaf.config.get("data_format") == "channels_first" for leaf in layers)
    layout: Layout = "NCHW" if first else layout_of(shape) if shape[1] and shape[2] else "NHWC"
    shape, input_reason = complete_shape(graph.input_name, shape, layout, size)
    preprocess, reason = _pixels_of_h5(model, graph)
    if shape[layout.index("C")] == 1:
        preprocess = as_grey(preprocess)
    name, is_distribution, units, kind = _keras_output(graph)
    if kind == "features" or (kind == "pooled" and units >= FEATURES and units % 32 == 0 and labels != units):
        refuse_features(path, name, units, labels)
    activation = activation_of(is_distribution, units)
    return Inference(
        Signature(
            (TensorSpec(graph.input_name, shape),),
            (TensorSpec(chosen or name, (0, units)),) if units or chosen else (),
            replace(preprocess, layout=layout),
            Postprocess(activation),
        ),
        {
            "input": input_reason,
            "pixels": reason,
            "output": output_reason(activation, [other for other in names if other != chosen], chosen),
        },
    )


def _best_output(model: H5Model, names: list[str]) -> str:
    """Return the name of the output that is most likely the row of classes; empty if there is just one output."""
    order = ("logits", "pooled", "features")

    def rank(name: str) -> tuple[bool, int]:
        _name, is_distribution, units, kind = _keras_output(read_graph(model.config, name))
        return not (is_distribution and units), order.index(kind)

    return min(names, key=rank, default="")


def _keras_output(graph: Graph) -> tuple[str, bool, int, str]:
    """Return the output layer's name, whether it gives a distribution, its number of values (0 if unknown), and its
    kind: ``features`` after a normalisation, ``pooled`` after maps that are not a convolution's, else ``logits``."""
    name, kind, is_distribution = "", "logits", False
    place = graph.output.call
    while place >= 0:
        call = graph.calls[place]
        leaf, config = call.leaf, call.leaf.config
        name, is_layer = name or leaf.name, "units" in config or "filters" in config
        activation = str(config.get("activation", "")).rpartition(">")[2]
        if leaf.class_name == "Softmax" or (
            (is_layer or leaf.class_name == "Activation") and activation in ("softmax", "sigmoid")
        ):
            is_distribution = True
        if is_layer:
            return name, is_distribution, int(config.get("units") or config["filters"]), kind
        before = tensors_in((*call.arguments, *call.options.values()))
        if leaf.class_name in NORMALISATIONS or "l2_normalize" in str(config.get("function", "")):
            kind = "features"
        elif leaf.class_name.startswith("Global") and before and not _ends_in_convolution(graph, before[0].call):
            kind = "pooled"
        place = before[0].call if before else -1
    return name, is_distribution, 0, kind


def _ends_in_convolution(graph: Graph, place: int) -> bool:
    """Return whether maps are a convolution's output, whatever activation follows it."""
    while place >= 0:
        call = graph.calls[place]
        if "filters" in call.leaf.config:
            return True
        before = tensors_in((*call.arguments, *call.options.values()))
        if call.leaf.class_name not in ("Activation", "ReLU", "Dropout", "LeakyReLU") or not before:
            return False
        place = before[0].call
    return False


def _pixels_of_h5(model: H5Model, graph: Graph) -> tuple[Preprocess, str]:
    normalisation = keras_normalisation(model, graph)
    side = next((side for side in graph.input_shape[1:] if side and side > 3), USUAL_SIDE)
    if (normal := pixels_of(normalisation, side <= SMALL)) is not None:
        return normal
    if from_teachable_machine("\n".join(call.leaf.name for call in graph.calls).encode()):
        return TEACHABLE_MACHINE, BY_TEACHABLE_MACHINE
    bodies = [(body.name, body.name.lower().replace("_", "")) for body in graph.root.models()]
    matches = [(name, entry) for name, plain in bodies for entry in KERAS_APPLICATIONS if plain.startswith(entry[0])]
    if matches:
        name, (_names, preprocess, description) = matches[-1]
        return preprocess, f"{description}, as keras.applications gives them to its {name}"
    return UNIT, USUAL_KERAS


def keras_normalisation(model: H5Model, graph: Graph) -> Normalisation:
    """Return a Keras network's own normalisation of its input."""
    arrays = _arrays(model, graph)
    users: dict[int, list[Call]] = {}
    places = {id(call): place for place, call in enumerate(graph.calls)}
    for call in graph.calls:
        for tensor in tensors_in((*call.arguments, *call.options.values())):
            users.setdefault(tensor.call, []).append(call)
    normalisation, place = Normalisation.none(), -1
    while not normalisation.learned and len(users.get(place, ())) == 1:
        call = users[place][0]
        step = _keras_step(normalisation, call, arrays.get(call.leaf, {}))
        if step is None:
            break
        normalisation, place = step, places[id(call)]
    return normalisation


def _arrays(model: H5Model, graph: Graph) -> Mapping[Leaf, Mapping[str, Any]]:
    """Return every layer's arrays by role; none if they cannot be assigned, an error that the engine will explain."""
    try:
        return assign_weights(graph.root, model.groups)
    except ModelFormatError:
        return {}


def _keras_step(before: Normalisation, call: Call, arrays: Mapping[str, Any]) -> Normalisation | None:
    """Return the normalisation after one more layer; None if the layer is not part of a normalisation.

    :param arrays: the layer's arrays by role.
    """
    leaf, config = call.leaf, call.leaf.config
    kind, label = leaf.class_name, f"{leaf.class_name} {leaf.name}"
    if kind == "Rescaling":
        scaled = before.times(config.get("scale", 1.0), label)
        return replace(scaled.plus(config.get("offset", 0.0), label), steps=scaled.steps)
    if kind in ("Normalization", "BatchNormalization"):
        mean, variance = (
            arrays.get(f"moving_{name}", arrays.get(name, config.get(name))) for name in ("mean", "variance")
        )
        if mean is None or variance is None:
            return replace(before.times(1 / 255, label), steps=(*before.steps, label)) if not before.steps else before
        return before.standardised(mean, variance, label)
    if AUGMENTATIONS.fullmatch(kind) or kind == "InputLayer":
        return before
    if kind in ("TFOpLambda", "SlicingOpLambda"):
        return _keras_operation(before, call, label)
    return None


def _keras_operation(before: Normalisation, call: Call, label: str) -> Normalisation | None:
    """Return the normalisation after a TensorFlow operation with a constant; None if it is not part of one."""
    function = str(call.leaf.config.get("function", "")).rpartition(".")[2].lower()
    if function in ("cast", "identity", "expand_dims", "squeeze", "reshape"):
        return before
    if function in ("getitem", "_slice_helper", "strided_slice"):
        return before.turned(label) if "'step': -1" in repr((call.arguments, call.options)) else before
    values = [*call.arguments, *(value for key, value in call.options.items() if key != "name")]
    constants = [value for value in values if isinstance(value, int | float | list) and not tensors_in((value,))]
    if len(constants) != 1 or isinstance(constants[0], bool):
        return None
    is_first = bool(tensors_in(values[:1]))
    try:
        return arithmetic(before, function, constants[0], is_first, label)
    except (TypeError, ValueError):
        return None
