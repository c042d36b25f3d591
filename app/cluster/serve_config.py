"""A config file of Ray Serve's out of what is registered, for who runs Ray by other means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.cluster.contents import digest_of
from app.cluster.here import store
from app.cluster.installed import require_ray
from app.cluster.plan import DECLARED, DEPLOYMENT, Plan, Scale, options_of
from app.cluster.store import publish
from app.settings import Settings

HEADER = """\
# Models for Ray Serve: serve deploy serve.yaml, or as serveConfigV2 of a RayService.
# Every node needs this program on its PYTHONPATH, with what requirements-ray.txt names.
"""


def config_of(models: Sequence[tuple[str, Path, Scale]], settings: Settings) -> str:
    """Put the models into the store, and describe their deployments.

    :param models: each one's name, folder and numbers.
    :returns: YAML.
    :raises ClusterError: where Ray is missing, or the store does not take a model.
    :raises ModelFormatError: where a folder cannot be read.
    """
    require_ray()
    import yaml

    where, engine = store(settings), "auto" if settings.engine == "ray" else settings.engine
    plans = [Plan(name, digest_of(folder), where, engine, scale) for name, folder, scale in models]
    for plan, (_, folder, _) in zip(plans, models, strict=True):
        publish(folder, plan.digest, where)
    document = {"proxy_location": "Disabled", "applications": [application_of(plan) for plan in plans]}
    return HEADER + str(yaml.safe_dump(document, sort_keys=False))


def application_of(plan: Plan) -> dict[str, Any]:
    """One application of the file. Fronts know it by its name, and deploy nothing of their own in its place."""
    return {
        "name": DECLARED + plan.key,
        "route_prefix": None,
        "import_path": "app.cluster.replica:build",
        "args": {"name": plan.name, "digest": plan.digest, "store": plan.store, "engine": plan.engine},
        "deployments": [{"name": DEPLOYMENT, **options_of(plan.scale)}],
    }
