"""OpenVINO, imported in one place."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any


def import_openvino() -> Any:
    """Import OpenVINO and return it.

    The import would report itself to Google Analytics, and write an identity for that into the user's home, both by the
    package ``openvino_telemetry``. Where that cannot be imported OpenVINO does without.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


@functools.cache
def core() -> Any:
    """The runtime's own ``Core``: one for the process."""
    return import_openvino().Core()
