"""Import of a model's loose files: recognition by name or content, and conversion to a model folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import ModelFormatError
from app.formats.folder import KERAS, SAVED_FOLDER, other_program, write_manifest
from app.formats.infer_signature import ModelFiles
from app.formats.keras_file import architecture_beside, is_architecture
from app.formats.labels import NAMED_AS_LABELS, USUAL, lists_labels, write_labels
from app.formats.mxnet_params import no_graph
from app.formats.onnx_graph import read_onnx
from app.formats.openvino_graph import graph_files, is_graph
from app.formats.signature import FILE_NAME, PARTS, write_signature
from app.types import Signature
from app.utils.json import read_object

ARCHIVES = (".mar", ".model")
EPOCH = re.compile(r"(?P<prefix>.+)-(?P<epoch>\d+)\.params")


@dataclass(frozen=True)
class ImportFiles(ModelFiles):
    """Files of one model to import, None for each missing one."""

    signature: Path | None = None
    labels: Path | None = None

    @property
    def weights(self) -> Path:
        """Return the file that gives the model its name."""
        weights = self.params or self.h5 or self.onnx or self.graph
        assert weights is not None
        return weights

    @property
    def stem(self) -> str:
        """Return the model's name that follows from its files."""
        if self.symbol is not None:
            return self.symbol.name.removesuffix(".json").removesuffix("-symbol")
        return re.sub(r"[_.\-]weights$", "", self.weights.stem)


def gather(paths: Sequence[Path]) -> ImportFiles:
    """Recognise files, and the files in folders. A missing part is looked up beside the given files.

    :raises ModelFormatError: if a file is of no known kind, there are two of a kind, or a part is missing.
    """
    listed = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    saved = [path for path in dict.fromkeys([*paths, *listed]) if path.is_dir() and is_graph(path)]
    by_kind: dict[str, list[Path]] = {"graph": saved} if saved else {}
    named = {path for path in paths if not path.is_dir()}
    for file in listed:
        kind = _kind(file)
        is_weights = file.suffix.lower() == ".bin" and file.with_suffix(".xml") in listed  # of an OpenVINO model
        if kind is None and file in named and not is_weights:
            raise other_program(file) or ModelFormatError(
                f"{file} is none of the files that are known: *-symbol.json, *.params, *.h5, *.keras, *.onnx, *.tflite,"
                " *.pb, a folder with saved_model.pb, *.xml, a model.json of Keras, signature.json, or labels"
                " (synset.txt, labels.txt, class_indices.json)"
            )
        if kind is not None and file not in by_kind.get(kind, ()):
            by_kind.setdefault(kind, []).append(file)
    params, labels = by_kind.pop("params", []), by_kind.pop("labels", [])
    usual = [file for name in USUAL for file in labels if file.name.lower() == name]
    files = ImportFiles(
        **{kind: _only(kind, listed) for kind, listed in by_kind.items()}, labels=next(iter(usual or labels), None)
    )
    files = _with_checkpoint(files, params)
    if files.h5 is not None and files.architecture is None:
        files = replace(files, architecture=architecture_beside(files.h5))
    kinds = [file.name for file in (files.symbol, files.h5, files.onnx, files.graph) if file is not None]
    if len(kinds) > 1:
        raise ModelFormatError(f"{', '.join(kinds)} are several models; name the files of one")
    if not kinds:
        raise ModelFormatError(
            f"{', '.join(str(path) for path in paths)}: there are no weights: neither *-symbol.json with *.params nor "
            "*.h5 nor *.keras nor *.onnx nor *.tflite nor *.pb nor *.xml with *.bin"
        )
    return files


def _kind(file: Path) -> str | None:
    """Return the kind of a file by its name, of JSON by its content; None if it is unknown."""
    name = file.name.lower()
    if not file.is_file():
        return None  # a folder in a folder
    if name.endswith(ARCHIVES):
        raise ModelFormatError(f"{file} is an archive: dimple models unpack {file}")
    if name == FILE_NAME:
        return "signature"
    if name.endswith(".txt") and NAMED_AS_LABELS.fullmatch(name):
        return "labels"
    if name.endswith(".params"):
        return "params"
    if name.endswith(KERAS):
        return "h5"
    if name.endswith(".onnx"):
        return "onnx"
    if is_graph(file):
        return "graph"
    if name.endswith(".json"):
        if name.endswith("-symbol.json") or {"nodes", "heads"} <= read_object(file).keys():
            return "symbol"
        if is_architecture(file):
            return "architecture"
        return "labels" if NAMED_AS_LABELS.fullmatch(name) and lists_labels(file) else None
    return None


