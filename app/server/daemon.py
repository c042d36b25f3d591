"""Control of the server's processes: start in the foreground or background, lookup, reload and stop."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from app.errors import LaunchError
from app.settings import ROOT, Settings, read_settings

if TYPE_CHECKING:
    import psutil

VARIABLE = "LAUNCH_READY_FD"
"""Environment variable that holds the file descriptor of a pipe. The process that starts a server in the background
waits on its other end."""


class ReadyNotifier:
    """A notifier of the server's readiness: the first worker that is ready reports it, once.

    Create it before the workers fork. Its pipe holds one byte; the worker that reads the byte is the first.

    :param environ: may hold :data:`VARIABLE`, which is removed so that no other process inherits it.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        waiting = environ.pop(VARIABLE, None)
        self._waiting = int(waiting) if waiting else None
        if self._waiting is not None:
            os.set_inheritable(self._waiting, False)
        token, end = os.pipe()
        os.set_blocking(token, False)
        os.write(end, b".")
        # file objects, which are closed when a reload replaces this notifier
        self._token, self._end = io.FileIO(token), io.FileIO(end, "w")

    def is_first(self) -> bool:
        """Return whether this process is the first caller, and notify the process that waits for the server."""
        if self._token.read(1) is None:  # no byte left
            return False
        if self._waiting is not None:
            with contextlib.suppress(OSError):  # the waiting process has ended
                os.write(self._waiting, b"ready")
        return True


MADE_BY_MAKE = ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")
LOG_TAIL_LINES = 12
TICK_SECONDS = 0.05
PROGRESS_SECONDS = 0.5
CONVERTING = re.compile(r"Converting models, first start only \(\d+/\d+\): [\w.-]+")
STOP_SECONDS = 60
"""Seconds that a server has for its shutdown, in addition to the timeout of the requests under way."""


@dataclass(frozen=True)
class Launch:
    """The parameters of a server that is about to start.

    :param environ: whole environment, including the settings.
    :param pid_file: file that holds the server's process id while it runs.
    :param output: file for standard output and error in the background; overwritten at each start.
    :param log: log file, if there is one; searched for the reason of a failed start.
    """

    environ: Mapping[str, str]
    pid_file: Path
    output: Path
    log: Path | None = None

    @property
    def command(self) -> list[str]:
        """Return the command line."""
        config = str(ROOT / "gunicorn.conf.py")
        return [sys.executable, "-m", "gunicorn", "--config", config, "--pid", str(self.pid_file)]


def find(pid_file: Path) -> psutil.Process | None:
    """Return the server that wrote a pid file, if it still runs.

    A process that has reused the process id is not mistaken for the server: the server has the pid file in its command
    line, or is a gunicorn that is older than the file.
    """
    import psutil

    try:
        process = psutil.Process(int(pid_file.read_text()))
        command = process.cmdline()
        older = process.create_time() <= pid_file.stat().st_mtime + 1
        ours = str(pid_file) in command or (older and any("gunicorn" in item for item in command))
        ours = ours and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        raise LaunchError(
            f"{pid_file} names a process of another user. Only that user can stop or reload it."
        ) from None
    except (OSError, ValueError, psutil.Error):
        return None
    return process if ours else None


def write_pid(pid_file: Path) -> None:
    """Write this process's id to the pid file, unless the file names another server that runs."""
    if pid_file.exists() and find(pid_file):
        return
    with contextlib.suppress(OSError):  # the server works without a pid file
        pid_file.parent.mkdir(parents=True, exist_ok=True)
        pid_file.write_text(f"{os.getpid()}\n")


def remove_pid(pid_file: Path) -> None:
    """Remove the pid file if it names this process."""
    with contextlib.suppress(OSError):
        if pid_file.read_text().strip() == str(os.getpid()):
            pid_file.unlink()


def run(launch: Launch) -> NoReturn:
    """Replace this process by the server, in the foreground."""
    _prepare(launch)
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execve(sys.executable, launch.command, dict(launch.environ))


