"""Two machines in one: each a Ray node with an address of loopback's own, and a front beside it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.settings import ROOT
from bench.perf.processes import held

HEAD, NODE = "127.0.0.2", "127.0.0.3"
CPUS = 8
"""Replicas that may run on each node: what is tried here is behaviour, not speed."""
COMMON = ("--cpus", str(CPUS), "--object-mb", "100")
START_SECONDS = 180.0
COMMAND_SECONDS = 150.0


class Failed(Exception):
    """The rig does not do what it must; the message has the end of a log."""


def wait_for(what: str, condition: Callable[[], bool], seconds: float) -> float:
    """Wait until something holds.

    :returns: the seconds that took.
    :raises Failed: where it does not hold in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)
    return time.monotonic() - began


@dataclass
class Machine:
    """A node and a front, with an instance folder of their own."""

    folder: Path
    host: str
    port: int
    environ: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "front.log"

    def flask(self, *arguments: str) -> str:
        """Run a command of ``flask`` on it; return what it prints."""
        command = [sys.executable, "-m", "flask", "--app", str(ROOT / "app"), *arguments]
        with tempfile.TemporaryFile() as output:  # no pipe: what it starts would keep that open
            done = subprocess.run(
                command, cwd=ROOT, env=self.environ, stdout=output, stderr=subprocess.STDOUT, timeout=COMMAND_SECONDS
            )
            output.seek(0)
            said = output.read().decode(errors="replace")
        if done.returncode:
            raise Failed(f"flask {' '.join(arguments)}: {said}")
        return said

    def start_front(self, **told: str) -> None:
        """Start gunicorn, without waiting."""
        command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environ | told, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop_front(self) -> None:
        """End it when it has answered what it works on."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def url(self, path: str, management: bool = False) -> str:
        return f"http://127.0.0.1:{self.port + management}{path}"

    def ask(self, method: str, path: str, management: bool = False, seconds: float = 120) -> tuple[int, str]:
        """One request: status and body; 0 where nobody answers."""
        request = urllib.request.Request(self.url(path, management), method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ready(self, models: int = 1) -> bool:
        """Whether it says that it is ready, with so many models at least."""
        if self.process is not None and self.process.poll() is not None:
            raise Failed(f"a front has ended:\n{self.log.read_text(errors='replace')[-3000:]}")
        status, body = self.ask("GET", "/readyz", seconds=10)
        return status == 200 and len(json.loads(body)["models"]) >= models

    def watch(self) -> psutil.Process:
        """The process that looks after its node."""
        facts = str(self.folder / "instance" / "cluster" / "node.json")
        for process in psutil.process_iter(["cmdline"]):
            if {"app.engines.ray.node", facts} <= set(process.info["cmdline"] or ()):
                return process
        raise Failed(f"no node runs for {facts}")

    def has_node(self) -> bool:
        """Whether its Ray node runs."""
        try:
            return bool(json.loads((self.folder / "instance" / "cluster" / "node.json").read_text())["runs"])
        except (OSError, ValueError):
            return False


class Rig:
    """The two machines, and the folder that all of it lies in."""

    def __init__(self, models: Path, cache: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dc-"))  # short: sockets lie in it
        self.head_port, first, second = (_two_ports() for _ in range(3))
        self._models, self._cache = models, cache
        self.head, self.node = self._machine("a", HEAD, first), self._machine("b", NODE, second)
        self.others: list[Machine] = []
        self.peak = 0.0

    @property
    def machines(self) -> tuple[Machine, Machine]:
        return self.head, self.node

    @property
    def address(self) -> str:
        return f"{HEAD}:{self.head_port}"

    def start_nodes(self) -> None:
        """Start the head, and let the other join."""
        self.head.flask("cluster", "up", "--host", HEAD, "--port", str(self.head_port), *COMMON)
        self._join(self.node)

    def join_more(self, count: int) -> None:
        """Let machines without a front join, until there are so many."""
        while 2 + len(self.others) < count:
            number = 4 + len(self.others)
            self.others.append(self._machine(f"n{number}", f"127.0.0.{number}", 0))
            self._join(self.others[-1])

    def _join(self, machine: Machine) -> None:
        token = self.head.folder / "instance" / "cluster" / "token"
        machine.flask("cluster", "join", self.address, "--host", machine.host, "--token-file", str(token), *COMMON)

    def start_fronts(self, models: int) -> None:
        """Start both fronts, and wait until they answer."""
        for one in self.machines:
            one.start_front(DIMPLE_CLUSTER=self.address)
        for one in self.machines:
            wait_for("the fronts are ready", lambda one=one: one.ready(models), START_SECONDS)

    def processes(self) -> list[psutil.Process]:
        """Everything that was started here and lives."""
        mark, found = str(self.folder), []
        for process in psutil.process_iter(["environ"]):
            environ = process.info["environ"] or {}
            if environ.get("DIMPLE_INSTANCE_DIR", "").startswith(mark) and process.pid != os.getpid():
                found.append(process)
        return found

    def measure(self) -> None:
        """Note what all of it takes of memory now (PSS, MiB), where that is more than ever."""
        self.peak = max(self.peak, held([one.pid for one in self.processes()]).pss)

    def close(self) -> list[str]:
        """End everything, and remove the folder.

        :returns: what had to be killed; nothing should.
        """
        for one in self.machines:
            one.stop_front()
        for one in (*self.others, *reversed(self.machines)):
            with contextlib.suppress(Failed, subprocess.TimeoutExpired):
                one.flask("cluster", "down")
        time.sleep(1)
        left = [f"{one.pid} {' '.join(one.cmdline())[:100]}" for one in self.processes()]
        for one in self.processes():
            with contextlib.suppress(psutil.Error):
                one.send_signal(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        return left

    def _machine(self, name: str, host: str, port: int) -> Machine:
        folder = self.folder / name
        (folder / "home").mkdir(parents=True)
        shutil.copytree(self._models, folder / "models")
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("DIMPLE_", "RAY_", "MAKE"))}
        environ |= {
            "HOME": str(folder / "home"),
            "DIMPLE_INSTANCE_DIR": str(folder / "instance"),
            "DIMPLE_CACHE_DIR": str(self._cache),
            "DIMPLE_UPLOADS_DIR": str(folder / "uploads"),
            "DIMPLE_MODELS_DIR": str(folder / "models"),
            "DIMPLE_SHIPPED_MODELS": "false",
            "DIMPLE_CLUSTER_STORE": str(self.folder / "store"),
            "DIMPLE_DEFAULT_WORKERS_PER_MODEL": "2",
            "DIMPLE_RESPONSE_TIMEOUT": "30",
            "DIMPLE_WORKERS": "1",
            "DIMPLE_HOST": "127.0.0.1",
        }
        if port:
            environ |= {"DIMPLE_PORT": str(port), "DIMPLE_MANAGEMENT_PORT": str(port + 1)}
        return Machine(folder, host, port, environ)


def _two_ports() -> int:
    """A free port with a free one after it."""
    while True:
        with socket.socket() as one, socket.socket() as after, contextlib.suppress(OSError, OverflowError):
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            after.bind(("127.0.0.1", port + 1))
            return port


@contextlib.contextmanager
def rig(models: Path, cache: Path) -> Iterator[Rig]:
    """A rig that is taken away again, however it goes."""
    made = Rig(models, cache)
    try:
        yield made
    finally:
        if left := made.close():
            print("had to be killed:", *left, sep="\n  ", file=sys.stderr)
