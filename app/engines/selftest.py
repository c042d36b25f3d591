"""A self-test: a picture in the model folder with the expected output, checked before the model serves requests.

``selftest.json`` beside the picture::

    {"picture": "selftest.jpg", "probabilities": [0.0133, 0.9867], "tolerance": 0.001}

``probabilities`` are the probabilities of all classes for the whole picture, in the network's order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.base import Engine
from app.engines.loader import load
from app.engines.parity import activate
from app.errors import BadInput, ModelFormatError
from app.formats.folder import ModelFolder
from app.settings import PictureLimits
from app.types import FloatArray, Signature
from app.utils.files import atomic_write
from app.utils.json import read_json
from app.vision.decode import decode
from app.vision.preprocess import to_tensor

FILE = "selftest.json"
TOLERANCE = 1e-3
"""Default tolerance of a probability: ten times the permitted difference between engines."""


def check_selftest(folder: Path, engine: Engine, signature: Signature) -> float | None:
    """Compare a loaded network's output for its self-test picture with the expected one.

    :returns: the largest difference of a probability; None if the folder has no picture.
    :raises ModelFormatError: if the difference exceeds the tolerance, or the file cannot be used.
    """
    if not (folder / FILE).is_file():
        return None
    picture, expected, tolerance = _read(folder)
    actual = answer(picture, engine, signature)
    if actual.shape != expected.shape:
        raise ModelFormatError(f"{folder / FILE} has {expected.size} probabilities, the network has {actual.size}")
    worst = float(np.abs(actual - expected).max())
    if not worst <= tolerance:
        raise ModelFormatError(
            f"{folder} fails its self-test: of {picture.name} a probability differs by {worst:.3g}, more than "
            f"{tolerance:g}. If the network was changed on purpose, write it anew: dimple cluster selftest"
        )
    return worst


def write_selftest(model: ModelFolder, picture: Path, engine: str, cache_dir: Path | None) -> Path:
    """Write a picture, and the network's current output for it, into the model folder.

    :param engine: engine that computes the output, as in :func:`app.engines.loader.load`, like ``cache_dir``.
    :raises ModelFormatError: if the model or the picture cannot be read, or the folder is not writable.
    """
    opened, folder = load(model, engine, cache_dir), model.path
    target = folder / f"selftest{picture.suffix.lower()}"
    try:
        probabilities = answer(picture, opened.engine, opened.signature)
    finally:
        opened.engine.close()
    document = {
        "picture": target.name,
        "probabilities": [float(f"{probability:.9g}") for probability in probabilities],
        "tolerance": TOLERANCE,
    }
    try:
        atomic_write(target, picture.read_bytes())
        atomic_write(folder / FILE, json.dumps(document) + "\n")
    except OSError as error:
        raise ModelFormatError(f"{folder} cannot be written: {error}") from None
    return folder / FILE


def answer(picture: Path, engine: Engine, signature: Signature) -> FloatArray:
    """Return a network's output for a whole picture: (classes,).

    :raises ModelFormatError: if the picture cannot be read.
    """
    try:
        image = decode(picture.read_bytes(), PictureLimits()).image
    except (OSError, BadInput) as error:
        raise ModelFormatError(f"the self-test's picture {picture} cannot be read: {error}") from None
    tensor = to_tensor(image, signature.preprocess, signature.inputs[0].shape)
    return activate(engine.predict(tensor), signature.postprocess.activation)[0]  # type: ignore[no-any-return]


def _read(folder: Path) -> tuple[Path, FloatArray, float]:
    try:
        document: Any = read_json(folder / FILE)
        picture = folder / Path(str(document["picture"])).name
        expected = np.array(document["probabilities"], np.float64)
        return picture, expected, float(document.get("tolerance", TOLERANCE))  # type: ignore[return-value]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelFormatError(f"{folder / FILE} cannot be read: {type(error).__name__}: {error}") from None
