"""The targets, a module for each reader."""

from __future__ import annotations

import importlib

from fuzz.target import Target

SHARES = {
    **{"archive": 10, "manifest": 12, "params": 30, "symbol": 8, "signature": 15, "h5": 3},
    **{"keras_archive": 3, "torch_pickle": 20, "onnx_graph": 4, "picture": 20, "picture_zip": 2},
}
"""Each target's share of the cases: large for untrusted input, small for slow readers."""
NAMES = tuple(SHARES)


def load(name: str) -> Target:
    """Import a target of :data:`NAMES`, without the others, because some import large libraries."""
    target: Target = importlib.import_module(f"fuzz.targets.{name}").TARGET
    return target
