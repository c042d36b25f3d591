"""Cluster configuration of this machine: the head's address, its own Ray node, the token."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from app.errors import ClusterError
from app.settings import ROOT, Settings
from app.utils.files import atomic_write

NAMESPACE = "dimple"
NODE, TOKEN, LOG, MODELS = "node.json", "token", "node.log", "models"
"""Names in the folder ``instance/cluster``."""
QUICK = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
}
"""Settings that detect a lost node within 5 seconds instead of 30; requests sent to that node wait as long."""


@dataclass(frozen=True)
class Node:
    """The Ray node of this machine: the head's address, its own, the folder of Ray's sockets, and whether it runs.

    A node that was lost is restarted.
    """

    address: str
    node_ip: str
    temporary: str
    runs: bool = False

    def write(self, path: Path) -> None:
        """Write the node's description to a file."""
        atomic_write(path, json.dumps(asdict(self)))


def cluster_folder(settings: Settings) -> Path:
    """Return the folder of the cluster's files."""
    return settings.instance_dir / "cluster"


def read_node(settings: Settings) -> Node | None:
    """Return the Ray node that ``dimple cluster up`` or ``join`` started on this machine; None if there is none."""
    try:
        return Node(**json.loads((cluster_folder(settings) / NODE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def address(settings: Settings) -> str:
    """Return the head's address.

    :raises ClusterError: if neither a setting nor a node of this machine provides it.
    """
    node = read_node(settings)
    if configured := settings.cluster or (node.address if node else ""):
        return configured
    raise ClusterError(
        "No cluster is known here: set DIMPLE_CLUSTER to the address of its head, or start one with dimple cluster up"
    )


def store(settings: Settings) -> str:
    """Return the store of models; without a setting, a folder of this machine, which suffices for one machine."""
    return settings.cluster_store or str(cluster_folder(settings) / "store")


def ray_environ(settings: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of every process that talks to Ray.

    It has the token, and settings that stop Ray from sending or writing data elsewhere. Variables that are already set
    are unchanged. Ray's processes import this program's packages from the same place as this process.
    """
    token, node = cluster_folder(settings) / TOKEN, read_node(settings)
    defaults = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "1", **QUICK}
    if token.is_file():
        defaults |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    if node:
        defaults["RAY_TMPDIR"] = node.temporary
    paths = [str(ROOT), *(part for part in environ.get("PYTHONPATH", "").split(os.pathsep) if part)]
    return {**defaults, **environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


MISSING = "The cluster needs Ray: python -m pip install -r requirements-ray.txt"


def require_ray() -> None:
    """Raise an error if Ray is not installed.

    :raises ClusterError: with the command that installs Ray.
    """
    if find_spec("ray") is None:
        raise ClusterError(MISSING)


def check_cluster(settings: Settings) -> None:
    """Check at startup that a server with a configured cluster can use one.

    :raises ClusterError: if Ray is not installed.
    """
    if settings.cluster or settings.engine == "ray":
        require_ray()


def on_cluster(name: str, settings: Settings, even_without_cluster: bool = False) -> bool:
    """Return whether a model is computed on the cluster.

    :param even_without_cluster: whether to answer as if the server had a cluster, which it may not yet have.
    """
    names = settings.cluster_models.strip()
    if not (settings.cluster or settings.engine == "ray" or even_without_cluster) or names.upper() == "NONE":
        return False
    return names.upper() == "ALL" or name in {part.strip() for part in names.split(",")}
