"""The server's end of the pipe: starts and restarts the bridge, and fails the requests of a bridge that is gone."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import IO, Any

from app.engines.ray.node_config import address, ray_environ, read_node
from app.engines.ray.spec import DeploymentSpec, DeploymentState, ErrorResponse, Kind, Request, Response, StateUpdate
from app.settings import ROOT, Settings
from app.utils.backoff import Backoff
from app.utils.error_text import reason_of

log = logging.getLogger(__name__)

LONGEST_PAUSE = 5.0
"""Longest pause in seconds before the bridge is restarted."""
ERROR = re.compile(r"[\w.]+: \S")
CONNECT_SECONDS = 90.0
SILENT_SECONDS = 12.0
"""Seconds of silence after which the bridge is taken to hang in Ray, its head gone; normally it writes every second."""


class RequestFailed(Exception):
    """An error response of the bridge."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


class BridgeClient:
    """The connection of one process to one cluster. Every method may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()  # guards writes to the pipe and all fields below
        self._pipe: Connection | None = None
        self._waiting: dict[int, Future[Any]] = {}
        self._plans: dict[str, DeploymentSpec] = {}
        self._states: dict[str, DeploymentState] = {}
        self._released: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._news = threading.Condition()
        self._connected = False
        self._lost = "it is being connected"
        self._begun = time.monotonic()
        threading.Thread(target=self._keep_up, name="cluster", daemon=True).start()

    @property
    def lost(self) -> str:
        """Return why the cluster cannot be reached; empty if it can."""
        return self._lost

    def state(self, key: str) -> DeploymentState | None:
        """Return the state of a deployment; None if it is unknown."""
        return self._states.get(key)

    def hold(self, plan: DeploymentSpec) -> None:
        """Claim a deployment from now on, across all losses of the cluster."""
        with self._lock:
            self._plans[plan.key] = plan
        self._send("hold", plan)

    def release(self, key: str) -> None:
        """Release the claim on a deployment.

        The garbage collector may call this at any point, so it only records the release.
        """
        self._released.put(key)

    def ask(self, verb: str, *arguments: Any) -> Any:
        """Send a request to the bridge and wait for its response.

        :raises RequestFailed: if the bridge responds with an error, or exits.
        """
        future: Future[Any] = Future()
        number = next(self._numbers)
        with self._lock:
            if self._pipe is None or not self._connected:
                raise RequestFailed("lost", self._lost or "it is being connected")
            self._waiting[number] = future
            try:
                self._pipe.send(Request(number, verb, arguments))
            except OSError:
                self._waiting.pop(number)
                raise RequestFailed("lost", "the connection to it has just ended") from None
        return future.result()

    def wait(self, key: str, seconds: float) -> DeploymentState | None:
        """Wait until a deployment answers or has failed, but no longer than ``seconds``; return its state."""
        deadline = time.monotonic() + seconds
        with self._news:
            while (left := deadline - time.monotonic()) > 0:
                state = self._states.get(key)
                if not self._lost and state and (state.running or state.status == "DEPLOY_FAILED"):
                    return state
                self._news.wait(min(left, 1.0))
        return self._states.get(key)

    def wait_connected(self, seconds: float) -> bool:
        """Wait until the cluster is connected, but no longer than ``seconds`` since the first attempt."""
        with self._news:
            while self._lost and (left := self._begun + seconds - time.monotonic()) > 0:
                self._news.wait(left)
        return not self._lost

    def _send(self, verb: str, *arguments: Any) -> None:
        with self._lock:
            if self._pipe is not None:
                with contextlib.suppress(OSError):  # the next bridge gets all claims
                    self._pipe.send(Request(0, verb, arguments))

    def _keep_up(self) -> None:
        backoff = Backoff(LONGEST_PAUSE)
        while True:
            backoff.attempt()
            with tempfile.TemporaryFile() as stderr:
                try:
                    reason = self._run(stderr)
                except Exception as error:  # no memory for a process, no address: the next try may do better
                    reason = str(error)
            self._note(reason)
            time.sleep(backoff.remaining())

    def _run(self, stderr: IO[bytes]) -> str:
        """Start a bridge, read its messages until it exits, and return why it exited."""
        node = read_node(self._settings)
        where = address(self._settings), node.node_ip if node else ""
        if node and not node.runs:
            return "this machine's Ray node does not run; it is started again by itself"
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "app.engines.ray.bridge", str(theirs.fileno())]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=ray_environ(self._settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        pipe = Connection(ours.detach())
        try:
            pipe.send(where)
            with self._lock:
                self._pipe = pipe
                for plan in self._plans.values():
                    pipe.send(Request(0, "hold", (plan,)))
            patience = CONNECT_SECONDS
            while pipe.poll(patience):
                self._receive(pipe.recv())
                patience = SILENT_SECONDS
        except (EOFError, OSError):
            pass
        finally:
            self._drop()
            pipe.close()
            process.kill()
            process.wait()
        stderr.seek(0)
        return _reason(reason_of(stderr.read(), None), where[0])

    def _receive(self, message: Response | ErrorResponse | StateUpdate) -> None:
        if isinstance(message, StateUpdate):
            with self._lock:
                self._states, self._connected = message.states, True
            self._release_finished()
            self._note(message.lost)
            return
        with self._lock:
            future = self._waiting.pop(message.number, None)
        if future is None:
            return
        if isinstance(message, Response):
            future.set_result(message.value)
        else:
            future.set_exception(RequestFailed(message.kind, message.reason))

    def _release_finished(self) -> None:
        while not self._released.empty():
            key = self._released.get()
            with self._lock:
                self._plans.pop(key, None)
            self._send("release", key)

    def _note(self, lost: str) -> None:
        with self._news:
            if bool(lost) != bool(self._lost):
                log.log(
                    logging.ERROR if lost else logging.INFO, "the cluster is %s", f"lost: {lost}" if lost else "there"
                )
            self._lost = lost
            self._news.notify_all()

    def _drop(self) -> None:
        """Fail all requests that wait for a bridge that is gone."""
        with self._lock:
            waiting, self._waiting, self._states = self._waiting, {}, {}
            self._pipe, self._connected = None, False
        for future in waiting.values():
            future.set_exception(RequestFailed("lost", "the connection to it was lost"))


def _reason(last: str, head: str) -> str:
    """Return why a bridge exited, from its last output: Python's, or Ray's much longer one if the head is gone."""
    if ERROR.match(last) and not last.startswith("ConnectionError"):
        return last[:300]
    return f"its head {head} does not answer"


_links: dict[str, BridgeClient] = {}
_making = threading.Lock()


def bridge_client(settings: Settings) -> BridgeClient:
    """Return this process's only client for the settings' cluster."""
    where = f"{settings.cluster} {settings.instance_dir}"
    with _making:
        if where not in _links:
            _links[where] = BridgeClient(settings)
        return _links[where]
