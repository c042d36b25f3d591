"""``dimple models export``: a model in the format of another program."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click
from flask.cli import with_appcontext

from app.cli.common import complete_model, current_settings, install_tensorflow, report_errors
from app.errors import ModelFormatError, ModelNotFound
from app.formats.archive.manifest import NAME
from app.formats.folder import is_model_folder, open_model_folder

if TYPE_CHECKING:
    from app.formats.folder import ModelFolder
    from app.settings import Settings

Target = Literal["onnx", "openvino", "mar", "mxnet", "keras", "tflite"]
FOLDERS = ("mxnet", "openvino")
"""Formats that are a folder."""
STOCK = "mxnet_vision_service:handle"


@click.command("export")
@click.argument("name", shell_complete=complete_model)
@click.option("--to", "form", type=click.Choice(get_args(Target)), required=True, help="Format to write.")
@click.option("--output", type=click.Path(path_type=Path), help="File to write; for openvino and mxnet, the folder.")
@click.option("--force", is_flag=True, help="Replace an existing file or folder.")
@click.option(
    "--with-tensorflow",
    is_flag=True,
    help="Install TensorFlow, which writes tflite, the first time (2 GB).",
)
@with_appcontext
@report_errors
def export(name: str, form: Target, output: Path | None, force: bool, with_tensorflow: bool) -> None:
    """Export to ONNX, OpenVINO, MMS, Keras, MXNet.

    onnx writes one file, NAME.onnx, with labels and preprocessing in its metadata; openvino a folder with NAME.xml and
    NAME.bin; mar an archive for Multi Model Server; mxnet a folder with NAME-symbol.json and NAME-0000.params; keras
    writes a model of any Keras as NAME.keras, which Keras 3 opens; tflite writes NAME.tflite with TensorFlow's
    own converter. The weights are not changed, and dimple models import (or unpack)
    makes the same model from the result.
    """
    settings = current_settings()
    if with_tensorflow:
        install_tensorflow(settings)
    folder = _folder(name, settings)
    target = output or Path(name if form in FOLDERS else f"{name}.{form}")
    if target.is_dir() and form not in FOLDERS:
        target /= f"{name}.{form}"
    if (target.exists() or target.is_symlink()) and not force:
        raise ModelFormatError(f"{target} is there already. Name another --output, or replace it with --force")
    write = WRITERS[form]
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=target.absolute().parent) as work:
            note = write(folder, Path(work), target, settings)
    except OSError as error:
        raise ModelFormatError(f"{target} cannot be written: {error}") from None
    click.echo(f"{target}: {note}")


def _folder(name: str, settings: Settings) -> ModelFolder:
    from app.zoo import imagenet

    if name == imagenet.NAME:
        imagenet.ensure_imagenet(settings.models_dir)
    path = settings.models_dir / name
    if not NAME.fullmatch(name) or not is_model_folder(path):
        there = settings.models_dir.iterdir() if settings.models_dir.is_dir() else ()
        raise ModelNotFound(name, sorted(item.name for item in there if is_model_folder(item)))
    return open_model_folder(path)


def _labels(folder: ModelFolder, settings: Settings) -> tuple[str, ...]:
    """Return the labels of the model, even if its folder has no label file."""
    if folder.labels is not None:
        return folder.labels
    from app.serving.model import open_model

    model = open_model(folder, settings.engine, cache_dir=settings.cache)
    model.engine.close()
    return model.labels


def _write_onnx(folder: ModelFolder, work: Path, target: Path, settings: Settings) -> str:
    from app.serving.export import write_onnx

    made = work / "model.onnx"
    comparison = write_onnx(folder, _labels(folder, settings), made)
    os.replace(made, target)
    return comparison


def _write_mxnet(folder: ModelFolder, work: Path, target: Path, settings: Settings) -> str:
    from app.formats.labels import write_labels
    from app.formats.signature import FILE_NAME, write_signature
    from app.serving.export import write_checkpoint
    from app.utils.files import swap_folder

    made = work / "made"
    made.mkdir()
    write_signature(write_checkpoint(folder, made / folder.name), made / FILE_NAME)
    write_labels(made, _labels(folder, settings))
    swap_folder(made, target.absolute())
    return ", ".join(sorted(path.name for path in target.iterdir()))


def _write_keras(folder: ModelFolder, work: Path, target: Path, settings: Settings) -> str:
    from app.serving.export_keras import write_keras

    comparison = write_keras(folder, work / "model.keras")
    os.replace(work / "model.keras", target)
    return comparison


def _write_tflite(folder: ModelFolder, work: Path, target: Path, settings: Settings) -> str:
    from app.serving.export_tflite import write_tflite

    made = work / "made"
    made.mkdir()
    note = write_tflite(folder, _labels(folder, settings), made / "model.tflite", settings)
    os.replace(made / "model.tflite", target)
    return note


def _write_openvino(folder: ModelFolder, work: Path, target: Path, settings: Settings) -> str:
    from app.formats.labels import write_labels
    from app.formats.signature import FILE_NAME, write_signature
    from app.serving.export import write_openvino
    from app.utils.files import swap_folder

    made = work / "made"
    made.mkdir()
    signature, parity = write_openvino(folder, made / f"{folder.name}.xml", settings)
    write_signature(signature, made / FILE_NAME)
    write_labels(made, _labels(folder, settings))
    swap_folder(made, target.absolute())
    if parity is None:
        return "no reference computes the source, so this is not proven"
    return f"its probabilities differ by {parity.max_abs_difference:.1e} at most from those of {parity.reference}"


def _write_mar(folder: ModelFolder, work: Path, target: Path, settings: Settings) -> str:
    from app.formats.archive.manifest import read_manifest
    from app.formats.archive.pack import PackJob, pack

    manifest = read_manifest(folder.path)
    handler = manifest.handler or STOCK
    own = _own_code(folder)
    source = folder.path if own else _as_mms_wants_it(folder, work / "files", settings)
    made = pack(PackJob(folder.name, source, handler if own else STOCK, manifest.runtime, work))
    os.replace(made, target)
    if own:
        return f"with its own code, {handler}"
    if folder.checkpoint is None:
        return "Multi Model Server itself opens only MXNet checkpoints, so this one is for Dimple (see --to mxnet)"
    return "Multi Model Server serves it, too, but gives every network raw pixels"


def _own_code(folder: ModelFolder) -> bool:
    from app.formats.archive.manifest import find_handler, read_manifest

    handler = find_handler(folder.path, read_manifest(folder.path))
    return handler is not None and not handler.is_stock


def _as_mms_wants_it(folder: ModelFolder, path: Path, settings: Settings) -> Path:
    """Write the folder in Multi Model Server's layout: a checkpoint with the model's name at epoch 0, next to its
    signature and labels. Files are linked, not copied."""
    from app.formats.infer_signature import infer_folder
    from app.formats.labels import SYNSET, write_labels
    from app.formats.signature import FILE_NAME, write_signature

    path.mkdir()
    checkpoint = folder.checkpoint
    renamed = {}
    if checkpoint is not None:
        renamed = {
            checkpoint.symbol.name: f"{folder.name}-symbol.json",
            checkpoint.params.name: f"{folder.name}-0000.params",
        }
    for file in sorted(folder.path.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            (path / renamed.get(file.name, file.name)).symlink_to(file.resolve())
    if not (path / FILE_NAME).exists():
        write_signature(infer_folder(folder).signature, path / FILE_NAME)
    if not (path / SYNSET).exists():
        write_labels(path, _labels(folder, settings))
    return path


WRITERS = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "mar": _write_mar,
    "mxnet": _write_mxnet,
    "keras": _write_keras,
    "tflite": _write_tflite,
}
