"""Networks that OpenVINO's own front ends read: TensorFlow's SavedModel and frozen graphs, TFLite, OpenVINO's IR."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import ModelFormatError
from app.formats.inference import Kind, Output
from app.formats.labels import NAMED_AS_LABELS, text_labels
from app.formats.pixels import Normalisation, arithmetic, from_teachable_machine
from app.formats.signature import FILE_NAME, signature_of
from app.types import Signature
from app.utils.error_text import reason_of
from app.utils.files import refuse_pointer
from app.utils.json import parse_json
from app.utils.openvino_runtime import core, import_openvino

SAVED_MODEL = "saved_model.pb"
SUFFIXES = (".tflite", ".pb", ".xml")
"""Suffixes of the files; a SavedModel is a folder with ``saved_model.pb`` and ``variables/``."""
KINDS = {".tflite": "TensorFlow Lite", ".pb": "TensorFlow", ".xml": "OpenVINO"}
COPIES = ("Convert", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "FakeQuantize", "Pad")
DISTRIBUTIONS = ("Softmax", "Sigmoid")
LOGITS = ("MatMul", "Convolution", "GroupConvolution")
POOLS = ("ReduceMean", "AvgPool", "MaxPool", "ReduceMax", "ReduceL2", "NormalizeL2")
LARGEST_APPENDED = 2**20


@dataclass(frozen=True)
class GraphFacts:
    """The facts of a network. ``input_shape`` has the batch axis; 0 stands for any size.

    ``input_type`` is the input's type, such as ``float32`` or ``uint8``. ``normalisation`` is the graph's own
    normalisation of its input. ``labels`` are those in the file, None if it has none. ``teachable_machine`` is true if
    the names of its layers are those of a network that Teachable Machine exports. ``signature`` is the one that Dimple
    stored in the file when it exported it.
    """

    program: str
    input_name: str
    input_shape: tuple[int, ...]
    input_type: str
    outputs: tuple[Output, ...]
    normalisation: Normalisation = field(default_factory=Normalisation.none)
    labels: tuple[str, ...] | None = None
    teachable_machine: bool = False
    signature: Signature | None = None


def is_graph(path: Path) -> bool:
    """Return whether a path is a file or a folder that OpenVINO's front ends read, by its name."""
    if path.is_dir():
        return (path / SAVED_MODEL).is_file()
    if path.suffix.lower() == ".pb" and (path.parent / SAVED_MODEL).is_file():
        return False  # a part of a SavedModel
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def graph_files(path: Path) -> list[Path]:
    """Return the files of a network: those of a SavedModel's folder, or a file and, for OpenVINO, its weights."""
    if path.is_dir():
        variables = sorted((path / "variables").glob("*")) if (path / "variables").is_dir() else []
        return [path / SAVED_MODEL, *(file for file in variables if file.is_file())]
    return [path, *([path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [])]


def read_graph(path: Path) -> GraphFacts:
    """Read what a network's graph tells.

    :raises ModelFormatError: if OpenVINO cannot read it, or it does not have exactly one input.
    """
    model = load_graph(path)
    parameter = model.get_parameters()[0]
    shape = _sizes(parameter.get_partial_shape())
    kind = np.dtype(parameter.get_element_type().to_dtype()).name
    outputs = tuple(
        Output(name_of(output, number), _sizes(output.get_partial_shape()), _kind(source_of(output)))
        for number, output in enumerate(model.outputs)
    )
    appended = _appended(path)
    return GraphFacts(
        KINDS.get(path.suffix.lower(), "TensorFlow"),
        name_of(model.inputs[0], 0),
        shape,
        kind,
        outputs,
        _normalisation(parameter),
        _labels(appended),
        _from_teachable_machine(path),
        _signature(appended, path),
    )


def load_graph(path: Path) -> Any:
    """Return a network as OpenVINO's model, whose outputs need one input.

    :raises ModelFormatError: if OpenVINO cannot read it, or it does not have exactly one input.
    """
    for file in graph_files(path):
        if not file.is_file():
            raise ModelFormatError(f"{path} is not complete: {file.name} is not beside it")
        refuse_pointer(file)
    try:
        model = core().read_model(str(path))
    except RuntimeError as error:
        program = KINDS.get(path.suffix.lower(), "TensorFlow")
        raise ModelFormatError(f"{path} cannot be read as a network of {program}: {reason_of(error)}") from None
    if len(model.inputs) != 1 or not model.outputs:
        names = ", ".join(name_of(item, number) for number, item in enumerate(model.inputs[:4])) or "none"
        raise ModelFormatError(f"{path} has {len(model.inputs)} inputs ({names}); an image classifier has one")
    return model


def _from_teachable_machine(path: Path) -> bool:
    """Return whether Teachable Machine made a network; the names are read from the file, as OpenVINO drops many."""
    with graph_files(path)[0].open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return from_teachable_machine(content)


def cut(model: Any, name: str) -> Any:
    """Return a model with one output alone, of the name that :func:`read_graph` gives it, in floating point."""
    openvino = import_openvino()
    outputs = {name_of(output, number): output for number, output in enumerate(model.outputs)}
    chosen = outputs.get(name, model.outputs[0])
    return openvino.Model([openvino.opset13.result(source_of(chosen))], model.get_parameters(), model.get_name())


def name_of(port: Any, number: int) -> str:
    """Return the name of an input or output, without the number that TensorFlow appends."""
    names = sorted(port.get_names(), key=lambda name: (name.endswith(":0"), len(name), name))
    return str(names[0]).removesuffix(":0") if names else f"tensor{number}"


def source_of(output: Any) -> Any:
    """Return the port with an output's values, before they are quantized to whole numbers for the caller."""
    port = output.get_node().input(0).get_source_output()
    node = port.get_node()
    if node.get_type_name() == "Convert" and port.get_element_type().is_integral():
        inner = node.input(0).get_source_output()
        if inner.get_node().get_type_name() == "FakeQuantize":
            return inner.get_node().input(0).get_source_output()
    return port


def _sizes(shape: Any) -> tuple[int, ...]:
    if shape.rank.is_dynamic:
        return ()
    return tuple(axis.get_length() if axis.is_static else 0 for axis in shape)


def _kind(port: Any) -> Kind:
    """Return what an output's graph ends in."""
    for _ in range(16):
        node = port.get_node()
        name = node.get_type_name()
        if name in DISTRIBUTIONS:
            return "distribution"
        if name in LOGITS:
            return "logits"
        if name in POOLS:
            return "features"
        operands = [item.get_source_output() for item in node.inputs()]
        operands = [item for item in operands if item.get_node().get_type_name() != "Constant"]
        if name not in (*COPIES, "Add") or len(operands) != 1:
            return "unknown"
        port = operands[0]
    return "unknown"


def _normalisation(parameter: Any) -> Normalisation:
    """Return a graph's normalisation of its input, up to the first layer that uses more than one pixel."""
    found, port = Normalisation.none(), parameter.output(0)
    for _ in range(16):
        users = list(port.get_target_inputs())
        if len(users) != 1:
            break
        node, place = users[0].get_node(), users[0].get_index()
        name = node.get_type_name()
        if name not in COPIES:
            others = [
                item.get_source_output().get_node() for number, item in enumerate(node.inputs()) if number != place
            ]
            if len(others) != 1 or others[0].get_type_name() != "Constant":
                break
            step = arithmetic(found, name.lower(), others[0].get_data(), place == 0, name)
            if step is None:
                break
            found = step
        port = node.output(0)
    return found


def _labels(appended: Mapping[str, bytes]) -> tuple[str, ...] | None:
    """Return the labels that TensorFlow Lite's metadata append to a file; None if there are none."""
    content = next((content for name, content in appended.items() if NAMED_AS_LABELS.fullmatch(name)), b"")
    try:
        return text_labels(content.decode("utf-8-sig")) or None
    except ValueError:
        return None


def _signature(appended: Mapping[str, bytes], path: Path) -> Signature | None:
    """Return the signature that Dimple appended to a file; None if there is none, or it is another program's."""
    try:
        return signature_of(parse_json(appended[FILE_NAME]), path)
    except (KeyError, ModelFormatError, ValueError, TypeError):
        return None


def _appended(path: Path) -> dict[str, bytes]:
    """Return the labels and the signature in the zip that is appended to a TensorFlow Lite file, by their names."""
    if path.suffix.lower() != ".tflite" or not zipfile.is_zipfile(path):
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                info.filename: archive.read(info)
                for info in archive.infolist()
                if (info.filename == FILE_NAME or NAMED_AS_LABELS.fullmatch(info.filename))
                and info.file_size <= LARGEST_APPENDED
            }
    except Exception:  # damaged: zipfile raises its decompressors' errors
        return {}
