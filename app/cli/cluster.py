"""``dimple cluster``: models on several machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext

from app.cli.errors import report_errors
from app.cli.running import current_settings, program

LOOPBACK = "127.0.0.2"
"""Loopback address that Ray uses unchanged; it replaces 127.0.0.1 with the machine's external address."""

cluster_cli = click.Group("cluster", help="Run models on a Ray cluster.")


def _machine_options(command: Any) -> Any:
    for option in (
        click.option(
            "--object-mb", type=click.IntRange(80), default=256, show_default=True, help="Shared memory for Ray, in MB."
        ),
        click.option("--cpus", type=click.IntRange(0), help="Replicas that may run here.  [default: all cores]"),
        click.option("--host", default=LOOPBACK, show_default=True, help="Address of this machine for the others."),
    ):
        command = option(command)
    return command


@cluster_cli.command("up")
@_machine_options
@click.option("--port", type=click.IntRange(1, 65535), default=6379, show_default=True, help="Port of the head.")
@with_appcontext
@report_errors
def up(host: str, cpus: int | None, object_mb: int, port: int) -> None:
    """Make this machine the head of a cluster.

    Anyone with the token that is written to instance/cluster/ can run code on every machine of the cluster. Connections
    are not encrypted: use a private network.
    """
    from app.engines.ray.control import Machine, up
    from app.engines.ray.node_config import TOKEN, cluster_folder

    settings = current_settings()
    node = up(settings, Machine(host, cpus, object_mb * 2**20), port)
    token = cluster_folder(settings) / TOKEN
    click.echo(f"the head is {node.address}; its log is {cluster_folder(settings) / 'node.log'}")
    click.echo(f"fronts here   DIMPLE_CLUSTER={node.address}")
    click.echo(f"more machines {program()} cluster join {node.address} --token-file a-copy-of-{token}")


@cluster_cli.command("join")
@click.argument("address")
@_machine_options
@click.option("--token-file", type=click.Path(path_type=Path), help="Copy of the head's instance/cluster/token.")
@with_appcontext
@report_errors
def join(address: str, host: str, cpus: int | None, object_mb: int, token_file: Path | None) -> None:
    """Join the cluster at ADDRESS (host:port).

    Use --cpus 0 for a machine that only serves HTTP and runs no models.
    """
    from app.engines.ray.control import Machine, join
    from app.engines.ray.node_config import cluster_folder

    settings = current_settings()
    node = join(settings, Machine(host, cpus, object_mb * 2**20), address, token_file)
    click.echo(f"joined {node.address} as {node.node_ip}; its log is {cluster_folder(settings) / 'node.log'}")


@cluster_cli.command("down")
@with_appcontext
@report_errors
def down() -> None:
    """Leave the cluster; on the head, end it."""
    from app.engines.ray.control import down

    click.echo("ended" if down(current_settings()) else "no node runs here")


@cluster_cli.command("status")
@with_appcontext
@report_errors
def status() -> None:
    """Show the machines and models of the cluster."""
    from app.engines.ray.control import status

    status_document = status(current_settings())
    click.echo(f"head      {status_document['address']}")
    for node in status_document["nodes"]:
        state = f"{node['cpus']:g} cores" if node["alive"] else "lost"
        click.echo(f"node      {node['address']}  {state}")
    for model in status_document["models"]:
        click.echo(f"model     {model['name']}  {model['status']}, {model['replicas']} replicas  {model['message']}")


@cluster_cli.command("config")
@with_appcontext
@report_errors
def config() -> None:
    """Print a Ray Serve config for all models.

    The model files are put into the store. Deploy the config with serve deploy, or as a RayService of KubeRay.
    """
    from app.engines.ray.control import config_of
    from app.serving.loader import cluster_models

    settings = current_settings()
    click.echo(config_of(cluster_models(settings), settings), nl=False)


@cluster_cli.command("pack")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--to", "target", type=click.Path(file_okay=False, path_type=Path), default=Path("."), help="Folder.")
@with_appcontext
@report_errors
def pack(folder: Path, target: Path) -> None:
    """Pack a model folder for a read-only store.

    The file is named after its content.
    """
    from app.engines.ray.artifact_store import SUFFIX, digest_of, pack_folder

    packed = target / (digest_of(folder) + SUFFIX)
    pack_folder(folder, packed)
    click.echo(packed)


@cluster_cli.command("selftest")
@click.argument("name")
@click.argument("picture", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@with_appcontext
@report_errors
def selftest(name: str, picture: Path) -> None:
    """Store a self-test in the folder of a model.

    It holds PICTURE and the current prediction of the model NAME, which is checked whenever the model is loaded.
    """
    from app.cli.predict import find_model
    from app.engines.selftest import write_selftest

    settings = current_settings()
    click.echo(write_selftest(find_model(settings, name), picture, settings.engine, settings.cache))
