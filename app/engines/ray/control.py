"""Commands that start, join, list and leave a cluster from one machine, or describe it for Ray's own tools."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.engines.ray.artifact_store import digest_of, publish
from app.engines.ray.node_config import (
    LOG,
    NAMESPACE,
    NODE,
    TOKEN,
    Node,
    address,
    cluster_folder,
    ray_environ,
    read_node,
    require_ray,
    store,
)
from app.engines.ray.spec import DECLARED_PREFIX, DEPLOYMENT, DeploymentSpec, Scale, options_of
from app.errors import ClusterError
from app.settings import ROOT, Settings
from app.utils.error_text import reason_of
from app.utils.files import atomic_write

if TYPE_CHECKING:
    import psutil

START_SECONDS = 90.0
STOP_SECONDS = 60.0
LOG_TAIL_LINES = 8
LONGEST_TEMPORARY = 40
"""Longest path of Ray's folder: its sockets add 65 characters, and a socket's path is limited to 107 (unix(7))."""
ADDRESS = re.compile(r"[\w.\-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


@dataclass(frozen=True)
class Machine:
    """A machine's part in the cluster: its address, its cores (None for all), and its shared memory.

    The shared memory is for data in transit, in bytes.
    """

    host: str
    cpus: int | None = None
    object_bytes: int = 256 * 2**20


def up(settings: Settings, machine: Machine, port: int) -> Node:
    """Make this machine the head of a cluster, and write the token that other machines need to join.

    :returns: the node, once it answers.
    :raises ClusterError: if the head cannot be started, with Ray's message.
    """
    token = cluster_folder(settings) / TOKEN
    if not ({"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ) or token.is_file()):
        _write_token(token, secrets.token_hex(32))
    command = ["--head", f"--port={port}", "--include-dashboard=false"]
    return _start(settings, machine, f"{machine.host}:{port}", command)


def join(settings: Settings, machine: Machine, head: str, token_file: Path | None) -> Node:
    """Join a cluster, as a node that computes or as a machine with servers.

    :param head: ``host:port``.
    :param token_file: the file that ``up`` has written on the head.
    :raises ClusterError: as for :func:`up`, or if the address is invalid.
    """
    if not ADDRESS.fullmatch(head):
        raise ClusterError(f"{head!r} is no address of a head: it must be host:port, as dimple cluster up has told")
    if token_file is not None:
        try:
            _write_token(cluster_folder(settings) / TOKEN, token_file.read_text(encoding="utf-8").strip())
        except (OSError, ValueError) as error:
            raise ClusterError(f"The token {token_file} cannot be read: {error}") from None
    return _start(settings, machine, head, [f"--address={head}"])


def down(settings: Settings) -> bool:
    """Stop the node that was started on this machine, with all its replicas.

    :returns: False if there is no node.
    :raises ClusterError: if the node does not stop.
    """
    import psutil

    process = _watch(settings)
    if process is None:
        return False
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except psutil.TimeoutExpired:
        raise ClusterError(f"The node (process {process.pid}) has not ended within {STOP_SECONDS:.0f} s") from None
    except psutil.NoSuchProcess:
        pass
    return True


def status(settings: Settings) -> dict[str, Any]:
    """Return the cluster's nodes and deployments.

    :returns: ``address``; ``nodes``, each with ``address``, ``alive`` and ``cpus``; ``models``, each with ``name``,
        ``status``, ``replicas`` that answer and ``message``.
    :raises ClusterError: if the head does not answer.
    """
    require_ray()
    where = address(settings)
    os.environ.update(ray_environ(settings))
    node = read_node(settings)
    import ray
    from ray import serve

    options = {"_node_ip_address": node.node_ip} if node else {}
    try:
        ray.init(address=where, namespace=NAMESPACE, log_to_driver=False, logging_level="error", **options)
    except Exception as error:  # Ray raises a dozen kinds of errors
        raise ClusterError(f"The cluster at {where} does not answer: {reason_of(error, None)}") from None
    try:
        nodes = [
            {"address": node["NodeManagerAddress"], "alive": node["Alive"], "cpus": node["Resources"].get("CPU", 0.0)}
            for node in ray.nodes()
        ]
        return {"address": where, "nodes": nodes, "models": _models(serve.status().applications)}
    finally:
        ray.shutdown()


def _models(applications: dict[str, Any]) -> list[dict[str, Any]]:
    from app.engines.ray.deployer import state_of

    states = [state_of(name, application) for name, application in sorted(applications.items())]
    return [
        {"name": state.app, "status": state.status, "replicas": state.running, "message": state.message}
        for state in states
    ]


def _start(settings: Settings, machine: Machine, head: str, how: list[str]) -> Node:
    require_ray()
    here = cluster_folder(settings)
    if process := _watch(settings):
        raise ClusterError(f"A node runs here already (process {process.pid}). End it first: dimple cluster down")
    here.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(here)
    node = Node(head, machine.host, str(temporary))
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *how]
    ray += [f"--node-ip-address={machine.host}", f"--temp-dir={temporary}"]
    ray += [f"--object-store-memory={machine.object_bytes}"]
    ray += [f"--num-cpus={machine.cpus}"] if machine.cpus is not None else []
    command = [sys.executable, "-m", "app.engines.ray.node", str(here / NODE), str(temporary), head, machine.host, *ray]
    environ = ray_environ(settings) | {"RAY_TMPDIR": str(temporary)}
    (here / NODE).unlink(missing_ok=True)
    with (here / LOG).open("wb") as output:
        watch = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _await(settings, watch, node)


def _await(settings: Settings, watch: subprocess.Popen[bytes], node: Node) -> Node:
    """Wait until Ray runs."""
    deadline = time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < deadline and watch.poll() is None:
            if (cluster_node := read_node(settings)) and cluster_node.runs:
                return cluster_node
            time.sleep(0.1)
    except KeyboardInterrupt:
        pass
    watch.terminate()
    watch.wait()
    lines = (cluster_folder(settings) / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "\n".join(f"  {line}" for line in [line for line in lines if line.strip()][-LOG_TAIL_LINES:])
    raise ClusterError(f"Ray did not start at {node.address}. It said:\n{tail}")


def _watch(settings: Settings) -> psutil.Process | None:
    """Return the process that watches this machine's node, if it runs."""
    import psutil

    facts = str(cluster_folder(settings) / NODE)
    for process in psutil.process_iter(["cmdline"]):
        if {"app.engines.ray.node", facts} <= set(process.info["cmdline"] or ()):
            return process
    return None


