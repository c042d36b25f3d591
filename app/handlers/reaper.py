"""Cleanup of all processes that handlers have started, even if the server is killed and cannot do it itself.

The kernel then ends the handlers' processes, but not the processes that they have started. So each server process with
handlers also has a guard: a small process that knows their process groups. When the server ends, for any reason, the
kernel closes the pipe between them. The guard then kills the remaining groups, and ends.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).parent / "runtime" / "dimple_reaper.py"

END_SECONDS = 5.0


class Reaper:
    """The server's end of the guard. The guard starts with the first group, and again if it was killed."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """Make the guard kill a process group when this process ends."""
        with self._changing:
            self._groups.add(group)
            if self._send(f"+{group}\n"):
                return
            self._release()
            try:
                self._process = _start()
            except OSError:  # the next call retries; until then the kernel ends the handlers themselves
                log.exception("The guard of the handlers' processes cannot be started")
            self._send("".join(f"+{group}\n" for group in self._groups))

    def forget(self, group: int) -> None:
        """Remove a group that has ended: its id may be reused."""
        with self._changing:
            self._groups.discard(group)
            self._send(f"-{group}\n")

    def end(self) -> None:
        """Kill the remaining groups, and end the guard."""
        with self._changing:
            self._release()

    def _release(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)

    def _send(self, lines: str) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        assert self._process.stdin is not None, "it was started with a pipe"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(lines.encode())
            return True
        return False


GUARD = Reaper()
"""The guard of this process."""
atexit.register(GUARD.end)


def _start() -> subprocess.Popen[bytes]:
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(PROGRAM)],
        bufsize=0,
        cwd="/",
        env=libraries,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # signals to the server's group must not end the guard first
    )
