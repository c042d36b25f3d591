"""A running server of either kind, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.parity.answer import NONE, Answer, exchange

START_SECONDS = 180
ANSWER_SECONDS = 120
STOP_SECONDS = 30


class NotReady(Exception):
    """The error of a server that did not start; the message has the end of its log."""


@dataclass
class Peer:
    """A server process with everything under it, its ports and its folders.

    :param kind: ``mms`` or ``dimple``.
    :param home: its own folder: ``store`` with the archives, ``server.log``, and what it writes.
    """

    kind: str
    home: Path
    port: int
    management_port: int
    command: list[str]
    environ: Mapping[str, str]
    tls: bool = False
    process: subprocess.Popen[bytes] | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.home / "store"

    @property
    def log(self) -> Path:
        return self.home / "server.log"

    def start(self) -> None:
        """Start the server in a process group of its own, and wait until it answers.

        :raises NotReady: if it ends, or does not answer in time.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.home, env=dict(self.environ), stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._is_up():
                return
            time.sleep(0.2)
        self.stop()
        raise NotReady(f"{self.kind} did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def _is_up(self) -> bool:
        """Return whether the server listens; both load their models before they listen."""
        answers = [self.ask("GET", "/ping"), self.ask("GET", "/models", management=True)]
        return all(answer.status == 200 for answer in answers)

    def stop(self) -> None:
        """End the server and everything that it started."""
        if self.process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
                self._wait_for_end()
        self.process.wait()
        self.process = None
        (self.home / "tmp" / ".model_server.pid").unlink(missing_ok=True)  # MMS's; only --stop removes it

    def _wait_for_end(self) -> None:
        """Wait until the last process of the group has ended: the first, MMS's command, ends long before its Java.

        :raises ProcessLookupError: as soon as all are.
        """
        assert self.process
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            self.process.poll()  # or it would stay as a zombie
            os.killpg(self.process.pid, 0)
            time.sleep(0.1)

    def processes(self) -> int:
        """Return the number of processes under the server."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                parents[stat.parent.name] = stat.read_text().rpartition(")")[2].split()[1]
        own = {str(self.process.pid)} if self.process else set()
        while more := {child for child, parent in parents.items() if parent in own} - own:
            own |= more
        return len(own)

    def connect(self, management: bool = False, timeout: float = ANSWER_SECONDS) -> http.client.HTTPConnection:
        port = self.management_port if management else self.port
        if self.tls:
            trusting = ssl._create_unverified_context()
            return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=trusting)
        return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] = NONE,
        management: bool = False,
        timeout: float = ANSWER_SECONDS,
    ) -> Answer:
        """Send one request on a connection of its own. ``{port}``, ``{management_port}`` and ``{store}`` in a path are
        replaced by the server's."""
        for name, value in (("port", self.port), ("management_port", self.management_port), ("store", self.store)):
            path = path.replace(f"{{{name}}}", str(value))
        connection = self.connect(management, timeout)
        try:
            return exchange(connection, method, path, headers, body)
        finally:
            connection.close()
