"""``dimple cluster``: models on several machines."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click
from flask.cli import with_appcontext

from app.cli.common import current_settings, report_errors

cluster_cli = click.Group("cluster", help="Run models on a Ray cluster.")


@cluster_cli.command("status")
@with_appcontext
@report_errors
def status() -> None:
    """Show the proxies and this server's models.

    Ray's own tools show the rest: ray status its machines, serve status its replicas.
    """
    from app.engines.ray.client import proxies_of, serve_client
    from app.engines.ray.serve_config import application_name
    from app.formats.folder import digest_of
    from app.serving.loader import cluster_models

    settings = current_settings()
    if not (proxies := proxies_of(settings)):
        raise click.ClickException("No cluster is set: name Ray Serve's HTTP proxies in DIMPLE_CLUSTER (host:port)")
    client = serve_client(proxies)
    applications = {name: application_name(name, digest_of(folder)) for name, folder, _ in cluster_models(settings)}
    for proxy, state in client.states.items():
        click.echo(f"proxy     {proxy}  {state if isinstance(state, str) else f'{len(state)} applications'}")
    for name, application in applications.items():
        click.echo(f"model     {name}  {application}{'' if client.serves(f'/{application}') else '  not deployed'}")


@cluster_cli.command("config")
@click.option(
    "--add",
    "added",
    multiple=True,
    metavar="NAME=PATH",
    help="Also deploy PATH, the archive or folder of a new version of the model NAME. Repeatable.",
)
@with_appcontext
@report_errors
def config(added: tuple[str, ...]) -> None:
    """Print a Ray Serve config for all models.

    The model files are put into the store. Deploy the config with serve deploy, or as a RayService of KubeRay.
    """
    from app.engines.ray.serve_config import config_of, options_of
    from app.formats.archive.unpack import unpack
    from app.serving.loader import cluster_models

    settings = current_settings()
    models = cluster_models(settings)
    options = {name: deployment for name, _, deployment in models}
    with TemporaryDirectory(prefix="dimple-") as place:
        for number, item in enumerate(added):
            name, separator, location = item.partition("=")
            if not (name and separator and Path(location).exists()):
                raise click.BadParameter(f"{item!r} is not NAME=PATH of an archive or folder", param_hint="--add")
            folder = Path(location)
            folder = folder if folder.is_dir() else unpack(folder, Path(place) / str(number))
            models.append((name, folder, options.get(name) or options_of(1, 1)))
        click.echo(config_of(models, settings), nl=False)


@cluster_cli.command("pack")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--to", "target", type=click.Path(file_okay=False, path_type=Path), default=Path("."), help="Folder.")
@with_appcontext
@report_errors
def pack(folder: Path, target: Path) -> None:
    """Pack a model folder for a read-only store.

    The file is named after its content.
    """
    from app.engines.ray.artifact_store import SUFFIX, pack_folder
    from app.formats.folder import digest_of

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
