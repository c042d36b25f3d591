"""``model-archiver`` and ``mxnet-model-export`` as programs for the scripts in ``bin/``.

They accept the flags of Multi Model Server's tools and exit in the same way: with status 1 and ``ERROR - …`` on
standard error, or with status 2 if the command line itself is invalid.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, get_args

import click

from app.errors import DimpleError, PackError
from app.formats.archive.legacy import export
from app.formats.archive.manifest import Runtime
from app.formats.archive.pack import FORMATS, PackJob, check, only_onnx, pack
from app.formats.folder import ModelFolder
from app.formats.signature import FILE_NAME as SIGNATURE
from app.formats.signature import document_of
from app.utils.json import read_json

P = ParamSpec("P")
FOLDER = click.Path(path_type=Path)
HELP = {"help_option_names": ["-h", "--help"]}

ARCHIVER_OPTIONS = (
    click.option("--model-name", required=True, help="Name of the model and of the archive."),
    click.option("--model-path", required=True, type=FOLDER, help="Folder with the model's files."),
    click.option("--handler", required=True, help="Code that handles requests: MODULE:FUNCTION or MODULE."),
    click.option(
        "--runtime",
        type=click.Choice(get_args(Runtime)),
        default="python",
        show_default=True,
        help="Language of the handler.",
    ),
    click.option("--export-path", type=FOLDER, help="Folder for the archive.  [default: the current folder]"),
    click.option(
        "--archive-format",
        type=click.Choice(FORMATS),
        default="default",
        show_default=True,
        help="Output: default writes NAME.mar, tgz NAME.tar.gz, no-archive the folder NAME.",
    ),
    click.option("--force", "-f", is_flag=True, help="Overwrite an existing archive."),
    click.option("--convert", "-c", is_flag=True, help="Convert the folder's .onnx file to an MXNet checkpoint."),
)


def archiver_options(command: Callable[P, Any]) -> Callable[P, Any]:
    """Add the flags of ``model-archiver`` to a command."""
    for option in reversed(ARCHIVER_OPTIONS):
        command = option(command)
    return command


def pack_job(export_path: Path | None = None, **options: Any) -> PackJob:
    """Return the job that the flags describe, apart from ``--convert``."""
    return PackJob(export_path=export_path or Path.cwd(), **options)


def pack_model(job: PackJob, convert: bool) -> Path:
    """Pack a folder, optionally with its ONNX file converted to an MXNet checkpoint. The folder itself is not changed.

    :raises PackError: as :func:`app.formats.archive.pack.pack`.
    :raises ModelFormatError: if the file cannot be converted.
    """
    check(job)
    onnx = only_onnx(job.model_path) if convert else None
    if onnx is None:
        return pack(job)
    with tempfile.TemporaryDirectory(prefix="convert-") as folder:
        path = Path(folder, job.model_path.absolute().name or "model")
        left_out = shutil.ignore_patterns(onnx.name, SIGNATURE)
        shutil.copytree(job.model_path.absolute(), path, ignore=left_out, copy_function=os.symlink)
        _convert(onnx, path / job.model_name, job.model_path / SIGNATURE)
        return pack(replace(job, model_path=path))


def _convert(onnx: Path, stem: Path, signature: Path) -> None:
    """Write the checkpoint, and a signature with its input's name and shape, as the original tool does."""
    from app.serving.export import write_checkpoint

    folder = ModelFolder(onnx.parent, stem.name, "1.0", None, None, None, None, onnx=onnx)
    document = document_of(write_checkpoint(folder, stem))
    if signature.is_file():
        try:
            merged = read_json(signature)
            merged["inputs"][0] |= document["inputs"][0]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise PackError(f"{signature} cannot be used: {error}. Correct it, or leave it out") from None
        document = merged
    (stem.parent / SIGNATURE).write_text(json.dumps(document, indent=2), encoding="utf-8")


def _ends_like_the_original(command: Callable[P, None]) -> Callable[P, None]:
    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except DimpleError as error:
            _fail(str(error))

    return wrapped


def _fail(reason: str) -> NoReturn:
    click.echo(f"ERROR - {reason}", err=True)
    raise SystemExit(1)


@click.command("model-archiver", context_settings=HELP)
@archiver_options
@_ends_like_the_original
def model_archiver(convert: bool, **options: Any) -> None:
    """Pack a folder with a model and its handler into an archive that Multi Model Server, or Dimple, serves."""
    job = pack_job(**options)
    if job.force and job.target.exists():
        click.echo(f"WARNING - Overwriting {job.target} ...", err=True)
    pack_model(job, convert)


@click.command("mxnet-model-export", context_settings=HELP)
@click.option("--model-name", required=True, help="Name of the model; NAME.model is made in the current folder.")
@click.option("--model-path", required=True, type=FOLDER, help="Folder with the model's files and signature.json.")
@click.option("--service-file-path", type=FOLDER, help="Python file with a class derived from MXNetBaseService.")
@_ends_like_the_original
def mxnet_model_export(model_name: str, model_path: Path, service_file_path: Path | None) -> None:
    """Pack a folder with an MXNet checkpoint into an archive of MXNet Model Server 0.x."""
    made = export(model_name, model_path.expanduser(), service_file_path, Path.cwd())
    click.echo(f"INFO - Successfully exported model {model_name} to file {made}", err=True)
