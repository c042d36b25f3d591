"""The server as processes: started in the foreground or background, found, and stopped."""

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
from app.settings import PREFIX, ROOT, Settings, read_settings

if TYPE_CHECKING:
    import psutil

VARIABLE = "LAUNCH_READY_FD"
"""The end of a pipe on which the one who starts a server in the background waits."""


class ReadyNotifier:
    """Tells that the server is ready: one of its processes does, whichever is first.

    To be made before they fork. Its pipe holds one byte; who reads it is the first.

    :param environ: may hold :data:`VARIABLE`, which is taken out: it is nobody else's business.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        waiting = environ.pop(VARIABLE, None)
        self._waiting = int(waiting) if waiting else None
        if self._waiting is not None:
            os.set_inheritable(self._waiting, False)
        token, end = os.pipe()
        os.set_blocking(token, False)
        os.write(end, b".")
        # as files, which are closed when a reload has made another herald
        self._token, self._end = io.FileIO(token), io.FileIO(end, "w")

    def is_first(self) -> bool:
        """Return whether this process is the first that asks. Tells the one who waits."""
        if self._token.read(1) is None:  # nothing left
            return False
        if self._waiting is not None:
            with contextlib.suppress(OSError):  # nobody waits any more
                os.write(self._waiting, b"ready")
        return True


MADE_BY_MAKE = ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")
TOLD_LINES = 12
TICK_SECONDS = 0.05
PROGRESS_SECONDS = 0.5
CONVERTING = re.compile(r"Converting models, first start only \(\d+/\d+\): [\w.-]+")
STOP_SECONDS = 60
"""What a server has to end beyond what it gives the requests that it works on."""


@dataclass(frozen=True)
class Launch:
    """A server to be started.

    :param environ: its whole environment, with the settings.
    :param pid_file: where its process id is kept while it runs.
    :param output: what it prints, where it runs in the background; written anew.
    :param log: its log, where it has a file: the place to look for the reason when it does not start.
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

    A process that has got its number since is not taken for it: the server has the file in its command line, or is a
    gunicorn that was there before the file.
    """
    import psutil

    try:
        process = psutil.Process(int(pid_file.read_text()))
        command = process.cmdline()
        older = process.create_time() <= pid_file.stat().st_mtime + 1
        ours = str(pid_file) in command or (older and any("gunicorn" in item for item in command))
        ours = ours and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        raise LaunchError(f"{pid_file} names a process of another user, who alone can look after it.") from None
    except (OSError, ValueError, psutil.Error):
        return None
    return process if ours else None


def write_pid(pid_file: Path) -> None:
    """Tell by a pid file that this process is the server, unless another one that runs does."""
    if pid_file.exists() and find(pid_file):
        return
    with contextlib.suppress(OSError):  # the server can do without
        pid_file.parent.mkdir(parents=True, exist_ok=True)
        pid_file.write_text(f"{os.getpid()}\n")


def remove_pid(pid_file: Path) -> None:
    """Remove the pid file if it names this process."""
    with contextlib.suppress(OSError):
        if pid_file.read_text().strip() == str(os.getpid()):
            pid_file.unlink()


def run(launch: Launch) -> NoReturn:
    """Become the server, in the foreground."""
    _prepare(launch)
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execve(sys.executable, launch.command, dict(launch.environ))


def start(launch: Launch, report: Callable[[str], object] = lambda line: None) -> int:
    """Start the server in the background, in a session of its own, so that it outlives the terminal.

    :param report: called with a line of progress now and then.
    :returns: its process id, as soon as it answers.
    :raises LaunchError: where it ends instead, with what it said.
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
    """Wait until the server writes into the pipe, and report the conversions that its log mentions meanwhile.

    :returns: nothing if the last of its processes has ended.
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
    """Let new workers take over, and wait until the old ones have ended.

    :raises LaunchError: if the old ones are still there after a while, because the new ones cannot start.
    """
    import psutil

    running = settings_of(process)  # an invalid line of settings.env is an error here
    before = process.children()
    process.send_signal(signal.SIGHUP)
    seconds = STOP_SECONDS + max(30, running.unregister_timeout)
    _, alive = psutil.wait_procs(before, seconds)
    if alive:
        raise LaunchError(
            f"The old workers (process {', '.join(str(old.pid) for old in alive)}) still serve after {seconds} s. The "
            "log says why the new ones cannot start"
        )


def stop(pid_file: Path) -> bool:
    """Let the server answer what it works on, and end it.

    :returns: False where the file is there and the server is not.
    :raises LaunchError: where it does not end.
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
        # one that has ended stays in the list until its parent, who may be busy, asks after it
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise LaunchError(f"The server (process {process.pid}) has not ended within {seconds} s.")
            time.sleep(TICK_SECONDS)
    pid_file.unlink(missing_ok=True)
    return True


def settings_of(process: psutil.Process) -> Settings:
    """Return the settings of a server that runs: its environment tells them."""
    import psutil

    try:
        environ = process.environ()
    except psutil.AccessDenied:
        raise LaunchError(f"The server (process {process.pid}) is another user's, who alone can ask it.") from None
    return read_settings({name: value for name, value in environ.items() if name.startswith(PREFIX)})


def _prepare(launch: Launch) -> None:
    """Make room for the pid file; what an earlier server left behind goes.

    :raises LaunchError: where a server runs already.
    """
    if process := find(launch.pid_file):
        raise LaunchError(f"A server is running already (process {process.pid}). Stop it first.")
    launch.pid_file.parent.mkdir(parents=True, exist_ok=True)
    launch.pid_file.unlink(missing_ok=True)


def _reason(launch: Launch, logged: int) -> str:
    """Return the last lines that a server said which did not start."""
    output = launch.output.read_bytes()
    if launch.log and launch.log.exists():
        with launch.log.open("rb") as log:
            log.seek(logged)
            output = log.read() + output
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    tail = "\n".join(f"  {line}" for line in lines[-TOLD_LINES:])
    return f"The server could not be started. It said:\n{tail}" if tail else "The server ended and said nothing."
