"""Three Ray nodes and two servers on one machine, each node with an address of loopback's own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
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
from bench.cluster.supervisor import kill_children
from bench.perf.processes import held

BIN = Path(sys.executable).parent
CPUS = 8
"""Replicas that may run on each node but the head: what is tried here is behaviour, not speed."""
START_SECONDS = 180.0
COMMAND_SECONDS = 150.0
RAY_ENVIRON = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_storage": "rocksdb",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
"""The environment of docs/scaling.md."""


class Failed(Exception):
    """The rig does not do what it must; the message has the end of a log."""


def wait_for(what: str, condition: Callable[[], bool], seconds: float) -> float:
    """Wait until a condition holds.

    :returns: the seconds that took.
    :raises Failed: if it does not hold in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)
    return time.monotonic() - began


@dataclass
class Front:
    """A server with an instance folder of its own."""

    folder: Path
    port: int
    environ: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "front.log"

    def start(self, **settings: str) -> None:
        """Start gunicorn, without waiting."""
        command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environ | settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self) -> None:
        """Stop the server when it has answered its running requests."""
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
        """Send one request; return status and body, or status 0 if nothing answers."""
        request = urllib.request.Request(self.url(path, management), method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ready(self, models: int = 1) -> bool:
        """Return whether the server is ready, with the given number of models at least."""
        if self.process is not None and self.process.poll() is not None:
            raise Failed(f"a front has ended:\n{self.log.read_text(errors='replace')[-3000:]}")
        status, body = self.ask("GET", "/readyz", seconds=10)
        return status == 200 and len(json.loads(body)["models"]) >= models


class Node:
    """A Ray node that is started again whenever it ends."""

    def __init__(self, folder: Path, environ: dict[str, str], arguments: list[str]) -> None:
        self.folder, self.log = folder, folder / "node.log"
        self._environ = environ | {"RAY_TMPDIR": str(folder / "ray")}
        self._command = [sys.executable, "-m", "bench.cluster.supervisor", str(self.log), str(folder / "ray")]
        self._command += [str(BIN / "ray"), "start", "--block", "--disable-usage-stats", *arguments]
        self._command += ["--object-store-memory=100000000", f"--temp-dir={folder / 'ray'}"]
        self._supervisor: psutil.Popen | None = None

    def start(self) -> None:
        """Start Ray, and wait until it runs."""
        self._supervisor = psutil.Popen(self._command, cwd=ROOT, env=self._environ)
        wait_for(f"Ray runs in {self.folder}", self.has_started, START_SECONDS)

    def has_started(self) -> bool:
        return self.log.exists() and "Ray runtime started" in self.log.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the node."""
        return self._supervisor.children(recursive=True) if self._supervisor else []

    def kill(self) -> None:
        """Kill all its processes, as a loss of power does."""
        kill_children(self._supervisor)

    def stop(self) -> None:
        """Stop the node for good."""
        if self._supervisor:
            self._supervisor.terminate()
            self._supervisor.wait(30)


class Rig:
    """The nodes and the fronts, and the folder that all of it lies in."""

    def __init__(self, models: Path, cache: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dc-"))  # short: sockets lie in it
        (self.folder / "home").mkdir()
        self._models, self._cache = models, cache
        self.ray_port, self.proxy_port = _two_ports(), _two_ports()
        self.fronts = (self._front("a"), self._front("b"))
        self.head = self._node(
            2, ["--head", f"--port={self.ray_port}", f"--dashboard-port={self.ray_port + 1}"], cpus=0
        )
        self.nodes = [self._node(number, [f"--address=127.0.0.2:{self.ray_port}"]) for number in (3, 4)]
        self.peak = 0.0

    @property
    def proxies(self) -> str:
        """Return the setting ``DIMPLE_CLUSTER``. On one machine, the proxies share their port."""
        return f"127.0.0.3:{self.proxy_port},127.0.0.4:{self.proxy_port}"

    def start_nodes(self) -> None:
        """Start the head, let the nodes join, and deploy the models of the first front."""
        self.run("ray", "get-auth-token", "--generate")
        for node in (self.head, *self.nodes):
            node.start()
        self.deploy()

    def join_more(self, count: int) -> None:
        """Let more nodes join, until there are the given number of nodes."""
        while len(self.nodes) < count:
            self.nodes.append(self._node(3 + len(self.nodes), [f"--address=127.0.0.2:{self.ray_port}"]))
            self.nodes[-1].start()

    def deploy(self, *arguments: str) -> None:
        """Deploy the models of the first front, as an operator does."""
        config = self.run(sys.executable, "-m", "flask", "--app", str(ROOT / "app"), "cluster", "config", *arguments)
        (self.folder / "serve.yaml").write_text(config, encoding="utf-8")
        self.run("serve", "deploy", str(self.folder / "serve.yaml"), "--address", self.dashboard)

    def status(self) -> dict[str, str]:
        """Return the status of each application, and its messages; empty while the head does not answer."""
        token = (self.folder / "home" / ".ray" / "auth_token").read_text().strip()
        url = f"{self.dashboard}/api/serve/applications/"
        try:
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request, timeout=5) as answer:
                document = json.load(answer)
        except (OSError, ValueError):
            return {}
        return {name: f"{found['status']} {found}" for name, found in document["applications"].items()}

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.ray_port + 1}"

    def run(self, program: str, *arguments: str) -> str:
        """Run a command with the settings of the first front; return what it prints."""
        command = [program if "/" in program else str(BIN / program), *arguments]
        environ = self.fronts[0].environ | self._ray_environ() | {"DIMPLE_CLUSTER": self.proxies}
        done = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stdout}{done.stderr}"[-3000:])
        return done.stdout

    def start_fronts(self, models: int) -> None:
        """Start both fronts, and wait until they answer."""
        for front in self.fronts:
            front.start(DIMPLE_CLUSTER=self.proxies)
        for front in self.fronts:
            wait_for("the fronts are ready", lambda front=front: front.ready(models), START_SECONDS)

    def processes(self) -> list[psutil.Process]:
        """Return everything that was started here and still runs."""
        found = [process for node in (self.head, *self.nodes) for process in node.processes()]
        for front in self.fronts:
            if front.process is not None:
                process = psutil.Process(front.process.pid)
                found += [process, *process.children(recursive=True)]
        return found

    def measure(self) -> None:
        """Note the memory that all processes take now (PSS, MiB), if it is more than ever before."""
        self.peak = max(self.peak, held([process.pid for process in self.processes()]).pss)

    def close(self) -> None:
        """End everything, and remove the folder."""
        for front in self.fronts:
            front.stop()
        for node in (*self.nodes, self.head):
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _node(self, number: int, arguments: list[str], cpus: int = CPUS) -> Node:
        folder = self.folder / f"n{number}"
        folder.mkdir()
        environ = self._environ(folder) | self._ray_environ() | {"RAY_gcs_storage_path": str(folder / "gcs")}
        return Node(folder, environ, [*arguments, f"--node-ip-address=127.0.0.{number}", f"--num-cpus={cpus}"])

    def _front(self, name: str) -> Front:
        folder, port = self.folder / name, _two_ports()
        shutil.copytree(self._models, folder / "models")
        environ = self._environ(folder) | {"DIMPLE_PORT": str(port), "DIMPLE_MANAGEMENT_PORT": str(port + 1)}
        return Front(folder, port, environ)

    def _environ(self, folder: Path) -> dict[str, str]:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("DIMPLE_", "RAY_", "MAKE"))}
        return environ | {
            "HOME": str(self.folder / "home"),
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

    def _ray_environ(self) -> dict[str, str]:
        return RAY_ENVIRON | {"PYTHONPATH": str(ROOT)}


def _two_ports() -> int:
    """Return a free port with a free one after it."""
    while True:
        with socket.socket() as one, socket.socket() as after, contextlib.suppress(OSError, OverflowError):
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            after.bind(("127.0.0.1", port + 1))
            return port


@contextlib.contextmanager
def rig(models: Path, cache: Path) -> Iterator[Rig]:
    """Yield a rig that is removed in any case."""
    made = Rig(models, cache)
    try:
        yield made
    finally:
        made.close()
