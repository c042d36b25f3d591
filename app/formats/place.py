"""Put a new folder in the place of an old one, in one step where the system has such a step."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

_AT_FDCWD = -100  # linux/fcntl.h: paths are relative to the working folder
_RENAME_EXCHANGE = 2  # linux/fs.h


def place(made: Path, folder: Path) -> None:
    """Rename ``made`` to ``folder``. A folder that was there is replaced and removed.

    On Linux there is always a whole folder of that name, the old or the new, whenever the process is killed (see
    renameat2(2)). Where two names cannot be exchanged, the old folder is moved away first.

    :raises OSError: where it cannot be done; what was there is there again.
    """
    if not folder.exists():
        os.replace(made, folder)
    elif _exchange(made, folder):
        shutil.rmtree(made)
    else:
        _replace(made, folder)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change names at once. Says whether it was possible."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # no Linux, or a C library without it
        return False
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return bool(renameat2(*arguments) == 0)


def _replace(made: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(folder, old)
    try:
        os.replace(made, folder)
    except OSError:
        os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
