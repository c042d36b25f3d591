"""The engines that say what a file means: MXNet for checkpoints, Keras-MXNet for ``.h5``."""

from __future__ import annotations

from app.engines.base import Network, Opened
from app.engines.keras_engine import KerasEngine
from app.engines.mxnet_engine import MxnetEngine
from app.errors import ModelFormatError
from app.formats.folder import Checkpoint, ModelFolder
from app.types import Preprocess, Signature, TensorSpec


def reference_kind(folder: ModelFolder, choice: str) -> str:
    """Say which engine is the reference of a folder: ``mxnet`` or ``keras``, empty where there is none (ONNX).

    :param choice: ``keras`` prefers the ``.h5`` where the folder leaves a choice; all others the checkpoint.
    """
    if folder.h5 is not None and (folder.checkpoint is None or choice == "keras"):
        return "keras"
    return "mxnet" if folder.checkpoint is not None else ""


def load_reference(folder: ModelFolder, choice: str) -> Opened:
    """Load a folder's network into its reference engine.

    :raises ModelFormatError: where there is none, or the weights cannot be read or contradict the signature.
    """
    kind = reference_kind(folder, choice)
    if kind == "keras":
        return _load_keras(folder)
    if folder.checkpoint is None:
        raise ModelFormatError(f"{folder.path} holds no weights that an engine can open")
    return _load_mxnet(folder, folder.checkpoint)


def network_of(opened: Opened) -> Network:
    """Describe the network that a reference engine computes."""
    assert isinstance(opened.engine, MxnetEngine | KerasEngine)
    return opened.engine.network()


def _load_mxnet(folder: ModelFolder, checkpoint: Checkpoint) -> Opened:
    signature = folder.signature
    if signature is None:
        raise ModelFormatError(f"{folder.path} says nothing of its input; write a signature.json")
    first = signature.inputs[0]
    engine = MxnetEngine.load(checkpoint.symbol, checkpoint.params, first.name, first.shape)
    return Opened(engine, "mxnet", signature)


def _load_keras(folder: ModelFolder) -> Opened:
    assert folder.h5 is not None
    engine = KerasEngine.load(folder.h5)
    signature = folder.signature or _signature_of(engine)
    wanted = signature.inputs[0].shape
    if wanted[1:] != engine.input_shape[1:]:
        engine.close()
        raise ModelFormatError(
            f"{folder.path}: signature.json says that the input is {wanted}, {folder.h5.name} says {engine.input_shape}"
        )
    return Opened(engine, "keras", signature)


def _signature_of(engine: KerasEngine) -> Signature:
    """The signature of an ``.h5`` that comes alone: pixels scaled to 0-1, as Keras's own generators are used."""
    shape = engine.input_shape
    channels_last = len(shape) == 4 and shape[3] in (1, 3)
    preprocess = Preprocess(
        color="grey" if 1 in (shape[-1], shape[1]) else "rgb",
        interpolation="nearest",
        antialias=True,
        scale=1 / 255,
        layout="NHWC" if channels_last else "NCHW",
    )
    return Signature((TensorSpec(engine.input_name, shape),), (engine.output,), preprocess)
