"""The only deployer of a cluster: an actor on the head that receives the claims of all servers."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import ray
from ray import serve

from app.engines.ray.node_config import NAMESPACE
from app.engines.ray.replica import application
from app.engines.ray.spec import (
    DECLARED_PREFIX,
    DEPLOYMENT,
    MANAGED_PREFIX,
    DeploymentSpec,
    DeploymentState,
    Leases,
    Scale,
    options_of,
)

log = logging.getLogger(__name__)

NAME = "registrar"
TICK_SECONDS = 0.5
RETRY_SECONDS = 30.0
"""Seconds after which a failed deployment is retried."""
CALLS = 64


class Deployer:
    """An actor that keeps the deployments in line with the claims of the servers."""

    def __init__(self) -> None:
        serve.start(proxy_location="Disabled")
        self._claims = Leases(time.monotonic())
        self._applied: dict[str, Scale] = {}
        self._failed: dict[str, float] = {}
        self._states: dict[str, DeploymentState] = {}
        threading.Thread(target=self._work, name="registrar", daemon=True).start()

    def renew(self, front: str, plans: list[DeploymentSpec]) -> dict[str, DeploymentState]:
        """Renew the claims of a server process.

        :returns: the states of their deployments by key; deployments that have not been started yet are missing.
        """
        self._claims.renew(front, plans, time.monotonic())
        states = self._states
        return {plan.key: states[plan.key] for plan in plans if plan.key in states}

    def release(self, front: str, key: str) -> None:
        """Release a claim."""
        self._claims.release(front, key)

    def _work(self) -> None:
        while True:
            try:
                self._bring_in_line()
            except Exception:  # the controller restarts, a node is lost: the next round may do better
                log.exception("the deployments cannot be looked after")
            time.sleep(TICK_SECONDS)

    def _bring_in_line(self) -> None:
        applications: dict[str, Any] = serve.status().applications
        self._states = {_key(app): state_of(app, application) for app, application in applications.items()}
        for plan in self._claims.required():
            if DECLARED_PREFIX + plan.key not in applications:
                self._deploy(plan, applications.get(MANAGED_PREFIX + plan.key))
        own = [_key(app) for app in applications if app.startswith(MANAGED_PREFIX)]
        for key in self._claims.superfluous(own, time.monotonic()):
            log.info("%s goes", key)
            serve.delete(MANAGED_PREFIX + key, _blocking=False)
            self._applied.pop(key, None)

    def _deploy(self, plan: DeploymentSpec, current: Any) -> None:
        """Deploy a missing application, or change the scale of an existing one."""
        key, now = plan.key, time.monotonic()
        if current is not None and current.status == "DEPLOY_FAILED":
            if now - self._failed.setdefault(key, now) > RETRY_SECONDS:
                del self._failed[key]
                serve.delete(MANAGED_PREFIX + key, _blocking=False)
            return
        if current is not None and (current.status == "DELETING" or self._applied.get(key) == plan.scale):
            return
        log.info("%s is deployed with %s", key, plan.scale)
        target = serve.RunTarget(
            application(plan, **options_of(plan.scale)), name=MANAGED_PREFIX + key, route_prefix=None
        )
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
        self._applied[key] = plan.scale


def deployer_actor() -> Any:
    """Return the cluster's actor, creating it if it is missing. It lives on the head, and ends with it."""
    actor = ray.remote(Deployer).options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_concurrency=CALLS,
        max_restarts=-1,
        num_cpus=0,
        resources={"node:__internal_head__": 0.001},
    )
    return actor.remote()


def _key(app: str) -> str:
    return app.removeprefix(MANAGED_PREFIX).removeprefix(DECLARED_PREFIX)


def state_of(app: str, application: Any) -> DeploymentState:
    """Return a deployment's state from Ray Serve's status of its application."""
    deployment = application.deployments.get(DEPLOYMENT)
    running = int(deployment.replica_states.get("RUNNING", 0)) if deployment else 0
    messages = [application.message, deployment.message if deployment else ""]
    return DeploymentState(
        app, str(application.status.value), running, "\n".join(message for message in messages if message)
    )
