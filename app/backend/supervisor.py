"""The master's part of the backend process: to start it, to start it again when it has ended, and to end it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import Any

from app.backend.shared_state import SharedState
from app.settings import ROOT
from app.utils.backoff import Backoff

MODULE = "app.server.backend_process"
BACKLOG = 1024
LONGEST_DELAY = 10.0
"""Seconds between two starts of one that ends again and again. One that has lived for longer is started at once."""
END_SECONDS = 10.0


class BackendProcess:
    """It is started at once, and again when it has ended, until it is told to end; one that hangs is killed. The socket
    on which it is asked is the master's: requests of the meantime are answered by the next.

    :param log: gunicorn's.
    :param timeout: seconds without a heartbeat after which it hangs.
    :raises OSError: if the system gives no socket, or no process.
    """

    def __init__(self, log: Any, timeout: float) -> None:
        self._log = log
        self._timeout = timeout
        self.state = SharedState()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind("")  # Linux finds a name that nobody has, and that is in no file system (unix(7))
        self._listener.listen(BACKLOG)
        self._told_to_end = False
        self._backoff = Backoff(LONGEST_DELAY)
        self._process = self._start()
        self._log.info("The backend is process %d", self._process.pid)

    @property
    def address(self) -> bytes:
        """Return where it listens."""
        name: bytes = self._listener.getsockname()
        return name

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def is_over(self) -> bool:
        """Return whether it has ended and is not started again."""
        return self._told_to_end and self._process.poll() is not None

    def check(self) -> None:
        """Start it again if it has ended, the first time at once, then after longer and longer pauses; kill it if it
        hangs."""
        code = self._process.poll()
        if code is None:
            if self.state.silence() > self._timeout:
                self._log.error("Process %d, the backend, hangs, and is killed", self.pid)
                self._process.kill()
        elif self._told_to_end:
            self._listener.close()  # who still asks it must do without
        elif not self._backoff.remaining():
            self._replace(code)

    def _replace(self, code: int) -> None:
        self._backoff.attempt()
        before = self._process.pid
        try:
            self._process = self._start()
        except OSError as error:
            self._log.error(
                "Process %d, the backend, ended (%s), and no other starts: %s", before, _exit_reason(code), error
            )
            return
        self._log.warning(
            "Process %d, the backend, ended (%s); now process %d is it", before, _exit_reason(code), self.pid
        )

    def end(self) -> None:
        """Tell it to end when no HTTP worker is connected any more."""
        self._told_to_end = True
        self._process.terminate()

    def stop(self) -> None:
        """End it now. To be called when nobody is left who could ask."""
        self.end()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.close()

    def leave_to_master(self) -> None:
        """To be called in a process that the master has forked: what connects to the socket would wait for it, too."""
        self._listener.close()

    def _start(self) -> subprocess.Popen[bytes]:
        files = [self._listener.fileno(), self.state.fileno()]
        self.state.beat()
        command = [sys.executable, "-m", MODULE, *map(str, files), str(os.getpid())]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=files)


def _exit_reason(code: int) -> str:
    """Return how a process ended, for people."""
    return signal.Signals(-code).name if code < 0 else f"status {code}"
