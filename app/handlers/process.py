"""Child processes of handler workers. The descendants of a process die with it, and it dies with the server."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.handlers.log_relay import OnMetric, follow
from app.handlers.protocol import Connection, Disconnected, ProtocolError, Reply
from app.handlers.reaper import GUARD
from app.handlers.types import HandlerSpec
from app.utils.process import kill_group

PROGRAM = Path(__file__).parent / "runtime"
GRACE_SECONDS = 5.0
"""Time for a process to end by itself after a hang-up."""
KILL_SECONDS = 10.0
"""Time for a killed process to disappear; only a broken disk or driver delays it longer."""


class WorkerProcess:
    """A process that runs a handler. Linux kills it when the thread that constructs this object ends, so that thread
    must supervise it.

    :param on_exit: called, from another thread, when the process has ended.
    :raises OSError: if the system cannot start another process.
    """

    def __init__(
        self, spec: HandlerSpec, environment: Mapping[str, str], on_metric: OnMetric, on_exit: Callable[[], None]
    ) -> None:
        self.started = datetime.now(UTC)
        self.exited = threading.Event()
        self._reason = ""
        self._on_exit = on_exit
        self._reaping = threading.Lock()
        ours, theirs = socket.socketpair()
        self._wire = Connection(ours, spec.max_response_bytes)
        try:
            self._process = _start(spec, theirs.fileno(), environment)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        GUARD.watch(self.pid)
        name = f"W-9000-{spec.model_name[:25]}"
        outputs = ((self._process.stdout, logging.INFO, "stdout"), (self._process.stderr, logging.WARNING, "stderr"))
        self._readers = [follow(pipe, level, f"{name}-{kind}", on_metric) for pipe, level, kind in outputs if pipe]
        threading.Thread(target=self._reap, name=f"{name}-reaper", daemon=True).start()

    def ask(self, header: Mapping[str, Any], blobs: Sequence[bytes], seconds: float) -> Reply:
        """Send a message and wait for the reply. A process that does not reply is killed.

        :raises Disconnected: if there is no reply; :meth:`ending` has the reason.
        """
        try:
            return self._wire.ask(header, blobs, seconds)
        except ProtocolError as error:
            self._reason = f"{error} and was killed"
        except Disconnected as error:
            if not self.exited.wait(GRACE_SECONDS):
                self._reason = f"{error} and was killed"
        self.kill()
        self.exited.wait(KILL_SECONDS)
        raise Disconnected(self.ending())

    def end(self) -> None:
        """End the process, by force if it does not end by itself; all its output has then been relayed."""
        self._wire.hang_up()
        if not self.exited.wait(GRACE_SECONDS):
            self.kill()
            self.exited.wait(KILL_SECONDS)
        for reader in self._readers:
            reader.join(1)  # a process that it started elsewhere may still hold the pipe
        self._wire.close()

    def kill(self) -> None:
        """Kill the process and its process group at once."""
        with self._reaping:
            if not self.exited.is_set():  # afterwards its process id may belong to another process
                kill_group(self.pid)

    def ending(self) -> str:
        """Return why the process ended."""
        code = self._process.returncode
        if self._reason or code is None:
            return f"The worker {self._reason or 'has not ended'}"
        if code < 0:
            return f"The worker was killed by signal {-code} ({signal.strsignal(-code)})"
        return f"The worker ended by itself with exit code {code}"

    def memory_bytes(self) -> int:
        """Return the resident memory; 0 if the process has ended or the system does not report it."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def _reap(self) -> None:
        """Wait for the end of the process, whatever its cause, and clean up."""
        if hasattr(os, "waitid"):  # wait without reaping: until then no other process can have its process id
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._reaping:
            kill_group(self.pid)
            self._process.wait()
            self.exited.set()
        GUARD.forget(self.pid)
        self._wire.hang_up()
        self._on_exit()


def _start(spec: HandlerSpec, descriptor: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # The child itself asks the kernel to die with us: running Python between fork and exec (preexec_fn) can deadlock in
    # a server with threads.
    arguments = (str(descriptor), str(os.getpid()), spec.model_name)  # the name is for readers of the process list
    return subprocess.Popen(
        [str(spec.python), "-u", str(PROGRAM), *arguments],
        cwd=spec.model_dir,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(descriptor,),
        start_new_session=True,
    )
