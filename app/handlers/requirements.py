"""The packages that an archive requires, in its own virtual environment on top of the server's packages."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from app.handlers.log_relay import MAX_LINE
from app.handlers.reaper import GUARD
from app.utils.process import kill_group

# isolated, so that modules in the archive's folder, the current folder, do not shadow their own
PIP = (
    "-I",
    "-m",
    "pip",
    "install",
    "--disable-pip-version-check",
    "--no-input",
    "--no-cache-dir",
    "--progress-bar",
    "off",
)
ERROR = "ERROR:"
CLOSING_SECONDS = 10.0

log = logging.getLogger(__name__)


class InstallFailed(Exception):
    """An error with pip's last error message."""


def server_packages() -> list[str]:
    """Return the server's own package folders."""
    return [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]


def install(
    requirements: Path,
    venv: Path,
    options: Sequence[str],
    environment: Mapping[str, str],
    seconds: float,
    below: Iterable[str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Create a virtual environment and install a requirements file there. pip's output is logged.

    The environment includes the server's packages, so an archive need not require MXNet. If it requires another version
    of a package, it gets that version, and the server keeps its own.

    :param requirements: requirements file of pip; with hashes, nothing else is installed. Paths in it are relative to
        its folder.
    :param environment: environment variables of pip, and of the packages' set-up code.
    :param seconds: timeout of the whole installation.
    :param below: folders of further packages in the environment; None for the server's.
    :param on_line: called with each line of pip's output.
    :raises InstallFailed: if a package cannot be installed, or the timeout expires.
    :raises OSError: if the environment cannot be written.
    """
    deadline = time.monotonic() + seconds
    folder = requirements.parent
    _run([sys.executable, "-I", "-m", "venv", "--without-pip", str(venv)], folder, environment, deadline)
    packages = Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(venv)}))
    folders = server_packages() if below is None else list(below)
    # read after the environment's own folder, so its own packages come first
    (packages / "server.pth").write_text(f"import site; list(map(site.addsitedir, {folders!r}))\n")
    # pip is the server's own: it removes nothing outside the environment that runs it
    pip = [str(venv / "bin" / "python"), *PIP, *options, "-r", str(requirements)]
    _run(pip, folder, environment, deadline, on_line)


def _run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    deadline: float,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run a program and log its output. Its process group is killed at the end.

    :raises InstallFailed: if it fails, with its last error, or has not ended at the deadline.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    GUARD.watch(process.pid)
    late = threading.Event()
    clock = threading.Timer(max(0.0, deadline - time.monotonic()), _stop, [process.pid, late])
    clock.start()
    try:
        reason = _follow(process, on_line)
    finally:
        clock.cancel()
        clock.join()
        kill_group(process.pid)
        process.wait()
        GUARD.forget(process.pid)
    if late.is_set():
        raise InstallFailed("it took longer than DIMPLE_INSTALL_TIMEOUT allows")
    if process.returncode:
        raise InstallFailed(reason or f"pip ended with status {process.returncode}")


def _follow(process: subprocess.Popen[bytes], on_line: Callable[[str], None] | None) -> str:
    """Log the output of a program until it ends.

    :returns: its last error, or else its last line.
    """
    error = last = ""
    assert process.stdout is not None, "it was started with a pipe"
    with process.stdout as pipe:
        for raw in iter(lambda: pipe.readline(MAX_LINE), b""):
            if line := raw.decode(errors="replace").strip():
                log.info("%s", line)
                if on_line is not None:
                    on_line(line)
                last = line
                if line.startswith(ERROR):
                    error = line.removeprefix(ERROR).strip()
    # it has closed its output, so it has ended or is about to end
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(CLOSING_SECONDS)
    return error or last


def _stop(group: int, late: threading.Event) -> None:
    late.set()
    kill_group(group)
