"""Every reader that is fuzzed, one file each."""

from __future__ import annotations

import importlib

from fuzz.target import Target

SHARES = {
    **{"archive": 10, "manifest": 12, "params": 30, "symbol": 8, "signature": 15, "h5": 3},
    **{"keras_archive": 3, "torch_pickle": 20, "onnx_graph": 4, "picture": 20, "picture_zip": 2},
}
"""The part of all cases that goes to each: more to what strangers send, fewer to what is slow."""
NAMES = tuple(SHARES)


def load(name: str) -> Target:
    """Import one of :data:`NAMES`; some are made of large libraries, so each is imported alone."""
    target: Target = importlib.import_module(f"fuzz.targets.{name}").TARGET
    return target
