"""A real gunicorn with everything under it, in folders of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.backend.supervisor import MODULE
from app.settings import ROOT
from bench.perf.processes import Held, family, held
from bench.ports import free_ports
from bench.reliability.models import COLOUR, HANDLED, HEAVY, write_colour, write_handled, write_heavy

START_SECONDS = 120
ANSWER_SECONDS = 60
TICK_SECONDS = 0.05
"""Between two looks at all processes, which cost the server processor time if they follow each other too fast."""
FULL_MIB = 4
"""Of the disk that a server has for itself in :func:`with_small_disk`."""


class NotInTime(Exception):
    """The error of a condition that did not hold in time; the message has the end of the server's log."""


@dataclass
class Served:
    """A server.

    :param folder: for all files that it writes, in folders of their own; the models lie in ``models``.
    :param wrapped: a command line that the server's own is appended to.
    """

    folder: Path
    environ: dict[str, str]
    port: int
    management_port: int
    wrapped: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    logged: int = field(default=0)

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    @property
    def instance(self) -> Path:
        return Path(self.environ["DIMPLE_INSTANCE_DIR"])

    @property
    def models(self) -> Path:
        return Path(self.environ["DIMPLE_MODELS_DIR"])

    def launch(self) -> None:
        """Start the server, in a process group of its own."""
        command = [*self.wrapped, sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, under nohup, the server would not reload
        with self.log.open("ab") as log:
            self.logged = log.tell()
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        signal.signal(signal.SIGHUP, before)

    def start(self) -> None:
        """Start the server, and wait until all its processes answer."""
        self.launch()
        self.wait(self.is_whole)

    def is_whole(self) -> bool:
        """Return whether as many processes serve as are configured."""
        return self.answers() and len(self.serving()) >= int(self.environ["DIMPLE_WORKERS"])

    def answers(self) -> bool:
        """Return whether a process answers, and has all models."""
        assert self.process
        if self.process.poll() is not None:
            raise NotInTime(f"the server has ended:\n{self.log_text()[-3000:]}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/readyz")[0] == 200
        return False

    def wait(self, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait until a condition holds.

        :raises NotInTime: if it does not, in time.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise NotInTime(
                    f"{getattr(condition, '__name__', condition)}: not in {seconds} s:\n{self.log_text()[-3000:]}"
                )
            time.sleep(TICK_SECONDS)

    def wait_for_line(self, text: str, seconds: float = START_SECONDS) -> None:
        """Wait until the log has a text, since the start."""
        self.wait(lambda: text in self.log_text(), seconds)

    def log_text(self) -> str:
        """Return the log since the last start."""
        with self.log.open("rb") as log:
            log.seek(self.logged)
            return log.read().decode(errors="replace")

    def workers(self) -> list[int]:
        """Return the worker processes that live: the children of gunicorn's first process, but for those of engines."""
        return [child for child in self._children() if not _is_engine(child)]

    def engines(self) -> list[int]:
        """Return the processes that compute slow networks for all workers."""
        return [child for child in self._children() if _is_engine(child)]

    def _children(self) -> list[int]:
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == self.master and state != "Z":
                    found.append(int(stat.parent.name))
        return sorted(found)

    @property
    def master(self) -> int:
        """Return gunicorn's first process, from the log, since a wrapping command may stand before it."""
        found = re.findall(r"is starting as process (\d+)", self.log_text())
        return int(found[-1]) if found else self.pid

    def serving(self) -> list[int]:
        """Return the workers that have loaded their models."""
        loaded = {
            int(item) for item in re.findall(r"\[(\d+)\] \[INFO\] (?:serving|model \S+ \S+ loaded)", self.log_text())
        }
        return [worker for worker in self.workers() if worker in loaded]

    def handlers(self) -> list[int]:
        """Return the processes of models with code of their own, which are under the workers."""
        return [item for item in family(self.pid) if item not in (self.pid, self.master, *self._children())]

    def held(self) -> Held:
        """Return the resources of all processes."""
        return held(family(self.pid))

    def ask(
        self, method: str, path: str, body: bytes | None = None, management: bool = False,
        headers: Mapping[str, str] = {}, seconds: float = ANSWER_SECONDS,
    ) -> tuple[int, bytes, Mapping[str, str]]:  # fmt: skip
        """Send one request on a connection of its own; return status, body, headers."""
        port = self.management_port if management else self.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read(), dict(response.getheaders())
        finally:
            connection.close()

    def stop(self) -> int | None:
        """End the server, and everything under it.

        :returns: its exit status, if it ended by itself.
        """
        if self.process is None:
            return None
        if self.process.poll() is None:
            os.kill(self.master, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=START_SECONDS)
        code = self.process.poll()
        for item in family(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(item, signal.SIGKILL)
        self.process.wait()
        self.process = None
        return code


def _is_engine(process: int) -> bool:
    with contextlib.suppress(OSError):
        return MODULE.encode() in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    return False


def make(folder: Path, cache: Path, models: Sequence[str] = (COLOUR,), **settings: object) -> Served:
    """Return a server that is not started yet.

    :param models: of :mod:`bench.reliability.models`, and of those that come with Dimple.
    :param cache: folder of converted networks, shared by all.
    :param settings: of Dimple, by their names in lower case.
    """
    port, management_port = free_ports(2)
    for name in ("home", "instance", "uploads", "models", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if COLOUR in models:
        write_colour(folder / "models" / COLOUR)
    if HEAVY in models:
        write_heavy(folder / "models" / HEAVY)
    if HANDLED in models:
        write_handled(folder / "models" / HANDLED)
    for name in set(models) - {COLOUR, HEAVY, HANDLED}:
        (folder / "models" / name).symlink_to(ROOT / "models" / name)
    variables: dict[str, object] = {
        "host": "127.0.0.1", "port": port, "management_port": management_port, "workers": 2,
        "models_dir": folder / "models",
        "uploads_dir": folder / "uploads", "instance_dir": folder / "instance", "cache_dir": cache,
        "shipped_models": "false", "default_model": COLOUR, "access_log": "",
        "log_style": "gunicorn", **settings,
    }  # fmt: skip
    hidden = ("DIMPLE_", "MMS_", "MAKE", "MFLAGS")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environ |= {f"DIMPLE_{name.upper()}": str(value) for name, value in variables.items()}
    environ |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    return Served(folder, environ, port, management_port)


@contextlib.contextmanager
def running(served: Served) -> Iterator[Served]:
    """Start a server, and stop it at the end."""
    try:
        served.start()
        yield served
    finally:
        served.stop()
