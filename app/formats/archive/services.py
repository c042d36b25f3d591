"""The services that MMS brings for models without code of their own."""

from __future__ import annotations

import re
from typing import Any

CLASSES = {
    "image/jpeg": ("mxnet_vision_service", "MXNetVisionService"),
    "application/json": ("mxnet_model_service", "MXNetBaseService"),
}
"""By the signature's input type: the module of ``mms.model_service``, and its class."""
VISION = CLASSES["image/jpeg"][0]
TORCHSERVE = ("image_classifier", "image_segmenter", "object_detector", "text_classifier")
"""The handlers that TorchServe brings."""


def stock_service(input_type: str) -> tuple[str, str]:
    """What ``mxnet-model-export`` puts into an archive that brings no service: the file's name, and its text."""
    module, name = CLASSES[input_type]
    return f"{module}.py", (
        '"""Serves the model as MXNet Model Server does by itself."""\n\n'
        f"from mms.model_service.{module} import {name}\n\n\n"
        f"class Service({name}):\n"
        f'    """{name} as it is."""\n'
    )


def is_stock_vision(module: str, text: str | None) -> bool:
    """Say whether a handler does no more than MMS's own vision service, so that Dimple can answer without running it.

    :param text: of the handler's file; None where the model brings none.
    """
    return text == stock_service("image/jpeg")[1] or (text is None and module == VISION)


def needs_torchserve(module: str, text: str | None, manifest: dict[str, Any] | None) -> bool:
    """Return whether a handler works under TorchServe alone. Its archives look like MMS's, whose archiver it took over.

    :param text: of the handler's file; None if the model brings none.
    :param manifest: the document.
    """
    if text is not None:
        return re.search(r"^\s*(from|import)\s+ts\b", text, re.MULTILINE) is not None
    model = (manifest or {}).get("model") or {}
    return module in TORCHSERVE or "serializedFile" in model or "modelFile" in model
