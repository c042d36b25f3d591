"""The config file that ``serve deploy`` reads: one application for each model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.engines.ray.artifact_store import publish
from app.engines.ray.client import HTTP_PORT, proxies_of
from app.formats.folder import digest_of
from app.settings import Settings

DEPLOYMENT = "model"  # the only one of an application
HEADER = """\
# Models for Ray Serve: serve deploy serve.yaml, or as serveConfigV2 of a RayService.
# Every node needs Dimple on its PYTHONPATH, with the packages of requirements-ray.txt.
"""


def application_name(name: str, digest: str) -> str:
    """Return the name of the application for a model's content, which is also its route."""
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', name)}-{digest[:16]}"


def config_of(models: Sequence[tuple[str, Path, dict[str, Any]]], settings: Settings) -> str:
    """Upload the models to the store, and return a config file with their applications.

    :param models: name, folder and :func:`options_of` each model.
    :returns: YAML.
    :raises ClusterError: if the store rejects a model, or the setting of the cluster is invalid.
    :raises ModelFormatError: if a folder cannot be read.
    """
    import yaml

    where = settings.cluster_store or str(settings.instance_dir / "cluster" / "store")
    engine = "auto" if settings.engine == "ray" else settings.engine
    applications = {}
    for name, folder, options in models:
        digest = digest_of(folder)
        publish(folder, digest, where)
        application = application_name(name, digest)
        applications[application] = {
            "name": application,
            "route_prefix": f"/{application}",
            "import_path": "app.engines.ray.replica:build",
            "args": {"name": name, "digest": digest, "store": where, "engine": engine},
            "deployments": [{"name": DEPLOYMENT, **options}],
        }
    port = int((proxies_of(settings) or (f":{HTTP_PORT}",))[0].rpartition(":")[2])
    document = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": port},
        "applications": list(applications.values()),
    }
    return HEADER + str(yaml.safe_dump(document, sort_keys=False))


def ongoing(batch_size: int) -> int:
    """Return how many requests a replica gets at once: the next batch may arrive while one is computed."""
    return 2 * max(1, batch_size)


def options_of(
    min_workers: int, max_workers: int, batch_size: int = 1, max_batch_delay: int = 0, queue_size: int = 100
) -> dict[str, Any]:
    """Return the options of a deployment, all of which ``serve deploy`` changes without a restart of its replicas.

    A model with 0 workers keeps one replica, which gets no requests.

    :param max_batch_delay: milliseconds.
    :param queue_size: number of requests that may wait at each proxy.
    """
    least = max(1, min_workers)
    most = max(least, max_workers)
    options: dict[str, Any] = {
        "max_ongoing_requests": ongoing(batch_size),
        "max_queued_requests": max(1, queue_size),
        "user_config": {"batch_size": max(1, batch_size), "max_batch_delay": max(0, max_batch_delay)},
    }
    if least == most:
        return options | {"num_replicas": least}
    autoscaling = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": max(1, batch_size)}
    return options | {"autoscaling_config": autoscaling | {"upscale_delay_s": 2, "downscale_delay_s": 30}}
