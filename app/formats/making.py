"""A model folder, made of loose files."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.errors import ModelFormatError
from app.formats.folder import write_manifest
from app.formats.import_files import ImportFiles
from app.formats.labels import write_labels
from app.formats.onnx_graph import read_onnx
from app.formats.signature import FILE_NAME, PARTS, write_signature
from app.types import Signature


def make_folder(
    files: ImportFiles,
    signature: Signature,
    labels: tuple[str, ...] | None,
    folder: Path,
    name: str,
    parts: frozenset[str] = PARTS,
) -> None:
    """Make a model folder. The weights are copied as they are.

    :param folder: the new folder, which must not exist.
    :param name: the model's name.
    :param parts: which parts of the signature are stated, as :func:`app.formats.signature.write_signature` takes them.
    :raises ModelFormatError: if a file cannot be read.
    """
    folder.mkdir(parents=True)
    write_manifest(folder, name)
    if files.symbol is not None and files.params is not None:
        shutil.copyfile(files.symbol, folder / f"{name}-symbol.json")
        shutil.copyfile(files.params, folder / f"{name}-0000.params")
    if files.h5 is not None:
        shutil.copyfile(files.h5, folder / f"{name}.h5")
    if files.architecture is not None:
        shutil.copyfile(files.architecture, folder / "model.json")
    if files.onnx is not None:
        _copy_onnx(files.onnx, folder / f"{name}.onnx")
    write_signature(signature, folder / FILE_NAME, parts)
    if labels is not None:
        write_labels(folder, labels)


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
