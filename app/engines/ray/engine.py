"""The engine ``ray``, which sends batches to the model's deployment."""

from __future__ import annotations

import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.engines.base import LoadedEngine, check_batch
from app.engines.ray.artifact_store import digest_of, publish
from app.engines.ray.client import BridgeClient, RequestFailed, bridge_client
from app.engines.ray.node_config import require_ray, store
from app.engines.ray.spec import DeploymentSpec, DeploymentState, Scale
from app.errors import ClusterError, ClusterUnavailable, ModelFormatError, NoReplica, QueueFull, QueueTimeout
from app.settings import Settings
from app.types import FloatArray

CONNECT_SECONDS = 20.0
DEPLOY_SECONDS = 600.0
"""Timeout of a deployment in seconds; a node may have to convert the model first."""
LOG_TAIL_LINES = 3


class RayEngine:
    """A model that is computed on the cluster. Its claim there ends with the object or with :meth:`close`."""

    def __init__(self, link: BridgeClient, plan: DeploymentSpec, row_shape: tuple[int, ...], seconds: float) -> None:
        """Take over a claim that the caller has made on the deployment.

        :param seconds: timeout of a prediction, everything included.
        """
        self._link = link
        self._plan = plan
        self._row_shape = row_shape
        self._seconds = seconds
        self._release = weakref.finalize(self, link.release, plan.key)
        self._release.atexit = False  # a server that exits will be back

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch, from any thread at any time.

        :param batch: float32, (N, …) in the layout of the network's input, N at least 1.
        :returns: float32, (N, classes), the network's unchanged output.
        :raises ValueError: if the batch has another shape.
        :raises NoReplica: if there is no replica, or two were lost during the call.
        :raises ClusterUnavailable: if the cluster cannot be reached.
        :raises QueueFull: if the queue is full.
        :raises QueueTimeout: if there is no response in time.
        :raises ModelFormatError: if the network cannot be computed.
        """
        check_batch(batch, self._row_shape)
        name, state = self._plan.name, self._link.state(self._plan.key)
        if state is not None and not state.running:
            raise NoReplica(name)
        try:
            rows = np.ascontiguousarray(batch, np.float32)
            return self._link.ask("predict", self._plan.key, rows, self._seconds)  # type: ignore[no-any-return]
        except RequestFailed as why:
            raise _as_error(name, why) from None

    def unavailable_reason(self) -> str:
        """Return why the cluster does not compute the model at this moment; empty if it does."""
        if lost := self._link.lost:
            return lost
        state = self._link.state(self._plan.key)
        return "" if state and state.running else f"no replica of the model {self._plan.name} is ready"

    def rescale(self, least: int, most: int) -> None:
        """Request another number of replicas, for all servers."""
        scale = replace(self._plan.scale, min_workers=least, max_workers=most, told=time.time())
        self._plan = replace(self._plan, scale=scale)
        self._link.hold(self._plan)

    def close(self) -> None:
        """Release the deployment, which is removed once no other server claims it."""
        self._release()


def open_on_cluster(folder: Path, name: str, scale: Scale, seconds: float, settings: Settings) -> LoadedEngine:
    """Deploy a model folder on the cluster, and wait until it answers.

    :param scale: the number of replicas and the sizes of batches.
    :param seconds: timeout of a prediction.
    :raises ClusterUnavailable: if the cluster cannot be reached now.
    :raises ModelFormatError: if the nodes cannot load the model.
    :raises ClusterError: if Ray is not installed, or the store rejects the model.
    """
    require_ray()
    link = bridge_client(settings)
    where, digest = store(settings), digest_of(folder)
    plan = DeploymentSpec(name, digest, where, "auto" if settings.engine == "ray" else settings.engine, scale)
    if not link.wait_connected(CONNECT_SECONDS):
        raise ClusterUnavailable(name, link.lost)
    try:
        publish(folder, digest, where)
    except ClusterError as error:
        raise ClusterUnavailable(name, str(error)) from None
    link.hold(plan)
    try:
        return _wait_ready(link, plan, link.wait(plan.key, DEPLOY_SECONDS), seconds)
    except BaseException:
        link.release(plan.key)
        raise


def _wait_ready(
    link: BridgeClient, plan: DeploymentSpec, state: DeploymentState | None, seconds: float
) -> LoadedEngine:
    if state is not None and state.status == "DEPLOY_FAILED":
        raise ModelFormatError(f"the cluster cannot load {plan.name}: {_last_error(state.message)}")
    if state is None or not state.running:
        reason = f"{state.status}. {_last_error(state.message)}" if state else link.lost or "nothing is known of it"
        raise ClusterUnavailable(plan.name, f"no replica was ready within {DEPLOY_SECONDS:.0f} s: {reason}")
    try:
        digest, opened = link.ask("describe", plan.key)
    except RequestFailed as why:
        raise _as_error(plan.name, why) from None
    if digest != plan.digest:
        raise ModelFormatError(f"the cluster serves another content as {state.app}: {digest[:16]}, not {plan.key}")
    engine = RayEngine(link, plan, tuple(opened.signature.inputs[0].shape[1:]), seconds)
    return replace(opened, engine=engine, kind="ray")  # type: ignore[no-any-return]


def _as_error(name: str, why: RequestFailed) -> Exception:
    if why.kind == "full":
        return QueueFull(name)
    if why.kind == "late":
        return QueueTimeout(name)
    if why.kind == "none":
        return NoReplica(name)
    if why.kind == "wrong":
        return ModelFormatError(why.reason)
    return ClusterUnavailable(name, why.reason)


def _last_error(message: str) -> str:
    """Return the end of Ray Serve's message, which contains the reason."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line.partition(": ")[2] for line in lines if line.startswith("app.errors.")]
    return errors[-1] if errors else " ".join(lines[-LOG_TAIL_LINES:])[:500]
