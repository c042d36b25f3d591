"""Loose files of a model: which of the files that somebody names is what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.errors import ModelFormatError
from app.formats.folder import SYNSET
from app.formats.json_text import read_json
from app.formats.keras_h5 import architecture_beside, is_architecture
from app.formats.missing import no_graph
from app.formats.signature import FILE_NAME as SIGNATURE

H5 = (".h5", ".hdf5", ".keras")
ARCHIVES = (".mar", ".model")
EPOCH = re.compile(r"(?P<prefix>.+)-(?P<epoch>\d+)\.params")


@dataclass(frozen=True)
class Loose:
    """The files of one model, None where there is none. One of ``symbol`` (with ``params``), ``h5`` and ``onnx`` is
    there, and only one."""

    symbol: Path | None = None
    params: Path | None = None
    h5: Path | None = None
    architecture: Path | None = None
    onnx: Path | None = None
    signature: Path | None = None
    labels: Path | None = None

    @property
    def weights(self) -> Path:
        """The file that the model is called after."""
        found = self.params or self.h5 or self.onnx
        assert found is not None
        return found

    @property
    def stem(self) -> str:
        """What the files call the model."""
        if self.symbol is not None:
            return self.symbol.name.removesuffix(".json").removesuffix("-symbol")
        return re.sub(r"[_.\-]weights$", "", self.weights.stem)


def gather(paths: Sequence[Path]) -> Loose:
    """Find out what files are; of folders, what lies in them. What a file asks for is looked for beside it.

    :raises ModelFormatError: where a file is none that is known, there are two of a kind, or a part is missing.
    """
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    found: dict[str, list[Path]] = {}
    named = {path for path in paths if not path.is_dir()}
    for file in files:
        kind = _kind(file)
        if kind is None and file in named:
            raise ModelFormatError(
                f"{file} is none of the files that are known: *-symbol.json, *.params, *.h5, *.onnx, a model.json of "
                "Keras, signature.json, or synset.txt"
            )
        if kind is not None and file not in found.get(kind, ()):
            found.setdefault(kind, []).append(file)
    params = found.pop("params", [])
    loose = Loose(**{kind: _only(kind, listed) for kind, listed in found.items()})
    loose = _with_checkpoint(loose, params)
    if loose.h5 is not None and loose.architecture is None:
        loose = replace(loose, architecture=architecture_beside(loose.h5))
    kinds = [file.name for file in (loose.symbol, loose.h5, loose.onnx) if file is not None]
    if len(kinds) > 1:
        raise ModelFormatError(f"{', '.join(kinds)} are several models; name the files of one")
    if not kinds:
        raise ModelFormatError(
            f"{', '.join(str(path) for path in paths)}: there are no weights: neither *-symbol.json with *.params nor "
            "*.h5 nor *.onnx"
        )
    return loose


def _kind(file: Path) -> str | None:
    """What a file is, by its name; JSON by its content."""
    name = file.name.lower()
    if not file.is_file():
        return None  # a folder in a folder
    if name.endswith(ARCHIVES):
        raise ModelFormatError(f"{file} is an archive: flask models unpack {file}")
    if name == SIGNATURE:
        return "signature"
    if name == SYNSET or (name.endswith(".txt") and re.search("synset|label|class", name)):
        return "labels"
    if name.endswith(".params"):
        return "params"
    if name.endswith(H5):
        return "h5"
    if name.endswith(".onnx"):
        return "onnx"
    if name.endswith(".json"):
        return "symbol" if name.endswith("-symbol.json") or _is_symbol(file) else _architecture(file)
    return None


def _architecture(file: Path) -> str | None:
    return "architecture" if is_architecture(file) else None


def _is_symbol(file: Path) -> bool:
    try:
        document: Any = read_json(file)
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and {"nodes", "heads"} <= set(document)


def _only(kind: str, files: list[Path]) -> Path:
    if len(files) > 1:
        raise ModelFormatError(f"{', '.join(file.name for file in files)}: {len(files)} files of one kind; name one")
    return files[0]


def _with_checkpoint(loose: Loose, params: list[Path]) -> Loose:
    """Bring the two files of a checkpoint together; one alone finds the other beside it."""
    symbol = loose.symbol
    if symbol is not None:
        stem = symbol.name.removesuffix(".json").removesuffix("-symbol")
        params = (
            params or sorted(symbol.parent.glob(f"{stem}-*.params")) or sorted(symbol.parent.glob(f"{stem}.params"))
        )
        if not params:
            raise ModelFormatError(f"{symbol} is a graph without parameters: name its .params file, too")
        return replace(loose, params=_latest(params))
    if not params:
        return loose
    latest = _latest(params)
    found = EPOCH.fullmatch(latest.name)
    beside = latest.with_name(f"{found['prefix'] if found else latest.stem}-symbol.json")
    if not beside.is_file():
        raise no_graph(latest)
    return replace(loose, symbol=beside, params=latest)


def _latest(params: Iterable[Path]) -> Path:
    """The latest epoch of one network's parameters."""
    listed = list(params)
    epochs = {file: EPOCH.fullmatch(file.name) for file in listed}
    prefixes = {found["prefix"] if found else file.name for file, found in epochs.items()}
    if len(prefixes) > 1:
        _only("params", listed)
    return max(listed, key=lambda file: int(found["epoch"]) if (found := epochs[file]) else 0)
