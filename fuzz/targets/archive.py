"""Model archives, from the file to what serving knows of the model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from app.formats.archive.cache import unpack_into
from app.formats.archive.manifest import find_handler, read_manifest
from app.formats.archive.unpack import Limits
from app.formats.folder import open_model_folder
from fuzz import seeds
from fuzz.mutations import archive_members
from fuzz.target import Target

LIMITS = Limits(total_bytes=2**22, entry_bytes=2**22, entries=100, free_bytes=2**20)
"""Small, so that what exceeds them costs little."""


def read(path: Path) -> object:
    """Unpack, look for links and strangers, and open the folder."""
    place = path.with_name("unpacked")
    place.mkdir()
    try:
        folder = unpack_into(path, place, LIMITS)
        assert list(place.iterdir()) == [folder], "more than the model's folder was left"
        _check_tree(folder)
        find_handler(folder, read_manifest(folder))
        return open_model_folder(folder)
    finally:
        shutil.rmtree(place)


def _check_tree(folder: Path) -> None:
    held = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            one = Path(place, name)
            assert not one.is_symlink() and (one.is_file() or one.is_dir()), f"{one} is no plain file"
        held += sum(os.path.getsize(os.path.join(place, name)) for name in files)
    assert held <= LIMITS.total_bytes, f"{held:,} bytes were unpacked"


TARGET = Target("archive", ".mar", seeds.archives, archive_members.mutate, read)
