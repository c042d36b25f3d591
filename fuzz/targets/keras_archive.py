"""``.keras`` archives: the zip, its JSON, the weights in it, Dimple's reader, and what is inferred of the model."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fuzz import seeds
from fuzz.mutations import archive_members
from fuzz.target import Target
from fuzz.targets import h5


def read(path: Path) -> object:
    """Read an archive as an ``.h5`` file is read. It is unpacked beside itself, and nothing of that may remain."""
    before = tempfile.tempdir
    tempfile.tempdir = str(path.parent)
    try:
        return h5.read(path)
    finally:
        tempfile.tempdir = before
        assert not [item for item in path.parent.iterdir() if item.is_dir()], "a temporary folder remains"


TARGET = Target("keras_archive", ".keras", seeds.keras_archives, archive_members.mutate, read)
