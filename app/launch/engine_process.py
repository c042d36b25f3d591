"""The master's part of the engine process: to start it, to start it again when it has ended, and to end it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from app.pulse import Pulse
from app.settings import ROOT

MODULE = "app.engines.shared.server"
BACKLOG = 1024
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
END_SECONDS = 5.0


class EngineProcess:
    """It is started at once, and again when it has ended, until it is told to end; one that hangs is killed. The socket
    on which it is asked is the master's: who asks meanwhile is answered by the next.

    :param in_flight: the file that tells all processes what is being computed.
    :param log: gunicorn's.
    :param timeout: seconds without a sign of life after which it hangs.
    :raises OSError: where the system gives no socket, or no process.
    """

    def __init__(self, in_flight: Path, log: Any, timeout: float) -> None:
        self._in_flight = in_flight
        self._log = log
        self._timeout = timeout
        self._pulse = Pulse()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind("")  # Linux finds a name that nobody has, and that is in no file system (unix(7))
        self._listener.listen(BACKLOG)
        self._told_to_end = False
        self._pause = PAUSE_SECONDS
        self._start_again = 0.0
        self._process = self._start()
        self._log.info("Networks that take long are computed by process %d", self._process.pid)

    @property
    def address(self) -> bytes:
        """Where it is asked."""
        name: bytes = self._listener.getsockname()
        return name

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def is_over(self) -> bool:
        """Whether it has ended and is not started again."""
        return self._told_to_end and self._process.poll() is not None

    def look(self) -> None:
        """Start it again where it has ended, the first time at once, then after longer and longer pauses; kill it where
        it hangs."""
        code = self._process.poll()
        if code is None:
            self._look_at_pulse()
        elif self._told_to_end:
            self._close()  # who still asks it must do without
        elif time.monotonic() >= self._start_again:
            self._replace(code)

    def _look_at_pulse(self) -> None:
        if self._pulse.silence() > self._timeout:
            self._log.error("Process %d, which computes, hangs, and is killed", self.pid)
            self._process.kill()

    def _replace(self, code: int) -> None:
        now = time.monotonic()
        if now > self._start_again + LONGEST_PAUSE_SECONDS:  # it has lived for long
            self._pause = PAUSE_SECONDS
        self._start_again, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        before = self._process.pid
        try:
            self._process = self._start()
        except OSError as error:
            self._log.error(
                "Process %d, which computed, ended (%s), and no other starts: %s", before, _how(code), error
            )
            return
        self._log.warning("Process %d, which computed, ended (%s); now process %d does", before, _how(code), self.pid)

    def end(self) -> None:
        """Tell it to end when nobody holds a network in it any more."""
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
        self._close()

    def leave_to_master(self) -> None:
        """To be called in a process that the master has forked: what connects to the socket would wait for it, too."""
        self._close()

    def _close(self) -> None:
        self._listener.close()
        self._pulse.close()

    def _start(self) -> subprocess.Popen[bytes]:
        listener = self._listener.fileno()
        pulse = self._pulse.fileno()
        self._pulse.beat()
        command = [sys.executable, "-m", MODULE, str(listener), str(os.getpid()), str(self._in_flight), str(pulse)]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[listener, pulse])


def _how(code: int) -> str:
    """How a process ended."""
    return signal.Signals(-code).name if code < 0 else f"status {code}"
