"""A real backend process, and networks for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.backend.client import BackendClient, RemoteEngine
from app.backend.shared_state import SharedState
from app.backend.supervisor import MODULE
from app.settings import ROOT, Settings
from app.utils.openvino_runtime import import_openvino
from tests.engines.test_openvino import model

LONG = 10.0
"""Milliseconds of a row, said of networks that take less: they are to be computed over there."""


class Backend:
    """A backend process that can be started, killed and started again at the same address.

    :param folder: of what it writes.
    """

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(models_dir=folder / "models", instance_dir=folder / "instance", shipped_models=False)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind("")
        self._listener.listen()
        self.address: bytes = self._listener.getsockname()
        self.state = SharedState()
        self.process: subprocess.Popen[bytes] | None = None
        self._opened: list[RemoteEngine] = []

    def open(self, path: Path) -> RemoteEngine:
        """Open a network that the process computes. It is closed at the end."""
        self._opened.append(RemoteEngine(self.address, path, LONG))
        return self._opened[-1]

    def client(self) -> BackendClient:
        """Return a client of the process."""
        return BackendClient(self.address, self.state, self.settings)

    def start(self, prelude: str = "") -> subprocess.Popen[bytes]:
        """Start the process. Connections wait until it accepts.

        :param prelude: a statement that it executes first.
        """
        files = [self._listener.fileno(), self.state.fileno()]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DIMPLE_")}
        environ |= {
            "DIMPLE_MODELS_DIR": str(self.settings.models_dir),
            "DIMPLE_INSTANCE_DIR": str(self.settings.instance_dir),
            "DIMPLE_SHIPPED_MODELS": "false",
        }
        code = f"{prelude}; import runpy; runpy.run_module({MODULE!r}, run_name='__main__')"
        program = ["-c", code] if prelude else ["-m", MODULE]
        command = [sys.executable, *program, *map(str, files), str(os.getpid())]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environ, pass_fds=files)
        return self.process

    def kill(self) -> None:
        """Kill the process; connections wait for the next one."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def give_up(self) -> None:
        """Refuse all further connections."""
        self.kill()
        self._listener.close()

    def close(self) -> None:
        """End the process and remove its files."""
        self.give_up()
        self.state.close()
        for item in self._opened:
            item.close()


@contextmanager
def backend_process(folder: Path) -> Iterator[Backend]:
    """Run a backend process."""
    made = Backend(folder)
    made.start()
    try:
        yield made
    finally:
        made.close()


def write_network(folder: Path, name: str = "model") -> Path:
    """Write the network of :mod:`tests.engines.test_openvino`, whose ``forward`` computes its outputs."""
    path = folder / f"{name}.xml"
    import_openvino().save_model(model(), path, compress_to_fp16=False)
    return path
