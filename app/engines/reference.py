"""The engines that say what a file means: MXNet for checkpoints, Keras-MXNet for ``.h5``."""

from __future__ import annotations

from app.engines.base import Engine, Network, Opened
from app.engines.keras_engine import KerasEngine
from app.engines.mxnet_engine import MxnetEngine
from app.engines.parity import predict_each
from app.engines.samples import samples
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.infer_signature import infer_folder
from app.formats.inference import check_row, settle
from app.types import Signature


def reference_kind(folder: ModelFolder, choice: str) -> str:
    """Say which engine is the reference of a folder: ``mxnet`` or ``keras``, empty where there is none (ONNX).

    :param choice: ``keras`` prefers the ``.h5`` where the folder leaves a choice; all others the checkpoint.
    """
    if folder.h5 is not None and (folder.checkpoint is None or choice == "keras"):
        return "keras"
    return "mxnet" if folder.checkpoint is not None else ""


def load_reference(folder: ModelFolder, choice: str) -> Opened:
    """Load a folder's network into its reference engine, and infer what its signature leaves open.

    :raises ModelFormatError: if there is no such engine, or the weights cannot be read or contradict the signature.
    """
    kind = reference_kind(folder, choice)
    if not kind:
        raise ModelFormatError(f"{folder.path} holds no weights that an engine can open")
    inference = infer_folder(folder, kind)
    engine = open_reference(folder, kind, inference.signature)
    if not inference.settled:
        first, preprocess = inference.signature.inputs[0], inference.signature.preprocess
        try:
            inference = settle(inference, predict_each(engine, samples(preprocess, first.shape)))
        except Exception:
            engine.close()
            raise
    return Opened(engine, kind, inference.signature, labels=inference.labels, reasons=inference.reasons)


def network_of(engine: Engine) -> Network:
    """Describe the network that a reference engine computes."""
    assert isinstance(engine, MxnetEngine | KerasEngine)
    return engine.network()


def open_reference(folder: ModelFolder, kind: str, signature: Signature) -> MxnetEngine | KerasEngine:
    """Open a folder's network in the engine ``mxnet`` or ``keras``.

    :raises ModelFormatError: if the weights cannot be read or contradict the signature.
    """
    first = signature.inputs[0]
    output = signature.outputs[0].name if signature.outputs else ""
    if kind == "mxnet":
        assert folder.checkpoint is not None
        return MxnetEngine.load(folder.checkpoint.symbol, folder.checkpoint.params, first.name, first.shape, output)
    assert folder.h5 is not None
    engine = KerasEngine.load(folder.h5, first.shape, output)
    if first.shape[1:] != engine.input_shape[1:]:
        engine.close()
        raise ModelFormatError(
            f"{folder.path}: signature.json says that the input is {first.shape}, {folder.h5.name} says "
            f"{engine.input_shape}"
        )
    check_row(folder.h5, engine.output.name, engine.output.shape)
    return engine
