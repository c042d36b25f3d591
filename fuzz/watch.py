"""Sees what Python code does to the system: files written, programs started, connections made."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
NEVER = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "ctypes.dlopen", "pickle.find_class"),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Watch:
    """While it is entered, notes in ``seen`` what its thread does outside of one folder: a process of tests has others,
    which do as they like. Python's audit hooks cannot be taken away again, so there should be one watch in a process.
    The folder should be the working folder."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[str] = []
        self.folder = folder
        self._root = os.path.realpath(folder)
        self._on = False
        self._thread = 0
        sys.addaudithook(self._notice)

    def __enter__(self) -> Watch:
        self.seen = []
        self._thread = threading.get_ident()
        self._on = True
        return self

    def __exit__(self, *_what: object) -> None:
        self._on = False

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on or threading.get_ident() != self._thread:
            return
        if event in NEVER:
            self.seen.append(f"{event} {arguments!r}"[:300])
        elif event == "open":
            path, _mode, flags = arguments
            if flags & WRITING and not isinstance(path, int) and self._is_outside(path):
                self.seen.append(f"open {path!r} for writing"[:300])
        elif event in CHANGES:
            paths = [one for one in arguments[:2] if isinstance(one, str | bytes | os.PathLike)]
            if any(self._is_outside(path) for path in paths):
                self.seen.append(f"{event} {paths!r}"[:300])

    def _is_outside(self, path: Any) -> bool:
        self._on = False  # realpath is watched, too
        try:
            real = os.path.realpath(os.fsdecode(path))
        finally:
            self._on = True
        # relative to this folder, too: a tree is removed by names relative to an open folder
        return not real.startswith(self._root + os.sep)
