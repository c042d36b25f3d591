"""The one place of a cluster that deploys: an actor beside the head, which all fronts tell what they need."""

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
"""After so long what could not be deployed is tried again."""
CALLS = 64


class Deployer:
    """Brings what is deployed in line with what the fronts need."""

    def __init__(self) -> None:
        serve.start(proxy_location="Disabled")
        self._claims = Leases(time.monotonic())
        self._applied: dict[str, Scale] = {}
        self._failed: dict[str, float] = {}
        self._states: dict[str, DeploymentState] = {}
        threading.Thread(target=self._work, name="registrar", daemon=True).start()

    def renew(self, front: str, plans: list[DeploymentSpec]) -> dict[str, DeploymentState]:
        """Take a front's claims for another while.

        :returns: how their deployments are, by their keys; those that are not begun yet are missing.
        """
        self._claims.renew(front, plans, time.monotonic())
        states = self._states
        return {plan.key: states[plan.key] for plan in plans if plan.key in states}

    def release(self, front: str, key: str) -> None:
        """Take back a claim."""
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
        """Deploy what is missing, and change what is to have other numbers."""
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
    """Return the cluster's actor, which is made where it is missing. It lives on the head, and goes with it."""
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
    """Return what Ray Serve's status of an application comes to."""
    deployment = application.deployments.get(DEPLOYMENT)
    running = int(deployment.replica_states.get("RUNNING", 0)) if deployment else 0
    messages = [application.message, deployment.message if deployment else ""]
    return DeploymentState(
        app, str(application.status.value), running, "\n".join(message for message in messages if message)
    )
