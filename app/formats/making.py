"""A model folder, made of loose files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from app.errors import ModelFormatError
from app.formats.folder import SYNSET, write_manifest
from app.formats.loose import Loose
from app.formats.onnx_graph import read_onnx
from app.formats.signature import FILE_NAME, write_signature
from app.types import Signature, TensorSpec


def make_folder(loose: Loose, signature: Signature, labels: tuple[str, ...] | None, folder: Path, name: str) -> None:
    """Make a model folder. The weights are copied as they are.

    :param folder: is made; it must not be there.
    :param name: what the model is called.
    :raises ModelFormatError: where a file cannot be read.
    """
    folder.mkdir(parents=True)
    write_manifest(folder, name)
    if loose.symbol is not None and loose.params is not None:
        shutil.copyfile(loose.symbol, folder / f"{name}-symbol.json")
        shutil.copyfile(loose.params, folder / f"{name}-0000.params")
    if loose.h5 is not None:
        shutil.copyfile(loose.h5, folder / f"{name}.h5")
    if loose.architecture is not None:
        shutil.copyfile(loose.architecture, folder / "model.json")
    if loose.onnx is not None:
        _copy_onnx(loose.onnx, folder / f"{name}.onnx")
    write_signature(signature, folder / FILE_NAME)
    if labels is not None:
        write_labels(folder, labels)


def complete(folder: Path, signature: Signature, labels: tuple[str, ...]) -> None:
    """Write down what is known when the model has answered: how many classes there are, and their labels."""
    if not signature.outputs:
        outputs = (TensorSpec("softmax", (0, len(labels))),)
        write_signature(replace(signature, outputs=outputs), folder / FILE_NAME)
    write_labels(folder, labels)


def write_labels(folder: Path, labels: tuple[str, ...]) -> None:
    """Write ``synset.txt``, one label a line."""
    (folder / SYNSET).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


def write_backend(h5: Path, backend: str) -> None:
    """Write into an ``.h5`` file over which backend its weights were learned, which Keras 1 does not.

    :raises ModelFormatError: where the file cannot be written.
    """
    import h5py

    try:
        with h5py.File(h5, "r+") as file:
            group = file.get("model_weights", file)
            group.attrs["backend"] = backend
    except OSError as error:
        raise ModelFormatError(f"{h5} cannot be written: {error}") from None


def _copy_onnx(source: Path, target: Path) -> None:
    """Copy an ``.onnx`` file; weights that lie beside it are put into the copy, whose name differs."""
    if not read_onnx(source).files:
        shutil.copyfile(source, target)
        return
    import onnx

    onnx.save(onnx.load(str(source)), str(target))
