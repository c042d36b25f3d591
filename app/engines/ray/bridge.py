"""The child of a server process that talks to Ray: ``python -m app.engines.ray.bridge FD``.

It reads requests from a pipe (:mod:`app.engines.ray.spec`) and exits when the pipe is closed, or when Ray kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from app.engines.ray.deployer import deployer_actor
from app.engines.ray.node_config import NAMESPACE
from app.engines.ray.spec import (
    DEPLOYMENT,
    DeploymentSpec,
    DeploymentState,
    ErrorResponse,
    Kind,
    Request,
    Response,
    StateUpdate,
)
from app.types import FloatArray

BEAT_SECONDS = 1.0
BEAT_PATIENCE = 3.0
GIVE_UP_SECONDS = 12.0
"""Seconds without a response from the head after which this process exits and the next one tries again."""


class _RequestError(Exception):
    def __init__(self, kind: Kind, reason: str = "") -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


class Bridge:
    """The requests of one server process, handled in one event loop."""

    def __init__(self, pipe: Connection, actor: Any) -> None:
        self._pipe = pipe
        self._registrar = actor
        self._front = f"{os.uname().nodename}-{os.getppid()}-{time.time_ns()}"
        self._plans: dict[str, DeploymentSpec] = {}
        self._states: dict[str, DeploymentState] = {}
        self._handles: dict[str, Any] = {}
        self._running: dict[str, set[asyncio.Task[Any]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Handle requests until the pipe or the head is gone."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), daemon=True).start()
        heard_at = time.monotonic()
        while time.monotonic() - heard_at < GIVE_UP_SECONDS:
            plans = list(self._plans.values())
            try:
                states = await asyncio.wait_for(_of(self._registrar.renew.remote(self._front, plans)), BEAT_PATIENCE)
                heard_at = time.monotonic()
                self._take(states)
                self._pipe.send(StateUpdate(states))
            except (TimeoutError, RayError) as error:
                self._pipe.send(StateUpdate(self._states, f"its head does not answer ({type(error).__name__})"))
            self._wake.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), BEAT_SECONDS)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                loop.call_soon_threadsafe(self._begin, self._pipe.recv())
        except (EOFError, OSError):
            os._exit(0)

    def _begin(self, request: Request) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request) -> None:
        try:
            value = await getattr(self, "do_" + request.verb)(*request.arguments)
        except _RequestError as refusal:
            self._send(request.number, ErrorResponse(request.number, refusal.kind, refusal.reason))
        except Exception as error:  # Ray may raise anything, and every caller must get a response
            self._send(request.number, ErrorResponse(request.number, "lost", f"{type(error).__name__}: {error}"[:500]))
        else:
            self._send(request.number, Response(request.number, value))

    def _send(self, number: int, response: Response | ErrorResponse) -> None:
        if number:
            self._pipe.send(response)

    async def do_hold(self, plan: DeploymentSpec) -> None:
        """Claim a deployment from now on, with this scale."""
        self._plans[plan.key] = plan
        self._wake.set()

    async def do_release(self, key: str) -> None:
        """Release the claim on a deployment."""
        self._plans.pop(key, None)
        self._handles.pop(key, None)
        await _of(self._registrar.release.remote(self._front, key))

    async def do_describe(self, key: str) -> Any:
        """Return a replica's description of the model."""
        return await self._ask(key, "describe", (), 60.0)

    async def do_predict(self, key: str, batch: FloatArray, seconds: float) -> FloatArray:
        """Compute a batch, retrying on another replica if one is lost."""
        answer: FloatArray = await self._ask(key, "predict", (batch,), seconds)
        return answer

    async def _ask(self, key: str, method: str, arguments: tuple[Any, ...], seconds: float) -> Any:
        """Call a deployment, and retry once if the replica is lost; calls are idempotent."""
        deadline = time.monotonic() + seconds
        for last in (False, True):
            try:
                return await self._once(key, method, arguments, deadline - time.monotonic())
            except _RequestError as refusal:
                if last or refusal.kind != "lost" or time.monotonic() >= deadline:
                    raise
        raise AssertionError("the second try returns or raises")

    async def _once(self, key: str, method: str, arguments: tuple[Any, ...], seconds: float) -> Any:
        if key not in self._states or not self._states[key].running:
            raise _RequestError("none")
        task = asyncio.ensure_future(_of(getattr(self._handle(key), method).remote(*arguments)))
        mine = self._running.setdefault(key, set())
        mine.add(task)
        try:
            return await asyncio.wait_for(task, seconds)
        except TimeoutError:
            raise _RequestError("late") from None
        except BackPressureError:
            raise _RequestError("full") from None
        except RayTaskError as error:
            raise _RequestError("wrong", str(error.cause)) from None
        except (RayError, RayServeException) as error:
            raise _RequestError("lost", f"{type(error).__name__}") from None
        except asyncio.CancelledError:
            raise _RequestError("none") from None
        finally:
            mine.discard(task)

    def _handle(self, key: str) -> Any:
        if key not in self._handles:
            self._handles[key] = serve.get_deployment_handle(DEPLOYMENT, self._states[key].app)
        return self._handles[key]

    def _take(self, states: dict[str, DeploymentState]) -> None:
        """Fail the requests that wait for a deployment without replicas."""
        self._states = states
        for key, state in states.items():
            if not state.running:
                for task in tuple(self._running.get(key, ())):
                    task.cancel()


async def _of(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def main() -> None:
    """Connect to the cluster and handle requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then closes the pipe
    pipe = Connection(int(sys.argv[1]))
    address, node_ip = pipe.recv()
    logging.disable(logging.WARNING)  # a slow replica is not worth a log line
    options = {"_node_ip_address": node_ip} if node_ip else {}
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="error", **options)
    actor = deployer_actor()

    async def run() -> None:
        await Bridge(pipe, actor).run()

    asyncio.run(run())


if __name__ == "__main__":
    main()
    os._exit(1)  # a normal exit would make Ray wait for a head that is gone
