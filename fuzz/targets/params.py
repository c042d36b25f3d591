"""MXNet's ``.params`` files."""

from __future__ import annotations

from pathlib import Path

from app.formats.mxnet_params import read_params
from fuzz import seeds
from fuzz.mutations import params_headers
from fuzz.target import Target


def read(path: Path) -> object:
    """Read parameters, and assert that they are not larger than the file."""
    arrays = read_params(path)
    assert sum(array.nbytes for array in arrays.values()) <= path.stat().st_size
    return arrays


TARGET = Target("params", ".params", lambda: [seeds.params(), seeds.legacy_params()], params_headers.mutate, read)
