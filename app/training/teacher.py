"""What the ImageNet model says of training pictures, for a smaller network to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from app.engines.opening import load
from app.formats.folder import open_model_folder
from app.types import FloatArray
from app.vision.preprocess import to_tensor


def teach(pictures: FloatArray, folder: Path) -> FloatArray:
    """The probabilities (N, 1000) of ImageNet's classes for pictures (N, 3, H, W), RGB, 0-1.

    :param folder: the model folder of the teacher.
    :raises ModelFormatError: where it holds no model that can be loaded.
    """
    opened = load(open_model_folder(folder))
    preprocess, shape = opened.signature.preprocess, opened.signature.inputs[0].shape
    rows = []
    for picture in tqdm(pictures, desc="asking the teacher", unit=" pictures", mininterval=1, disable=None):
        image = Image.fromarray((picture.transpose(1, 2, 0) * 255).round().astype(np.uint8))
        rows.append(opened.engine.predict(to_tensor(image, preprocess, shape)))
    opened.engine.close()
    return np.concatenate(rows)
