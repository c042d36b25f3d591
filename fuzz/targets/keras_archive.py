"""``.keras`` archives: the zip, its JSON and weights, Dimple's reader, and the inferred signature."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fuzz import seeds
from fuzz.mutations import archive_members
from fuzz.target import Target
from fuzz.targets import h5


def read(path: Path) -> object:
    """Read an archive like an ``.h5`` file, and assert that its temporary folder, beside it, is removed."""
    existing = set(path.parent.iterdir())
    previous = tempfile.tempdir
    tempfile.tempdir = str(path.parent)
    try:
        return h5.read(path)
    finally:
        tempfile.tempdir = previous
        assert set(path.parent.iterdir()) == existing, "a temporary file or folder remains"


TARGET = Target("keras_archive", ".keras", lambda: seeds.keras_files(".keras"), archive_members.mutate, read)
