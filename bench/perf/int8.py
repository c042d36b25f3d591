"""ResNet-50 as eight-bit integers, in a home of its own, to be compared with MMS's own of 32-bit floats."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from app.engines.quantization import can_quantize, quantize
from app.formats.folder import open_model_folder
from app.types import FloatArray, Preprocess
from app.vision.preprocess import to_tensor
from bench.perf.subjects import INT8, RESNET, Subject

SAMPLES = 60
SEED = 7
LEAST = 0.0
"""Whether it calls pictures as before is no question of speed; weights from a seed call them by chance."""


def int8_of(subjects: Sequence[Subject], store: Path, cache: Path) -> Subject | None:
    """Quantize the ResNet-50 among the networks, if it is there and NNCF is installed.

    :param store: the parent of the quantized model's folder.
    :param cache: of what is converted for OpenVINO.
    """
    found = [subject for subject in subjects if subject.name == RESNET]
    if not found or not can_quantize():
        return None
    folder = store / INT8
    shutil.copytree(found[0].source, folder)
    work = store / "rows"
    work.mkdir()
    files = (work / "calibration", work / "held-out")
    model = open_model_folder(folder)
    assert model.signature is not None  # every subject has one
    rows = _rows(found[0].picture, model.signature.preprocess, model.signature.inputs[0].shape)
    for file in files:
        file.write_bytes(b"".join(next(rows).tobytes() for _ in range(SAMPLES // 2)))
    quantize(model, "auto", cache, files, LEAST)
    shutil.rmtree(work)
    return Subject(INT8, folder, found[0].picture, f"{found[0].origin}; MMS's is of 32-bit floats")


def _rows(picture: Path, preprocess: Preprocess, shape: tuple[int, ...]) -> Iterator[FloatArray]:
    """Yield parts of a picture, as the network takes them."""
    random = np.random.default_rng(SEED)
    with Image.open(picture) as opened:
        whole = opened.convert("RGB")
    while True:
        side = int(random.integers(80, min(whole.size)))
        left, top = (int(random.integers(0, edge - side + 1)) for edge in whole.size)
        yield to_tensor(whole.crop((left, top, left + side, top + side)), preprocess, shape)
