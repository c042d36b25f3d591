"""Model archives, from the file to the open model folder."""

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
"""Small, so that a case that exceeds them takes little time."""


def read(path: Path) -> object:
    """Unpack an archive, assert that it left only its own plain files, and open the folder."""
    parent = path.with_name("unpacked")
    parent.mkdir()
    try:
        folder = unpack_into(path, parent, LIMITS)
        assert list(parent.iterdir()) == [folder], "there is more than the model folder"
        _check_tree(folder)
        find_handler(folder, read_manifest(folder))
        return open_model_folder(folder)
    finally:
        shutil.rmtree(parent)


def _check_tree(folder: Path) -> None:
    size = 0
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            assert not path.is_symlink() and (path.is_file() or path.is_dir()), f"{path} is no plain file"
        size += sum(os.path.getsize(os.path.join(parent, name)) for name in files)
    assert size <= LIMITS.total_bytes, f"{size:,} bytes were unpacked"


TARGET = Target("archive", ".mar", seeds.archives, archive_members.mutate, read)
