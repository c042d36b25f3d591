"""Keras's ``.h5`` files: HDF5's own C library, Dimple's reader, and what is inferred of the model."""

from __future__ import annotations

from pathlib import Path

from app.formats.infer_signature import ModelFiles, infer_signature
from app.formats.keras_file import read_h5
from fuzz import seeds
from fuzz.mutations import h5_objects
from fuzz.target import Target


def read(path: Path) -> object:
    """Read it. What comes out must have been in it, and be numbers."""
    model = read_h5(path)
    arrays = [array for _name, listed in model.weights for array in listed]
    assert all(array.dtype.kind in "biuf" for array in arrays), "weights that are no numbers"
    return infer_signature(ModelFiles(h5=path))


TARGET = Target("h5", ".h5", seeds.h5_files, h5_objects.mutate, read)
