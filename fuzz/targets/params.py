"""MXNet's parameters."""

from __future__ import annotations

from pathlib import Path

from app.formats.mxnet_params import read_params
from fuzz import seeds
from fuzz.mutations import params_headers
from fuzz.target import Target


def read(path: Path) -> object:
    """Read them; nothing can come out that did not go in."""
    arrays = read_params(path)
    assert sum(array.nbytes for array in arrays.values()) <= path.stat().st_size
    return arrays


TARGET = Target("params", ".params", lambda: [seeds.params(), seeds.first_params()], params_headers.mutate, read)