def start(launch: Launch, report: Callable[[str], object] = lambda line: None) -> int:
    """Start the server in the background, in its own session, so that it outlives the terminal.

    :param report: called with lines of progress.
    :returns: process id, as soon as the server answers.
    :raises LaunchError: if the server ends instead; the error quotes its last output.
    """
    _prepare(launch)
    launch.output.parent.mkdir(parents=True, exist_ok=True)
    logged = launch.log.stat().st_size if launch.log and launch.log.exists() else 0
    reading, writing = os.pipe()
    environ = {name: value for name, value in launch.environ.items() if name not in MADE_BY_MAKE}
    with launch.output.open("wb") as output:
        process = subprocess.Popen(
            launch.command,
            cwd=ROOT,
            env=environ | {VARIABLE: str(writing)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[writing],
        )
    os.close(writing)
    with open(reading, "rb") as pipe:
        try:
            byte = _wait_ready(pipe, launch.log, logged, report)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    if not byte:
        process.wait()
        raise LaunchError(_reason(launch, logged))
    return process.pid


def _wait_ready(pipe: BinaryIO, log: Path | None, logged: int, report: Callable[[str], object]) -> bytes:
    """Wait until the server writes to the pipe, and report the conversions that its log mentions meanwhile.

    :returns: empty if the last server process has ended.
    """
    while not select.select([pipe], [], [], PROGRESS_SECONDS)[0]:
        if log is None or not log.exists():
            continue
        with log.open("rb") as file:
            file.seek(logged)
            *whole, _ = file.read().split(b"\n")
        logged += sum(len(line) + 1 for line in whole)
        for line in whole:
            if found := CONVERTING.search(line.decode(errors="replace")):
                report(found[0])
    return pipe.read(1)


def reload(process: psutil.Process) -> None:
    """Replace the workers by new ones, and wait until the old workers have ended.

    :raises LaunchError: if the server ignores the signal, or old workers still run after the timeout, because the new
        workers cannot start.
    """
    import psutil

    running = settings_of(process)  # an invalid line of settings.env is an error here
    if _ignores_hangup(process.pid):
        raise LaunchError(
            f"The server, process {process.pid}, ignores SIGHUP because it was started with nohup. Stop and start "
            "it again; a server of 'dimple serve' can be reloaded, and needs no nohup"
        )
    before = process.children()
    process.send_signal(signal.SIGHUP)
    seconds = STOP_SECONDS + max(30, running.unregister_timeout)
    _, alive = psutil.wait_procs(before, seconds)
    if alive:
        raise LaunchError(
            f"The old workers (process {', '.join(str(old.pid) for old in alive)}) still serve after {seconds} s. The "
            "log says why the new ones cannot start"
        )


def _ignores_hangup(pid: int) -> bool:
    """Return whether a process ignores SIGHUP, as proc(5) says; False elsewhere than on Linux."""
    try:
        match = re.search(r"^SigIgn:\s+([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return False
    return bool(match and int(match[1], 16) >> (signal.SIGHUP - 1) & 1)


def stop(pid_file: Path) -> bool:
    """Shut down the server after it has answered the requests under way.

    :returns: False if there is a pid file but no server.
    :raises LaunchError: if the server does not end in time.
    """
    import psutil

    process = find(pid_file)
    if process is None:
        pid_file.unlink(missing_ok=True)
        return False
    seconds = STOP_SECONDS + settings_of(process).unregister_timeout
    deadline = time.monotonic() + seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
        # a zombie stays in the process list until its parent, which may be busy, reaps it
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise LaunchError(f"The server (process {process.pid}) has not ended within {seconds} s.")
            time.sleep(TICK_SECONDS)
    pid_file.unlink(missing_ok=True)
    return True


def settings_of(process: psutil.Process) -> Settings:
    """Return the settings of a running server, read from its environment."""
    import psutil

    try:
        environ = process.environ()
    except psutil.AccessDenied:
        raise LaunchError(
            f"The server (process {process.pid}) belongs to another user, and only that user can signal it."
        ) from None
    return read_settings(environ)


def _prepare(launch: Launch) -> None:
    """Create the pid file's folder, and remove a stale pid file.

    :raises LaunchError: if a server runs already.
    """
    if process := find(launch.pid_file):
        raise LaunchError(f"A server is running already (process {process.pid}). Stop it first.")
    launch.pid_file.parent.mkdir(parents=True, exist_ok=True)
    launch.pid_file.unlink(missing_ok=True)


def _reason(launch: Launch, logged: int) -> str:
    """Return the last lines of output of a server that failed to start."""
    output = launch.output.read_bytes()
    if launch.log and launch.log.exists():
        with launch.log.open("rb") as log:
            log.seek(logged)
            output = log.read() + output
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    tail = "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:])
    if tail:
        return f"The server could not be started. The end of its output:\n{tail}"
    return "The server ended without any output. Start it with --foreground to see more."
