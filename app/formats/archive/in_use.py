"""Unpacked archives that processes work with, and the removal of those with which nobody does.

A process marks a folder as used by a shared lock on a file beside it, which it holds for as long as it lives: however
it ends, the kernel lets go. Locks are taken, and folders removed, only under the lock of the whole work folder, so that
nobody begins to use what another is removing.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from app.errors import ModelFormatError
from app.lock import locked

LOCK = ".lock"
DIGEST = re.compile("[0-9a-f]{64}")

_held: dict[Path, int] = {}
"""By the folder: the descriptor of its lock. A child process that is forked shares it, one that runs another program
does not have it."""


def hold(home: Path) -> None:
    """Mark an unpacked archive as used until this process ends. To be called under the lock of the work folder.

    :raises OSError: where the lock's file cannot be made.
    """
    path = _mark(home)
    if home in _held and path.exists():
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if (old := _held.pop(home, None)) is not None:
        os.close(old)
    _held[home] = descriptor


def remove_unused(work_dir: Path, used: Iterable[Path]) -> list[Path]:
    """Remove what :func:`app.formats.archive.opening.open_archive` has unpacked and nobody needs any more: the archive
    was packed anew, or removed.

    To be called when this process has opened its own archives. It spares what any living process has opened.

    :param used: model folders that are needed at the next start, although no process may have opened them yet: those of
        all registrations.
    :returns: the folders that were removed.
    :raises ModelFormatError: where ``work_dir`` cannot be written.
    """
    if not work_dir.is_dir():
        return []
    spared = {path.resolve().parent.name for path in used}
    try:
        with locked(work_dir / LOCK):
            homes = [path for path in sorted(work_dir.iterdir()) if DIGEST.fullmatch(path.name)]
            return [home for home in homes if home.name not in spared and _remove(home)]
    except OSError as error:
        raise ModelFormatError(f"{work_dir} cannot be cleared: {error.strerror or error}") from None


def _remove(home: Path) -> bool:
    """Remove a folder that nobody has marked."""
    mark = _mark(home)
    descriptor = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(home)
        mark.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _mark(home: Path) -> Path:
    return home.with_name(f".{home.name}.used")
