"""ONNX files that people bring: what they say of themselves, and their way to OpenVINO.

There is no reference to compare with: what such a file means is what OpenVINO computes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.engines.cache import MODEL
from app.engines.openvino_runtime import import_openvino
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.onnx_graph import external_places
from app.types import Signature, TensorSpec

USUAL_SIDE = 224
"""Height and width of a picture where the file leaves them open."""
DISTRIBUTIONS = ("Softmax", "SoftMax", "Sigmoid")
PASSES = ("Reshape", "Squeeze", "Unsqueeze", "Convert")


def convert_file(folder: ModelFolder, signature: Signature, path: Path) -> Signature:
    """Convert a folder's ONNX file to OpenVINO's, for one row at a time.

    :param path: the folder in which the model is written.
    :returns: the folder's signature, or what the file says where the folder is silent.
    :raises ModelFormatError: where it has more than one input, or its weights lie anywhere but beside it.
    :raises Exception: of any kind, where OpenVINO cannot convert it.
    """
    file = folder.onnx
    if file is None:
        raise ModelFormatError(f"{folder.path} holds no weights that an engine can open")
    names = _check(file)
    openvino = import_openvino()
    model = openvino.convert_model(str(file))
    model.reshape({model.input(0): [1, *signature.inputs[0].shape[1:]]})
    if model.input(0).element_type != openvino.Type.f32:
        steps = openvino.preprocess.PrePostProcessor(model)
        steps.input().tensor().set_element_type(openvino.Type.f32)
        model = steps.build()
    openvino.save_model(model, path / MODEL, compress_to_fp16=False)
    output = TensorSpec(names[1], (0, *tuple(model.output(0).shape)[1:]))
    return replace(signature, outputs=(output,))


def _check(file: Path) -> tuple[str, str]:
    """Refuse weights in other files than those that the cache's key covers, which could be any on this machine.

    :returns: the names of the input and the output, of which OpenVINO keeps one of several.
    """
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    if strange := sorted(place for place in external_places(graph) if "/" in place or not place.startswith(file.name)):
        raise ModelFormatError(f"{file} keeps weights in {strange[0]!r}; put all into one file with onnx.save")
    learned = {array.name for array in graph.initializer}
    fed = [one.name for one in graph.input if one.name not in learned]
    if len(fed) != 1:
        raise ModelFormatError(f"{file} has {len(fed)} inputs; an image classifier has one")
    return fed[0], graph.output[0].name
