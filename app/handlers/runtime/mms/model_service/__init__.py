"""Services of the server's first versions (0.x), which an archive subclasses. Its modules are imported when they are
asked for: two of them import MXNet."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = ("gluon_vision_service", "model_service", "mxnet_model_service", "mxnet_vision_service")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"mms.model_service.{name}")
    raise AttributeError(f"module 'mms.model_service' has no attribute {name!r}")
