"""Commands that start and stop real servers, in a folder and with settings of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path

from click.testing import CliRunner

from app.cli.main import dimple
from app.settings import ROOT
from bench.ports import free_ports
from tests.conftest import CACHE

SECONDS = 120
PICTURE = ROOT / "static" / "astronaut.jpg"


class Place:
    """A folder from which servers are started, with a model store ``store`` that holds ``smile``.

    :param folder: empty; the temporary folder, with the pid file, and the instance folder lie in it, too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary, self.instance, self.store = folder / "tmp", folder / "instance", folder / "store"
        self.temporary.mkdir()
        shutil.copytree(ROOT / "models" / "smile", self.store / "smile")
        self.port, self.management_port = free_ports(2)
        hidden = ("DIMPLE_", "MMS_", "MAKE", "MFLAGS", "LOG_LOCATION", "METRICS_LOCATION", "TEMP")
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.environ |= {
            "TMPDIR": str(self.temporary),
            "DIMPLE_INSTANCE_DIR": str(self.instance),
            "DIMPLE_CACHE_DIR": str(CACHE),
            "DIMPLE_UPLOADS_DIR": str(folder / "uploads"),
            "DIMPLE_WORKERS": "1",
        }

    @property
    def pid_files(self) -> tuple[Path, Path]:
        """Return the pid files of the model server and of ``dimple serve``."""
        return self.temporary / ".model_server.pid", self.instance / "server.pid"

    def configure(self, *lines: str) -> None:
        """Write ``config.properties`` with the server's addresses, and these lines."""
        addresses = [
            f"inference_address=http://127.0.0.1:{self.port}",
            f"management_address=http://127.0.0.1:{self.management_port}",
        ]
        (self.folder / "config.properties").write_text("\n".join([*addresses, *lines]))

    def use_store(self) -> None:
        """Serve the model store alone, at this place's ports."""
        self.environ |= {
            "DIMPLE_HOST": "127.0.0.1",
            "DIMPLE_PORT": str(self.port),
            "DIMPLE_MANAGEMENT_PORT": str(self.management_port),
            "DIMPLE_MODELS_DIR": str(self.store),
            "DIMPLE_SHIPPED_MODELS": "false",
        }

    def run(self, command: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ``bin/`` in the folder, until it ends."""
        return self._run([str(ROOT / "bin" / command), *arguments], environ)

    def dimple(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run ``bin/dimple``."""
        return self.typed([sys.executable, str(ROOT / "bin" / "dimple"), *arguments], **environ)

    def invoke(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ``bin/dimple`` in this process, which is faster."""
        with chdir(self.folder):
            runner = CliRunner(env=self.environ | environ)
            done = runner.invoke(dimple, list(arguments), catch_exceptions=False)
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    def typed(self, command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, until it ends."""
        return self._run(command, environ)

    def _run(self, command: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
        # To files, not through pipes: a server that kept a pipe of its starter's open would be waited for.
        out, err = self.folder / "out.txt", self.folder / "err.txt"
        with out.open("w") as stdout, err.open("w") as stderr:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environ | environ,
                stdout=stdout,
                stderr=stderr,
                timeout=SECONDS,
                check=False,
            )
        return subprocess.CompletedProcess(done.args, done.returncode, out.read_text(), err.read_text())

    def curl(self, *arguments: str) -> str:
        """Return what curl prints."""
        command = ["curl", "-sS", "--max-time", "60", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def clean_up(self) -> None:
        """End the servers that a failed test left."""
        for path in self.pid_files:
            with suppress(OSError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """Yield a place, whose servers end with it."""
    made = Place(folder)
    try:
        yield made
    finally:
        made.clean_up()
