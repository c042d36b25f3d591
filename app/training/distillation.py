"""Distillation: the predictions of a teacher network for the training pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from app.engines.loader import load
from app.formats.folder import open_model_folder
from app.training.recipes import DistillationOptions
from app.types import FloatArray
from app.utils.progress import track
from app.vision.preprocess import to_tensor


def predict_teacher(folder: Path, pictures: FloatArray, teaching: DistillationOptions) -> FloatArray:
    """Return the teacher's softened probabilities for every picture: (N, 3, H, W) of 0-1 -> (N, T).

    :param folder: folder of a model with colour input and a softmax.
    """
    opened = load(open_model_folder(folder), "auto")
    # the whole picture: the teacher must see the margins that the student sees
    preprocess = replace(opened.signature.preprocess, resize="stretch")
    shape = opened.signature.inputs[0].shape
    try:
        answers = [
            opened.engine.predict(to_tensor(_image(picture), preprocess, shape))[0]
            for picture in track(pictures, "teacher", len(pictures), "pictures")
        ]
    finally:
        opened.engine.close()
    return _soften(np.stack(answers), teaching.temperature)


def _image(picture: FloatArray) -> Image.Image:
    return Image.fromarray(np.rint(picture.transpose(1, 2, 0) * 255).astype(np.uint8))


def _soften(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Return the softmax of the network's scores divided by ``temperature``."""
    powers = np.maximum(probabilities, 1e-8) ** (1 / temperature)
    soft: FloatArray = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return soft
