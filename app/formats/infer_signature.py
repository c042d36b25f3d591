"""Signature of a model, with every part that is not stated inferred from the model's files.

Import and serving share the inference, so that a file gives the same answers either way. Every inference is reported
with its reason and can be overridden; a model is never refused for lack of information that can be inferred.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.infer_graph import infer_checkpoint, infer_graph, infer_onnx
from app.formats.infer_keras import infer_h5
from app.formats.inference import MMS_RULE, STATED, Inference
from app.formats.signature import KERAS_INPUT, is_grey, layout_of
from app.types import Signature, TensorSpec


@dataclass(frozen=True)
class ModelFiles:
    """Files of one model, None for each missing one: ``symbol`` with ``params``, ``h5``, ``onnx`` or ``graph``.

    ``architecture`` is the JSON file beside an ``.h5`` that holds weights alone; ``graph`` is as in
    :class:`app.formats.folder.ModelFolder`.
    """

    symbol: Path | None = None
    params: Path | None = None
    h5: Path | None = None
    architecture: Path | None = None
    onnx: Path | None = None
    graph: Path | None = None


def files_of(folder: ModelFolder, prefer: str = "") -> ModelFiles:
    """Return the files that define a model folder's network.

    :param prefer: ``keras`` to use the ``.h5`` of a folder that also has a checkpoint.
    """
    if folder.h5 is not None and (folder.checkpoint is None or prefer == "keras"):
        return ModelFiles(h5=folder.h5, architecture=folder.architecture)
    if folder.checkpoint is not None:
        return ModelFiles(folder.checkpoint.symbol, folder.checkpoint.params)
    return ModelFiles(onnx=folder.onnx, graph=folder.graph)


def infer_folder(
    folder: ModelFolder, prefer: str = "", size: tuple[int, int] | None = None, output: str = ""
) -> Inference:
    """Infer the parts that a model folder's ``signature.json`` leaves open, or the whole signature if there is none.

    :param prefer: the preferred kind of file, as in :func:`files_of`.
    :param size: height and width of the input, if the user overrides the signature.
    :param output: the name of the output to use, if the user overrides the signature.
    :raises ModelFormatError: if a file cannot be read, or is not an image classifier.
    """
    if not folder.has_original:
        raise ModelFormatError(
            f"{folder.path} holds only its converted network, and this needs the file that it was converted from"
        )
    stated = folder.signature
    by_file = dict.fromkeys(("input", "pixels", "output"), STATED)
    if stated is not None and {"preprocess", "postprocess"} <= folder.stated:
        return Inference(stated, by_file, settled=True)
    is_mms = folder.archived and folder.checkpoint is not None and not {"preprocess", "postprocess"} & folder.stated
    if stated is not None and is_mms:
        return Inference(
            stated, {**by_file, "pixels": _pixels_reason(stated.inputs[0]), "output": MMS_RULE}, settled=True
        )
    count = len(folder.labels) if folder.labels is not None else None
    files = files_of(folder, prefer)
    if stated is None:
        return infer_signature(files, size, output, count)
    try:
        inference = infer_signature(files, size or _sizes(stated), output or _output_name(stated), count)
    except ModelFormatError:
        if files.symbol is None:
            raise
        # MMS needs no more than the stated parts
        inference = Inference(stated, {"output": "signature.json does not say"})
    return _complete(stated, folder.stated, inference, files, by_file)


def _complete(
    stated: Signature, parts: frozenset[str], inference: Inference, files: ModelFiles, reasons: dict[str, str]
) -> Inference:
    """Complete a stated signature with the inferred parts."""
    signature, reasons = stated, dict(reasons)
    if "postprocess" not in parts:
        signature = replace(signature, postprocess=inference.signature.postprocess)
        reasons["output"] = inference.reasons["output"]
    if "preprocess" not in parts and files.symbol is not None:
        reasons["pixels"] = _pixels_reason(stated.inputs[0])
    elif "preprocess" not in parts:
        layout = layout_of(stated.inputs[0].shape)
        signature = replace(signature, preprocess=replace(inference.signature.preprocess, layout=layout))
        reasons["pixels"] = inference.reasons["pixels"]
    if files.onnx is not None or files.graph is not None:
        signature = replace(signature, outputs=inference.signature.outputs)
    return Inference(signature, reasons, inference.labels, "postprocess" in parts)


def infer_signature(
    files: ModelFiles, size: tuple[int, int] | None = None, output: str = "", labels: int | None = None
) -> Inference:
    """Infer the signature of a model from its files alone.

    :param size: height and width of the input, if the user states them.
    :param output: the name of the output to use, if the user states it.
    :param labels: the number of labels, if there are any.
    :raises ModelFormatError: if a file cannot be read, contradicts another, or is not an image classifier.
    """
    if files.symbol is not None and files.params is not None:
        return infer_checkpoint(files.symbol, files.params, size, output, labels)
    if files.onnx is not None:
        return infer_onnx(files.onnx, size, output, labels)
    if files.graph is not None:
        return infer_graph(files.graph, size, output, labels)
    assert files.h5 is not None
    return infer_h5(files.h5, files.architecture, size, output, labels)


def _pixels_reason(tensor: TensorSpec) -> str:
    """Return the reason for a preprocessing that follows from the stated input alone."""
    colour = "grey: the input has one channel; " if is_grey(tensor.shape) else ""
    if KERAS_INPUT.fullmatch(tensor.name):
        return f"{colour}0-1: the input is named as Keras-MXNet names it"
    return f"{colour}raw 0-255, {MMS_RULE}"


def _sizes(signature: Signature) -> tuple[int, int] | None:
    """Return the height and width of a stated input; None if it leaves them open."""
    shape = signature.inputs[0].shape
    axes = signature.preprocess.layout if len(shape) == 4 else "NHW"
    sizes = dict(zip(axes, shape, strict=False))
    height, width = sizes.get("H", 0), sizes.get("W", 0)
    return (height, width) if height and width else None


def _output_name(signature: Signature) -> str:
    return signature.outputs[0].name if signature.outputs else ""
