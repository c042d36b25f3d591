"""Nothing that a handler has started outlives the server, even where that is killed and can do nothing about it.

The kernel ends the handlers' processes then, but not what they have started themselves. So each server process that
has handlers has a guard, too: a small process that knows their process groups. When the server is gone, however it
ended, the kernel closes the pipe between them; the guard kills the groups that are left, and ends.
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
    """The server's end. The process is started with the first group, and again where somebody has killed it."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """See to it that a process group does not outlive this process."""
        with self._changing:
            self._groups.add(group)
            if self._send(f"+{group}\n"):
                return
            self._release()
            try:
                self._process = _start()
            except OSError:  # it will be tried again; until then the kernel ends the handlers themselves
                log.exception("The guard of the handlers' processes cannot be started")
            self._send("".join(f"+{group}\n" for group in self._groups))

    def forget(self, group: int) -> None:
        """A group that has ended: its number may become another's."""
        with self._changing:
            self._groups.discard(group)
            self._send(f"-{group}\n")

    def end(self) -> None:
        """Kill the groups that are left, and the guard."""
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
"""That of this process."""
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
        start_new_session=True,  # what is sent to the server's group must not end the guard first
    )
