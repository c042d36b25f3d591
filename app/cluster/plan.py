"""What a deployment is told, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DEPLOYMENT = "model"
"""What the one deployment of every application is called."""
OWN, DECLARED = "dimple-", "declared-"
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
class Plan:
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
        """What tells it from other models, and from other contents and engines of the same."""
        return f"{self.name}-{self.engine}-{self.digest[:16]}"


@dataclass(frozen=True)
class State:
    """How a deployment is: ``status`` in Ray Serve's words (``DEPLOYING``, ``RUNNING``, ``UNHEALTHY``,
    ``DEPLOY_FAILED`` …), how many replicas answer, and what went wrong. ``app`` is the application's name."""

    app: str
    status: str
    running: int = 0
    message: str = ""


def options_of(scale: Scale) -> dict[str, Any]:
    """The options of a deployment that can be changed while it answers.

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


FIXED: dict[str, Any] = {
    "ray_actor_options": {"num_cpus": 1},
    "health_check_period_s": 2,
    "health_check_timeout_s": 10,
    "graceful_shutdown_wait_loop_s": 0.5,
    "graceful_shutdown_timeout_s": 20,
    "max_constructor_retry_count": 2,
}
"""The options that all deployments share. A replica counts as one core, as a worker does."""
