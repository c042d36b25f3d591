"""Ray is optional: nothing imports it before it is asked for, and who asks is told how to get it."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.engines.ray.client import BridgeClient, RequestFailed
from app.engines.ray.node_config import on_cluster
from app.engines.ray.spec import DeploymentSpec
from app.settings import ROOT, Settings, to_environment

INSTALL = "python -m pip install -r requirements-ray.txt"
without_ray = pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")


def run(*command: str, **told: object) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "/usr/bin:/bin", **to_environment(told)}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_front_and_its_commands_import_no_ray() -> None:
    modules = "app.engines.ray.engine, app.engines.ray.control, app.cli.cluster, app.serving.loader"
    done = run("-c", f"import sys, {modules}; print('ray' in sys.modules, 'boto3' in sys.modules)")
    assert done.stdout.strip() == "False False", done.stderr


@without_ray
@pytest.mark.parametrize("command", [("up",), ("join", "10.0.0.1:6379"), ("status",), ("config",)])
def test_a_command_says_what_to_install(command: tuple[str, ...], tmp_path: Path) -> None:
    done = run("-m", "flask", "--app", "app", "cluster", *command, instance_dir=tmp_path)
    assert done.returncode == 1
    assert INSTALL in done.stderr and "Traceback" not in done.stderr


@without_ray
@pytest.mark.parametrize("told", [{"cluster": "10.0.0.1:6379"}, {"engine": "ray"}])
def test_a_server_that_is_told_of_a_cluster_says_what_to_install(told: dict[str, str], tmp_path: Path) -> None:
    done = run("-m", "gunicorn", "--check-config", instance_dir=tmp_path, **told)
    assert done.returncode != 0
    assert INSTALL in done.stderr and "Traceback" not in done.stderr


def test_ending_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    done = run("-m", "flask", "--app", "app", "cluster", "down", instance_dir=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "no node runs here"), done.stderr


@pytest.mark.parametrize(
    ("settings", "clustered"),
    [
        (Settings(), set()),
        (Settings(engine="ray"), {"smile", "dogcat"}),
        (Settings(cluster="head:6379"), {"smile", "dogcat"}),
        (Settings(cluster="head:6379", cluster_models="dogcat, other"), {"dogcat"}),
        (Settings(cluster="head:6379", cluster_models="none"), set()),
        (Settings(cluster_models="dogcat"), set()),
    ],
)
def test_which_models_are_computed_there_is_chosen_by_settings(settings: Settings, clustered: set[str]) -> None:
    assert {name for name in ("smile", "dogcat") if on_cluster(name, settings)} == clustered


def test_nobody_waits_for_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    """The gateway ends at once, without Ray as with it, or does not get to anything."""
    link = BridgeClient(Settings(cluster="127.0.0.1:1", instance_dir=tmp_path))
    link.hold(DeploymentSpec("net", "0" * 64, "/store", "auto"))
    began = time.monotonic()
    assert not link.wait_connected(2.0)
    assert link.lost
    assert link.wait("net-auto-" + "0" * 16, 0.5) is None
    assert time.monotonic() - began < 30
    if find_spec("ray") is None:
        with pytest.raises(RequestFailed) as caught:
            link.ask("describe", "net-auto-" + "0" * 16)
        assert caught.value.kind == "lost"
