"""What an ONNX file says of itself: its input, its classes, and whether it gives probabilities.

Format: a protobuf ``ModelProto`` (github.com/onnx/onnx, ``onnx.proto``). Before IR version 4 the learned arrays are
listed among the inputs, too. Weights may lie in other files, which ``external_data`` names by their location.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import ModelFormatError
from app.formats.json_text import parse_json
from app.formats.signature import signature_of
from app.types import Layout, Postprocess, Preprocess, Signature, TensorSpec

OPSETS = range(7, 22)
USUAL_SIDE = 224
"""Height and width of a picture where the file leaves them open."""
CHANNELS = (1, 3)
DISTRIBUTIONS = ("Softmax", "Sigmoid")
PASSES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout")
"""Operations that leave the values as they are."""
SIGNATURE, LABELS = "signature", "labels"
"""Entries of the file's metadata in which Dimple keeps, of a model that it exports, what ONNX has no place for."""


@dataclass(frozen=True)
class OnnxFacts:
    """What could be read. ``input_shape`` has the batch axis; 0 stands for any size.

    ``signature`` and ``labels`` are those that the file's metadata carry, None where it does not.
    """

    opset: int
    input_name: str
    input_shape: tuple[int, ...]
    output_name: str
    classes: int
    is_distribution: bool
    files: tuple[Path, ...]
    signature: Signature | None
    labels: tuple[str, ...] | None


def read_onnx(path: Path) -> OnnxFacts:
    """Read an ``.onnx`` file's graph, without its weights where these lie in other files.

    :raises ModelFormatError: where it cannot be read, is of an opset that is not known, has not one input, or keeps
        weights elsewhere than beside it.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(model) if not external_places(model.graph) else None
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # protobuf's and the checker's own, of many kinds
        raise ModelFormatError(f"{path} cannot be read as an ONNX model: {_in_a_line(error)}") from None
    try:
        return _facts(path, model)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError, OSError) as error:
        # texts that are no UTF-8, and names that no file system can hold
        raise ModelFormatError(f"{path} cannot be read as an ONNX model: {_in_a_line(error)}") from None


def _facts(path: Path, model: Any) -> OnnxFacts:
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset not in OPSETS:
        raise ModelFormatError(f"{path} is of opset {opset}; {OPSETS[0]} to {OPSETS[-1]} can be opened")
    files = _files(path, model.graph)
    data, output = _input(path, model.graph), model.graph.output[0]
    return OnnxFacts(
        opset=opset,
        input_name=data.name,
        input_shape=_shape(data),
        output_name=output.name,
        classes=next(iter(_shape(output)[1:2]), 0),
        is_distribution=_is_distribution(model.graph, output.name),
        files=files,
        **_metadata(path, model),
    )


def describe_onnx(facts: OnnxFacts, size: tuple[int, int] | None = None) -> Signature:
    """Write the signature that an ``.onnx`` file lacks; it is its own where Dimple exported it.

    Channels first it is taken for PyTorch's: pixels normalised as torchvision's models want them; channels last for
    TensorFlow's, pixels scaled to 0-1.

    :param size: height and width of the input, where they are known.
    :raises ModelFormatError: where the input is not one picture.
    """
    shape = facts.input_shape
    if facts.signature is not None:
        return facts.signature
    if len(shape) != 4:
        raise ModelFormatError(f"the input {facts.input_name} has the shape {shape}; a picture needs four axes")
    layout: Layout = "NHWC" if shape[3] in CHANNELS and shape[1] not in CHANNELS else "NCHW"
    at = layout.index("C")
    height, width = size or tuple(side or USUAL_SIDE for axis, side in enumerate(shape[1:], 1) if axis != at)
    channels = shape[at] or 3
    shape = (0, channels, height, width) if layout == "NCHW" else (0, height, width, channels)
    torch = layout == "NCHW" and channels == 3
    preprocess = Preprocess(
        color="grey" if channels == 1 else "rgb",
        interpolation="bilinear",
        antialias=True,
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406) if torch else (0.0,),
        std=(0.229, 0.224, 0.225) if torch else (1.0,),
        layout=layout,
    )
    return Signature(
        inputs=(TensorSpec(facts.input_name, shape),),
        outputs=(TensorSpec(facts.output_name, (0, facts.classes)),) if facts.classes else (),
        preprocess=preprocess,
        postprocess=Postprocess(activation="none" if facts.is_distribution else "softmax"),
    )


def external_places(graph: Any) -> dict[str, str]:
    """Where a graph keeps weights outside of its file: its own arrays, those of its nodes, and of the graphs in these.

    :param graph: an ``onnx.GraphProto``.
    :returns: place -> name of an array that is there.
    """
    arrays: list[Any] = []
    graphs = [graph]
    while graphs:
        one = graphs.pop()
        sparse, arrays = list(one.sparse_initializer), [*arrays, *one.initializer]
        for attribute in (each for node in one.node for each in node.attribute):
            arrays += [attribute.t, *attribute.tensors]
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
            graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
        arrays += [half for both in sparse for half in (both.values, both.indices)]
    return {entry.value: array.name for array in arrays for entry in array.external_data if entry.key == "location"}


def _files(path: Path, graph: Any) -> tuple[Path, ...]:
    """The files that hold weights, which must lie beside the model: any other could be anything on this machine."""
    places = external_places(graph)
    for place, name in places.items():
        if "/" in place or "\\" in place or place in ("", ".."):
            raise ModelFormatError(
                f"{path} keeps the weights {name} in {place!r}, outside of its folder; "
                "put all into one file with onnx.save"
            )
    files = tuple(path.parent / place for place in sorted(places))
    for file in files:
        if not file.is_file() or file.is_symlink():
            raise ModelFormatError(f"{path} keeps weights in {file.name!r}, which is not there beside it")
    return files


def _input(path: Path, graph: Any) -> Any:
    learned = {one.name for one in graph.initializer}
    fed = [one for one in graph.input if one.name not in learned]
    if len(fed) != 1 or not graph.output:
        names = ", ".join(one.name for one in fed[:4]) or "none"
        raise ModelFormatError(f"{path} has {len(fed)} inputs ({names}); an image classifier has one")
    return fed[0]


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(max(0, one.dim_value) for one in value.type.tensor_type.shape.dim)


def _is_distribution(graph: Any, name: str) -> bool:
    made = {output: node for node in graph.node for output in node.output}
    node = made.get(name)
    for _ in graph.node:  # each at most once: a broken graph may go round in circles
        if node is None or node.op_type not in PASSES:
            break
        node = made.get(node.input[0])
    return node is not None and node.op_type in DISTRIBUTIONS


def _metadata(path: Path, model: Any) -> dict[str, Any]:
    found = {one.key: one.value for one in model.metadata_props}
    signature = labels = None
    try:
        if SIGNATURE in found:
            signature = signature_of(parse_json(found[SIGNATURE]), path)
        if LABELS in found:
            labels = tuple(str(label) for label in parse_json(found[LABELS]))
    except (ValueError, TypeError):
        pass  # another program's entry of that name
    return {"signature": signature, "labels": labels}


def _in_a_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (" ".join(lines) or type(error).__name__)[:300]
