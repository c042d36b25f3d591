"""A real engine process, and networks for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.engines.openvino_runtime import import_openvino
from app.engines.shared.client import SharedEngine
from app.pulse import Pulse
from app.settings import ROOT
from tests.engines.test_openvino_engine import model

LONG = 10.0
"""Milliseconds of a row, said of networks that take less: they are to be computed over there."""


class EngineProcess:
    """It is started, killed and started again at the same address.

    :param folder: for what it shares with others.
    """

    def __init__(self, folder: Path) -> None:
        self._in_flight = folder / ".in-flight"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind("")
        self._listener.listen()
        self.address: bytes = self._listener.getsockname()
        self.pulse = Pulse()
        self.process: subprocess.Popen[bytes] | None = None
        self._opened: list[SharedEngine] = []

    def open(self, path: Path) -> SharedEngine:
        """Have a network computed by it. It is closed at the end."""
        self._opened.append(SharedEngine(self.address, path, LONG))
        return self._opened[-1]

    def start(self) -> subprocess.Popen[bytes]:
        """Start it. Whoever asks waits until it accepts."""
        listener, pulse = self._listener.fileno(), self.pulse.fileno()
        command = [sys.executable, "-m", "app.engines.shared.server", str(listener), str(os.getpid()), self._in_flight]
        self.process = subprocess.Popen([*command, str(pulse)], cwd=ROOT, pass_fds=[listener, pulse])
        return self.process

    def kill(self) -> None:
        """Kill it; connections wait for the next."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def give_up(self) -> None:
        """Let nobody connect any more."""
        self.kill()
        self._listener.close()

    def close(self) -> None:
        """Leave nothing behind."""
        self.give_up()
        self.pulse.close()
        for one in self._opened:
            one.close()


@contextmanager
def engine_process(folder: Path) -> Iterator[EngineProcess]:
    """One that runs."""
    made = EngineProcess(folder)
    made.start()
    try:
        yield made
    finally:
        made.close()


def write_network(folder: Path, name: str = "model") -> Path:
    """The network of :mod:`tests.engines.test_openvino_engine`, of which its ``forward`` tells the answers."""
    path = folder / f"{name}.xml"
    import_openvino().save_model(model(), path, compress_to_fp16=False)
    return path
