"""Zips of pictures for training."""

from __future__ import annotations

from pathlib import Path

from app.formats.pictures import by_class, open_pictures
from fuzz import seeds
from fuzz.mutations import archive_members
from fuzz.target import Target


def read(path: Path) -> object:
    """List the classes of a zip, and read every picture."""
    with open_pictures(path) as source:
        classes = by_class(source)
        for name in source.pictures:
            source.stamp(name)
            source.read(name)
    return classes


TARGET = Target("picture_zip", ".zip", seeds.picture_zips, archive_members.mutate, read)
