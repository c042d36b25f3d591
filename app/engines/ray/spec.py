"""Deployments: their specification, who needs them, and the messages of a server process to its bridge."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

DEPLOYMENT = "model"
"""What the one deployment of every application is called."""
MANAGED_PREFIX, DECLARED_PREFIX = "dimple-", "declared-"
"""How the applications are called that the registrar deploys, and those of a config file."""


@dataclass(frozen=True)
class Scale:
    """How many replicas there are to be, and how requests are put together, in the words of a registration.

    ``max_batch_delay`` is in milliseconds. ``waiting`` is how many requests may wait in each server process. ``told``
    is when somebody asked for it (seconds since 1970), 0 for nobody: of what several fronts want, the latest counts.
    """

    min_workers: int = 1
    max_workers: int = 1
    batch_size: int = 1
    max_batch_delay: int = 0
    waiting: int = 100
    told: float = 0.0

    @property
    def ongoing(self) -> int:
        """Requests that a replica is sent at once: while one batch is computed, the next may come."""
        return 2 * max(1, self.batch_size)


@dataclass(frozen=True)
class DeploymentSpec:
    """One model as it is to be deployed.

    ``digest`` names the content of its folder, ``store`` is where a node finds that, ``engine`` what computes there
    (``auto``, ``openvino``, ``mxnet`` or ``keras``).
    """

    name: str
    digest: str
    store: str
    engine: str
    scale: Scale = Scale()

    @property
    def key(self) -> str:
        """Return what tells it from other models, and from other contents and engines of the same."""
        return f"{self.name}-{self.engine}-{self.digest[:16]}"


@dataclass(frozen=True)
class DeploymentState:
    """How a deployment is: ``status`` in Ray Serve's words (``DEPLOYING``, ``RUNNING``, ``UNHEALTHY``,
    ``DEPLOY_FAILED`` …), how many replicas answer, and what went wrong. ``app`` is the application's name."""

    app: str
    status: str
    running: int = 0
    message: str = ""


def options_of(scale: Scale) -> dict[str, Any]:
    """Return the options of a deployment that can be changed while it answers.

    No replica is started for less than one worker: such a model answers nobody, and the front says so.
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
"""The options that all deployments share. A replica counts as one core, as a worker does."""


Kind = Literal["full", "late", "lost", "none", "wrong"]
"""Why there is no answer: the queue is full; time is over; the replica was lost, and the next one, too; there is no
replica; the model itself says so."""


@dataclass(frozen=True)
class Request:
    """Something to do. Where ``number`` is 0, nobody waits for an answer."""

    number: int
    verb: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Response:
    """An answer."""

    number: int
    value: Any


@dataclass(frozen=True)
class ErrorResponse:
    """What is said in its place."""

    number: int
    kind: Kind
    reason: str


@dataclass(frozen=True)
class StateUpdate:
    """What the registrar says of all that this front needs; or, where ``lost`` is not empty, that it says nothing."""

    states: dict[str, DeploymentState]
    lost: str = ""


FORGET_SECONDS = 30.0
"""A front that was not heard of for so long has no say any more."""


@dataclass(frozen=True)
class _Lease:
    plan: DeploymentSpec
    heard: float


class Leases:
    """What the fronts want. A front repeats its claims every second. Any thread may call.

    A deployment stays when its fronts fall silent: they may be on their way back. It goes when the last one gives it
    back, or when fronts have another content of the same model and nobody has this one.
    """

    def __init__(self, now: float) -> None:
        self._lock = threading.Lock()
        self._claims: dict[str, dict[str, _Lease]] = {}
        self._given_back: set[str] = set()
        self._begun = now

    def renew(self, front: str, plans: Iterable[DeploymentSpec], now: float) -> None:
        """Note what a front needs."""
        with self._lock:
            for plan in plans:
                self._claims.setdefault(plan.key, {})[front] = _Lease(plan, now)
                self._given_back.discard(plan.key)

    def release(self, front: str, key: str) -> None:
        """Note that a front needs a deployment no longer."""
        with self._lock:
            claims = self._claims.get(key, {})
            claims.pop(front, None)
            if not claims:
                self._given_back.add(key)

    def required(self) -> list[DeploymentSpec]:
        """Return what is to be deployed. Of what several want of the same deployment, that counts which was told last;
        where that is said of several, the larger number."""
        with self._lock:
            claimed = [list(claims.values()) for claims in self._claims.values() if claims]
        return [max((claim.plan for claim in claims), key=_order) for claims in claimed]

    def superfluous(self, deployed: Iterable[str], now: float) -> list[str]:
        """Return the keys of those deployments that may go."""
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
