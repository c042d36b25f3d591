"""Which name a new model may have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from app.errors import BadParameter
from app.formats.archive.manifest import NAME
from app.utils.json import read_json

SHIPPED = ("imagenet", "smile", "dogcat")
LONGEST = 100
MADE_BY = "flask models train"
"""What ``metrics.json`` of a model from here says under ``made_by``."""


def check_target(name: str, models_dir: Path, force: bool) -> None:
    """Make sure that a model may be written under this name, before any long work.

    :param force: whether a model that was made elsewhere may be replaced. One that Dimple ships never may.
    :raises BadParameter: where the name cannot be a model's, is taken, or nothing can be written there.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise BadParameter(
            "NAME", name, f"at most {LONGEST} letters, digits, '_', '-' and '.', a letter or digit first"
        )
    if name.lower() in SHIPPED:  # lower: some file systems tell no capitals
        raise BadParameter("NAME", name, f"another one: Dimple ships {', '.join(SHIPPED)} itself")
    folder = models_dir / name
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BadParameter("NAME", name, f"another one: {folder} is no folder of its own")
    if folder.exists() and not force and not _made_here(folder):
        raise BadParameter("NAME", name, f"another one, or come with --force: {folder} was not made by this command")
    if models_dir.exists() and not os.access(models_dir, os.W_OK):
        raise BadParameter("DIMPLE_MODELS_DIR", models_dir, "a folder that Dimple may write to")


def _made_here(folder: Path) -> bool:
    try:
        metrics: Any = read_json(folder / "metrics.json")
    except (OSError, ValueError):
        return False
    return isinstance(metrics, dict) and metrics.get("made_by") == MADE_BY
