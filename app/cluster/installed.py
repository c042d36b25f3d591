"""Whether Ray is here, found out without importing it."""

from __future__ import annotations

from importlib.util import find_spec

from app.errors import ClusterError
from app.settings import Settings

MISSING = "The cluster needs Ray: python -m pip install -r requirements-ray.txt"


def require_ray() -> None:
    """:raises ClusterError: with the command that installs Ray, where it is missing."""
    if find_spec("ray") is None:
        raise ClusterError(MISSING)


def check_cluster(settings: Settings) -> None:
    """See at the start that a server which is told of a cluster can use one.

    :raises ClusterError: where Ray is missing.
    """
    if settings.cluster or settings.engine == "ray":
        require_ray()


def on_cluster(name: str, settings: Settings, whatever: bool = False) -> bool:
    """Whether a model is computed on the cluster.

    :param whatever: whether it is asked for a cluster that this server does not know yet.
    """
    told = settings.cluster_models.strip()
    if not (settings.cluster or settings.engine == "ray" or whatever) or told.upper() == "NONE":
        return False
    return told.upper() == "ALL" or name in {one.strip() for one in told.split(",")}
