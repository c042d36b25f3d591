"""Deployments: their specification, the claims on them, and the messages between a server process and its bridge."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

DEPLOYMENT = "model"
"""Name of the single deployment of every application."""
MANAGED_PREFIX, DECLARED_PREFIX = "dimple-", "declared-"
"""Prefixes of the names of applications: those that the deployer manages, and those of a config file."""


@dataclass(frozen=True)
class Scale:
    """Number of replicas and batching of a deployment, in the terms of a registration.

    ``max_batch_delay`` is in milliseconds. ``waiting`` is how many requests may wait in each server process. ``told``
    is when a user set these values (seconds since 1970), 0 if nobody did; the latest values of all servers apply.
    """

    min_workers: int = 1
    max_workers: int = 1
    batch_size: int = 1
    max_batch_delay: int = 0
    waiting: int = 100
    told: float = 0.0

    @property
    def ongoing(self) -> int:
        """Number of requests that a replica gets at once: the next batch may arrive while one is computed."""
        return 2 * max(1, self.batch_size)


@dataclass(frozen=True)
class DeploymentSpec:
    """The specification of one model's deployment.

    ``digest`` names the content of its folder, ``store`` is where a node fetches it, ``engine`` is the engine on the
    node (``auto``, ``openvino``, ``mxnet`` or ``keras``).
    """

    name: str
    digest: str
    store: str
    engine: str
    scale: Scale = Scale()

    @property
    def key(self) -> str:
        """Return a key that differs for other models, and for other contents and engines of the same model."""
        return f"{self.name}-{self.engine}-{self.digest[:16]}"


@dataclass(frozen=True)
class DeploymentState:
    """The state of a deployment: its ``status``, the number of replicas that answer, and its error.

    ``status`` is Ray Serve's (``DEPLOYING``, ``RUNNING``, ``UNHEALTHY``, ``DEPLOY_FAILED`` …). ``app`` is the
    application's name.
    """

    app: str
    status: str
    running: int = 0
    message: str = ""


def options_of(scale: Scale) -> dict[str, Any]:
    """Return the options of a deployment that can be changed while it serves.

    No replica is started for less than one worker: such a model answers no request, and the server reports that.
    """
    least = max(1, scale.min_workers)
    most = max(least, scale.max_workers)
    options: dict[str, Any] = {
        "max_ongoing_requests": scale.ongoing,
        "max_queued_requests": max(1, scale.waiting),
        "user_config": {"batch_size": max(1, scale.batch_size), "max_batch_delay": max(0, scale.max_batch_delay)},
    }
    if least == most:
        return options | {"num_replicas": least}
    autoscaling = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": max(1, scale.ongoing // 2)}
    autoscaling |= {"upscale_delay_s": 2, "downscale_delay_s": 30}
    return options | {"autoscaling_config": autoscaling}


COMMON_OPTIONS: dict[str, Any] = {
    "ray_actor_options": {"num_cpus": 1},
    "health_check_period_s": 2,
    "health_check_timeout_s": 10,
    "graceful_shutdown_wait_loop_s": 0.5,
    "graceful_shutdown_timeout_s": 20,
    "max_constructor_retry_count": 2,
}
"""Options that all deployments share. A replica counts as one core, as a worker does."""


Kind = Literal["full", "late", "lost", "none", "wrong"]
"""Reasons of error responses.

``full``: the queue is full. ``late``: the timeout has passed. ``lost``: the replica was lost, and so was the next one.
``none``: there is no replica. ``wrong``: the model itself raised an error.
"""


@dataclass(frozen=True)
class Request:
    """A request to the bridge. If ``number`` is 0, the caller does not wait for a response."""

    number: int
    verb: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Response:
    """A response of the bridge."""

    number: int
    value: Any


@dataclass(frozen=True)
class ErrorResponse:
    """A response with an error."""

    number: int
    kind: Kind
    reason: str


@dataclass(frozen=True)
class StateUpdate:
    """The states of all deployments that this server claims.

    If ``lost`` is not empty, it is the reason why the deployer is silent.
    """

    states: dict[str, DeploymentState]
    lost: str = ""


FORGET_SECONDS = 30.0
"""Seconds of silence after which the claims of a server expire."""


@dataclass(frozen=True)
class _Lease:
    plan: DeploymentSpec
    heard: float


class Leases:
    """The claims of the servers. A server renews its claims every second. Any thread may call the methods.

    A deployment stays when its servers fall silent, because they may come back. It is removed when the last server
    releases it, or when servers claim other content of the same model and none claims this content.
    """

    def __init__(self, now: float) -> None:
        self._lock = threading.Lock()
        self._claims: dict[str, dict[str, _Lease]] = {}
        self._given_back: set[str] = set()
        self._begun = now

    def renew(self, front: str, plans: Iterable[DeploymentSpec], now: float) -> None:
        """Record the claims of a server."""
        with self._lock:
            for plan in plans:
                self._claims.setdefault(plan.key, {})[front] = _Lease(plan, now)
                self._given_back.discard(plan.key)

    def release(self, front: str, key: str) -> None:
        """Record that a server releases a deployment."""
        with self._lock:
            claims = self._claims.get(key, {})
            claims.pop(front, None)
            if not claims:
                self._given_back.add(key)

    def required(self) -> list[DeploymentSpec]:
        """Return the claimed deployments.

        If several servers claim the same deployment, the latest scale applies; of several equally late ones, the
        larger.
        """
        with self._lock:
            claimed = [list(claims.values()) for claims in self._claims.values() if claims]
        return [max((claim.plan for claim in claims), key=_order) for claims in claimed]

    def superfluous(self, deployed: Iterable[str], now: float) -> list[str]:
        """Return the keys of the deployments that may be removed."""
        with self._lock:
            heard = {_name(key) for key in self._claims if self._is_heard(key, now)}
            silent = [key for key in deployed if not self._is_heard(key, now)]
            going = [
                key
                for key in silent
                if (key in self._given_back and not self._claims.get(key))
                or (_name(key) in heard and now - self._begun > FORGET_SECONDS)
            ]
            for key in going:
                self._claims.pop(key, None)
        return going

    def _is_heard(self, key: str, now: float) -> bool:
        return any(now - item.heard <= FORGET_SECONDS for item in self._claims.get(key, {}).values())


def _order(plan: DeploymentSpec) -> tuple[float, int, int]:
    return plan.scale.told, plan.scale.max_workers, plan.scale.min_workers


def _name(key: str) -> str:
    return key.rsplit("-", 2)[0]
