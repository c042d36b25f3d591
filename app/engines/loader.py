"""Loading of a model folder into a running engine."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from app.engines.base import LoadedEngine, LoadNetwork
from app.engines.cache import MODEL, Entry
from app.engines.conversion import load_reference, missing_reference, reference_kind
from app.engines.conversion_process import ConversionError, entry_of
from app.engines.int8 import open_quantized
from app.engines.openvino import OpenvinoEngine
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.utils.error_text import reason_of

log = logging.getLogger(__name__)

__all__ = ["LoadNetwork", "LoadedEngine", "load"]


def load(
    folder: ModelFolder,
    choice: str = "auto",
    cache_dir: Path | None = None,
    load_network: LoadNetwork = OpenvinoEngine.load,
) -> LoadedEngine:
    """Load a model folder's network; the quantized network if the folder has one and OpenVINO may be used.

    :param choice: ``auto`` uses OpenVINO if it was proven equal to the reference, and the reference otherwise; if the
        reference is not installed, OpenVINO serves without that proof, and :attr:`LoadedEngine.unproven` says so.
        ``openvino`` rejects a model without that proof; ``mxnet`` and ``keras`` use the reference, and select it if the
        folder has the files of both. ONNX files have no reference, so OpenVINO opens them for any choice.
    :param cache_dir: folder of models converted for OpenVINO (``<instance>/cache``); None disables OpenVINO.
    :param load_network: loads converted models, in this process or another.
    :raises ModelFormatError: if the weights cannot be read or contradict the signature, or if ``openvino`` was chosen
        and may not serve them.
    """
    choice = "auto" if choice == "ray" else choice  # only the server uses a cluster; other callers compute locally
    kind = reference_kind(folder, choice)
    missing = missing_reference(kind)
    if kind and (choice in ("mxnet", "keras") or (cache_dir is None and choice == "auto")):
        return load_reference(folder, choice)
    if cache_dir is None:
        raise ModelFormatError(f"{folder.path} holds nothing that an engine can open without a cache folder")
    try:
        return open_quantized(folder, choice, load_network) or _load_openvino(
            folder, choice, entry_of(folder, choice, cache_dir), load_network
        )
    except ConversionError as problem:
        reason = str(problem)
    if not kind:
        raise ModelFormatError(f"{folder.path} cannot be opened: {reason}")
    if missing:
        raise ModelFormatError(f"{folder.path} cannot be opened: {reason}, and {missing}")
    if choice == "openvino":
        raise ModelFormatError(f"{folder.path} cannot be served by openvino: {reason}. With 'auto' {kind} serves it")
    opened = load_reference(folder, choice)
    log.info("%s: served by %s, not by openvino: %s", folder.name, kind, reason)
    return opened


def _load_openvino(folder: ModelFolder, choice: str, entry: Entry, load_network: LoadNetwork) -> LoadedEngine:
    """Load a cache entry.

    :raises ConversionError: if the entry holds a reason instead of a model or lacks the proof that ``openvino`` asks
        for, or this machine cannot compute it.
    """
    record, inference = entry.record, entry.inference
    if record.reason or inference is None:
        raise ConversionError(record.reason or "its entry in the cache is damaged")
    if record.unproven and choice == "openvino":
        raise ConversionError("it is not proven equal to its reference (with 'auto' it is served all the same)")
    try:
        engine = load_network(entry.path / MODEL, record.milliseconds)
    except RuntimeError as error:
        raise ConversionError(f"openvino cannot compute it here: {reason_of(error)}") from None
    signature = inference.signature
    if folder.signature is not None and "postprocess" in folder.stated:
        signature = replace(signature, postprocess=folder.signature.postprocess)
    return LoadedEngine(
        engine,
        "openvino",
        signature,
        record.parity,
        record.precision,
        labels=inference.labels,
        unproven=record.unproven,
        reasons=inference.reasons,
    )
