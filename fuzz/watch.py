"""A watch on the effects of Python code: files written, programs started, connections opened."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
FORBIDDEN = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "ctypes.dlopen", "pickle.find_class"),
)
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Watch:
    """A context manager that lists in ``violations`` what its thread does outside of one folder.

    Other threads are ignored, because the process of the tests has some. Python's audit hooks cannot be removed, so a
    process should have one watch only. The folder should be the working folder.
    """

    def __init__(self, folder: Path) -> None:
        self.violations: list[str] = []
        self.folder = folder
        self._root = os.path.realpath(folder)
        self._enabled = False
        self._thread = 0
        sys.addaudithook(self._audit)

    def __enter__(self) -> Watch:
        self.violations = []
        self._thread = threading.get_ident()
        self._enabled = True
        return self

    def __exit__(self, *_exception: object) -> None:
        self._enabled = False

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._enabled or threading.get_ident() != self._thread:
            return
        if event in FORBIDDEN:
            self.violations.append(f"{event} {arguments!r}"[:300])
        elif event == "open":
            path, _mode, flags = arguments
            if flags & WRITE_FLAGS and not isinstance(path, int) and self._is_outside(path):
                self.violations.append(f"open {path!r} for writing"[:300])
        elif event in CHANGES:
            paths = [path for path in arguments[:2] if isinstance(path, str | bytes | os.PathLike)]
            if any(self._is_outside(path) for path in paths):
                self.violations.append(f"{event} {paths!r}"[:300])

    def _is_outside(self, path: Any) -> bool:
        self._enabled = False  # realpath raises audit events, too
        try:
            real = os.path.realpath(os.fsdecode(path))
        finally:
            self._enabled = True
        # relative paths are resolved from the working folder: rmtree removes files by names relative to an open folder
        return not real.startswith(self._root + os.sep)
