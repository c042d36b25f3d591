"""Keras's ``.h5`` files: HDF5's C library, Dimple's reader, and the inferred signature."""

from __future__ import annotations

from pathlib import Path

from app.formats.infer_signature import ModelFiles, infer_signature
from app.formats.keras_file import read_h5
from fuzz import seeds
from fuzz.mutations import h5_objects
from fuzz.target import Target


def read(path: Path) -> object:
    """Read a model, assert that its weights are numbers, and infer its signature."""
    model = read_h5(path)
    arrays = [array for _name, arrays in model.weights for array in arrays]
    assert all(array.dtype.kind in "biuf" for array in arrays), "a weight is no number"
    return infer_signature(ModelFiles(h5=path))


TARGET = Target("h5", ".h5", lambda: seeds.keras_files(".h5"), h5_objects.mutate, read)