def _only(kind: str, files: list[Path]) -> Path:
    if len(files) > 1:
        raise ModelFormatError(f"{', '.join(file.name for file in files)}: {len(files)} files of one kind; name one")
    return files[0]


def _with_checkpoint(files: ImportFiles, params: list[Path]) -> ImportFiles:
    """Add the other file of a checkpoint, found beside the given one."""
    symbol = files.symbol
    if symbol is not None:
        stem = symbol.name.removesuffix(".json").removesuffix("-symbol")
        params = (
            params or sorted(symbol.parent.glob(f"{stem}-*.params")) or sorted(symbol.parent.glob(f"{stem}.params"))
        )
        if not params:
            raise ModelFormatError(f"{symbol} is a graph without parameters: name its .params file, too")
        return replace(files, params=_latest(params))
    if not params:
        return files
    latest = _latest(params)
    match = EPOCH.fullmatch(latest.name)
    beside = latest.with_name(f"{match['prefix'] if match else latest.stem}-symbol.json")
    if not beside.is_file():
        raise no_graph(latest)
    return replace(files, symbol=beside, params=latest)


def _latest(params: Iterable[Path]) -> Path:
    """Return the latest epoch of one network's parameters."""
    listed = list(params)
    epochs = {file: EPOCH.fullmatch(file.name) for file in listed}
    prefixes = {match["prefix"] if match else file.name for file, match in epochs.items()}
    if len(prefixes) > 1:
        _only("params", listed)
    return max(listed, key=lambda file: int(match["epoch"]) if (match := epochs[file]) else 0)


def make_folder(
    files: ImportFiles,
    signature: Signature,
    labels: tuple[str, ...] | None,
    folder: Path,
    name: str,
    parts: frozenset[str] = PARTS,
) -> None:
    """Make a model folder. The weights are copied unchanged.

    :param folder: the new folder, which must not exist.
    :param parts: the stated parts of the signature, as in :func:`app.formats.signature.write_signature`.
    :raises ModelFormatError: if a file cannot be read.
    """
    folder.mkdir(parents=True)
    write_manifest(folder, name)
    if files.symbol is not None and files.params is not None:
        shutil.copyfile(files.symbol, folder / f"{name}-symbol.json")
        shutil.copyfile(files.params, folder / f"{name}-0000.params")
    if files.h5 is not None:
        shutil.copyfile(files.h5, folder / keras_name(files.h5, name))
    if files.architecture is not None:
        shutil.copyfile(files.architecture, folder / "model.json")
    if files.onnx is not None:
        _copy_onnx(files.onnx, folder / f"{name}.onnx")
    if files.graph is not None:
        _copy_graph(files.graph, folder, name)
    write_signature(signature, folder / FILE_NAME, parts)
    if labels is not None:
        write_labels(folder, labels)


def keras_name(h5: Path, name: str) -> str:
    """Return the name of a Keras file in a model folder, with its own suffix."""
    return name + next((suffix for suffix in KERAS if h5.name.lower().endswith(suffix)), KERAS[0])


def write_backend(h5: Path, backend: str) -> None:
    """Write the training backend of the weights into an ``.h5`` file, which Keras 1 does not do.

    :raises ModelFormatError: if the file cannot be written.
    """
    import h5py

    try:
        with h5py.File(h5, "r+") as file:
            group = file.get("model_weights", file)
            group.attrs["backend"] = backend
    except OSError as error:
        raise ModelFormatError(f"{h5} cannot be written: {error}") from None


def _copy_onnx(source: Path, target: Path) -> None:
    """Copy an ``.onnx`` file; weights beside it are merged into the copy, because its name differs."""
    if not read_onnx(source).files:
        shutil.copyfile(source, target)
        return
    import onnx

    onnx.save(onnx.load(str(source)), str(target))


def _copy_graph(source: Path, folder: Path, name: str) -> None:
    """Copy a SavedModel without what training left in it, or the files of a network."""
    for file in graph_files(source):
        target = (
            folder / SAVED_FOLDER / file.relative_to(source) if source.is_dir() else folder / f"{name}{file.suffix}"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