def _temporary(here: Path) -> Path:
    """Return the folder of Ray's sockets: beside the other files if that path is short enough."""
    path = here / "ray"
    if len(str(path)) <= LONGEST_TEMPORARY:
        shutil.rmtree(path, ignore_errors=True)
        return path
    return Path(tempfile.mkdtemp(prefix="dimple-"))


def _write_token(path: Path, token: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, token, mode=0o600)


HEADER = """\
# Models for Ray Serve: serve deploy serve.yaml, or as serveConfigV2 of a RayService.
# Every node needs this program on its PYTHONPATH, with what requirements-ray.txt names.
"""


def config_of(models: Sequence[tuple[str, Path, Scale]], settings: Settings) -> str:
    """Upload the models to the store, and return a config file with their deployments.

    :param models: name, folder and scale of each model.
    :returns: YAML.
    :raises ClusterError: if Ray is not installed, or the store rejects a model.
    :raises ModelFormatError: if a folder cannot be read.
    """
    require_ray()
    import yaml

    where, engine = store(settings), "auto" if settings.engine == "ray" else settings.engine
    plans = [DeploymentSpec(name, digest_of(folder), where, engine, scale) for name, folder, scale in models]
    for plan, (_, folder, _) in zip(plans, models, strict=True):
        publish(folder, plan.digest, where)
    document = {"proxy_location": "Disabled", "applications": [application_of(plan) for plan in plans]}
    return HEADER + str(yaml.safe_dump(document, sort_keys=False))


def application_of(plan: DeploymentSpec) -> dict[str, Any]:
    """Return one application of the config file.

    Servers recognize it by its name, and deploy nothing of their own in its place.
    """
    return {
        "name": DECLARED_PREFIX + plan.key,
        "route_prefix": None,
        "import_path": "app.engines.ray.replica:build",
        "args": {"name": plan.name, "digest": plan.digest, "store": plan.store, "engine": plan.engine},
        "deployments": [{"name": DEPLOYMENT, **options_of(plan.scale)}],
    }
