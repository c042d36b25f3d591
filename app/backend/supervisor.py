"""The master's supervisor of the backend process: it starts, restarts and ends the process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import Any

from app.backend.shared_state import SharedState
from app.settings import ROOT
from app.utils.process import Backoff

MODULE = "app.server.backend_process"
BACKLOG = 1024
LONGEST_DELAY = 10.0
"""Maximum seconds between two starts of a process that ends repeatedly. A process that has lived longer is restarted at
once."""
END_SECONDS = 10.0


class BackendProcess:
    """The backend process, started at once and restarted when it ends. A hung process is killed. The master owns the
    listening socket, so the next process answers the requests of the meantime.

    :param log: gunicorn's log.
    :param timeout: seconds without a heartbeat after which the process counts as hung.
    :raises OSError: if the system cannot create a socket or a process.
    """

    def __init__(self, log: Any, timeout: float) -> None:
        self._log = log
        self._timeout = timeout
        self.state = SharedState()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind("")  # Linux picks an unused name that is in no file system (unix(7))
        self._listener.listen(BACKLOG)
        self._end_requested = False
        self._backoff = Backoff(LONGEST_DELAY)
        self._process = self._start()
        self._log.info("The backend is process %d", self._process.pid)

    @property
    def address(self) -> bytes:
        """Return the address of the listening socket."""
        name: bytes = self._listener.getsockname()
        return name

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def is_over(self) -> bool:
        """Return whether the process has ended and is not restarted."""
        return self._end_requested and self._process.poll() is not None

    def check(self) -> None:
        """Restart the process if it has ended, first at once and then with growing delays; kill it if it hangs."""
        code = self._process.poll()
        if code is None:
            if self.state.silence() > self._timeout:
                self._log.error("Process %d, the backend, hangs, and is killed", self.pid)
                self._process.kill()
        elif self._end_requested:
            self._listener.close()  # later callers must do without the backend
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
        """Make the process end after the last HTTP worker disconnects."""
        self._end_requested = True
        self._process.terminate()

    def stop(self) -> None:
        """Stop the process now. Call this when no callers are left."""
        self.end()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.close()

    def leave_to_master(self) -> None:
        """Close the socket in a process that the master has forked. Otherwise clients that connect to the socket would
        wait for this process, too."""
        self._listener.close()

    def _start(self) -> subprocess.Popen[bytes]:
        files = [self._listener.fileno(), self.state.fileno()]
        self.state.beat()
        command = [sys.executable, "-m", MODULE, *map(str, files), str(os.getpid())]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=files)


def _exit_reason(code: int) -> str:
    """Return a readable exit reason of a process."""
    return signal.Signals(-code).name if code < 0 else f"status {code}"
