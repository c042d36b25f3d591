"""A reader of the ``.keras`` format of Keras 2.12 to 3, and of its weights alone (``.weights.h5``).

Format: a zip of ``config.json`` (the architecture), ``metadata.json`` (Keras's version) and ``model.weights.h5``. In
the latter each model has a group ``layers``, and each of its layers a group there: the name of its class in snake case,
with a number from the second of a kind on. The arrays are the datasets ``0``, ``1`` … of a group ``vars``, what is
trained first; those of a wrapped layer are further down. Keras 2.12 calls ``layers`` otherwise.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from app.errors import InvalidArchive, ModelFormatError
from app.formats.archive.unpack import ZIP, Limits, SizeLimiter, read_entries
from app.formats.hdf5 import Arrays, member
from app.formats.keras_graph import Leaf, Nested
from app.formats.keras_weights import roles
from app.utils.json import MAX_BYTES, parse_json

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
LISTS = ("layers", "_layer_checkpoint_dependencies")
"""Names of the group of a model's layers."""
MAX_METADATA = 2**16


@dataclass(frozen=True)
class Saved:
    """An unpacked ``.keras`` file: its architecture, Keras's version, and the file of its weights."""

    config: Any
    keras_version: str
    weights: Path


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip.

    :raises OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(ZIP[0])) == ZIP[0]


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Saved]:
    """Unpack a ``.keras`` file to a temporary folder, with every size bounded.

    :raises ModelFormatError: if it is damaged, exceeds the limits of archives, or lacks a part.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = _unpack(path, Path(folder))
        except InvalidArchive as error:
            raise ModelFormatError(str(error)) from None
        if missing := [name for name in (CONFIG, WEIGHTS) if name not in files]:
            raise ModelFormatError(
                f"it is a zip without {' and '.join(missing)}, not a file of Keras; "
                "save the model with model.save('x.keras')"
            )
        metadata = _document(files[METADATA], METADATA) if METADATA in files else {}
        version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
        yield Saved(_document(files[CONFIG], CONFIG), version, files[WEIGHTS])


def _unpack(path: Path, folder: Path) -> dict[str, Path]:
    """Write the known entries of a ``.keras`` file to a folder."""
    limits = {CONFIG: MAX_BYTES, METADATA: MAX_METADATA, WEIGHTS: Limits().entry_bytes}
    meter, files = SizeLimiter(Limits(), path.stat().st_size), {}
    for entry in read_entries(path, Limits()):
        meter.begin_entry()
        if entry.name not in limits or entry.pieces is None:
            continue
        if entry.name in files:
            raise ModelFormatError(f"it has two entries {entry.name}")
        files[entry.name] = folder / entry.name
        with files[entry.name].open("xb") as file:
            for piece in entry.pieces():
                meter.add(len(piece))
                file.write(piece)
                if file.tell() > limits[entry.name]:
                    raise ModelFormatError(f"its {entry.name} is longer than {limits[entry.name]:,} bytes")
    return files


def _document(path: Path, name: str) -> Any:
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise ModelFormatError(f"its {name} is not JSON: {error}") from None


def is_store(group: Any) -> bool:
    """Return whether an open HDF5 file has weights as ``.weights.h5`` files have them."""
    return any(name in group for name in LISTS)


def stored_weights(group: Any, model: Nested, arrays: Arrays) -> dict[Leaf, dict[str, NDArray[Any]]]:
    """Read the arrays of a model's layers, and of its inner models' layers, by role.

    :param group: the open HDF5 file, or the group of an inner model in it.
    :param model: the model, in the format of Keras 2.
    :raises ModelFormatError: if a layer's arrays are missing or not as many as it has.
    """
    found: dict[Leaf, dict[str, NDArray[Any]]] = {}
    name, counted = next((name for name in LISTS if name in group), LISTS[0]), Counter[str]()
    for child in model.children:
        path = f"{name}/{group_name(child.class_name, counted)}"
        if isinstance(child, Nested):
            if any(sum(map(len, roles(leaf.class_name, leaf.config))) for leaf in child.leaves()):
                found |= stored_weights(member(group, path), child, arrays)
        elif places := array_places(child):
            found[child] = {}
            for place, listed in places.items():
                found[child] |= _take(group, f"{path}/{place}", child, listed, arrays)
    return found


def _take(group: Any, path: str, leaf: Leaf, listed: list[str], arrays: Arrays) -> dict[str, NDArray[Any]]:
    stored = member(group, path)
    if len(stored) != len(listed):
        raise ModelFormatError(
            f"its layer {leaf.name} has {len(listed)} arrays of weights, and the file holds {len(stored)} for it"
        )
    return {role: arrays.take(stored, str(number)) for number, role in enumerate(listed)}


def group_name(class_name: str, counted: Counter[str]) -> str:
    """Return the name of the next layer's group: ``conv2d``, and ``conv2d_1`` for the second of a kind.

    :param counted: the layers of the model so far by their kinds; it is updated.
    """
    name = snake_case(class_name)
    counted[name] += 1
    return f"{name}_{counted[name] - 1}" if counted[name] > 1 else name


def snake_case(name: str) -> str:
    """Return the name of a class as Keras names its group: ``MaxPooling2D`` is ``max_pooling2d``."""
    parted = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parted).lower()


def array_places(leaf: Leaf) -> dict[str, list[str]]:
    """Return the roles of a layer's arrays by the group, below the layer's own, that has them in this order."""
    inner: Mapping[str, Any] = leaf.config.get("layer") or {}
    wrapped = "cell/vars" if str(inner.get("class_name")) in RECURRENT else "vars"
    listed = [role for part in roles(leaf.class_name, leaf.config) for role in part]
    if not listed:
        return {}
    if leaf.class_name == "Bidirectional":
        ways = ("forward", "backward")
        return {f"{way}_layer/{wrapped}": [role for role in listed if role.startswith(way)] for way in ways}
    if leaf.class_name == "TimeDistributed":
        return {f"layer/{wrapped}": listed}
    return {"cell/vars" if leaf.class_name in RECURRENT else "vars": listed}


RECURRENT = ("SimpleRNN", "GRU", "LSTM")
