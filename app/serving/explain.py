"""Explanations: one part of a picture after the other is covered, and the answers compared.

The method is occlusion (Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 4.2). It
asks nothing of a network but its answers, so that it works for every engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from app.backend.batching import IsDisconnected, never_disconnected
from app.errors import BadParameter, ClientClosedRequest
from app.serving.model import Model
from app.types import Box, FloatArray, Preprocess
from app.vision.faces import crop
from app.vision.preprocess import input_size, to_tensor

__all__ = ["box_of", "crop", "face_tensor", "with_margin"]


def face_tensor(model: Model, image: Image.Image, box: Box | None) -> FloatArray:
    """Return the tensor (1, …) of a face, or of the whole picture."""
    region = crop(image, box) if box else image
    return to_tensor(region, model.preprocess, model.input.shape)


def with_margin(box: Box, whole: Box) -> Box:
    """Return a face with as much again on every side, as far as the picture goes."""
    left, top = max(0, box.x - box.width), max(0, box.y - box.height)
    right, bottom = min(whole.width, box.x + 2 * box.width), min(whole.height, box.y + 2 * box.height)
    return Box(left, top, right - left, bottom - top)


def box_of(answer: Mapping[str, Any], face: int) -> Box | None:
    """Return where a face is, by an answer's document; None where the whole picture was classified.

    :param face: 1 for the first.
    :raises BadParameter: where there are not so many.
    """
    faces = answer["faces"] or []
    if not 1 <= face <= max(1, len(faces)):
        raise BadParameter("face", face, f"a number from 1 to {max(1, len(faces))}")
    return Box(**faces[face - 1]["box"]) if faces else None


CELLS = 10
"""The picture is taken apart into so many rows of as many cells: 100 coverings. Twice as many rows cost four times the
computing, and show no more, because what covers is three cells wide."""
COVER = 3
"""Cells that are covered at once, across and down: a smaller patch hides too little to be missed by the network."""


@dataclass(frozen=True)
class Explanation:
    """How much the probability of ``label`` falls where a part of the picture is covered.

    ``drops`` is (CELLS, CELLS): row 0 is the top; positive where the answer rests on that part, negative where the
    part speaks against it. ``region`` is what the network saw of the picture, in the picture's pixels.
    """

    label: str
    probability: float
    drops: FloatArray
    region: Box


def explain(
    model: Model,
    tensor: FloatArray,
    region: Box,
    label: str | None = None,
    is_disconnected: IsDisconnected = never_disconnected,
) -> Explanation:
    """Cover every cell in turn. Each row of cells is a turn of its own in the model's line, so that whoever asks at the
    same time waits for one row at most.

    :param tensor: (1, …), what the network saw.
    :param region: of the picture, that became the tensor.
    :param label: of the class to be explained; None takes the most probable one.
    :raises BadParameter: where the model has no such class.
    :raises ModelUnavailable: as by the model; ``ClientClosedRequest`` if the client has left.
    """
    number = None if label is None else _number(model, label)
    row = model.submit_scores(tensor, is_disconnected).result[0]
    if number is None:
        number = int(np.argmax(row))
    drops = np.zeros((CELLS, CELLS), np.float32)
    for index in range(CELLS):
        if is_disconnected():
            raise ClientClosedRequest(model.name)
        batch = np.concatenate([cover_cell(tensor, model.preprocess, index, column) for column in range(CELLS)])
        drops[index] = row[number] - model.submit_scores(batch, is_disconnected).result[:, number]
    return Explanation(model.labels[number], float(row[number]), drops, region)


def cover_cell(tensor: FloatArray, preprocess: Preprocess, row: int, column: int) -> FloatArray:
    """Return the tensor with its mean colour over a cell and its neighbours."""
    channels_first = preprocess.layout == "NCHW"
    axes = (2, 3) if channels_first else (1, 2)
    height, width = tensor.shape[axes[0]], tensor.shape[axes[1]]
    rows, columns = _span(row, height), _span(column, width)
    result = tensor.copy()
    mean = tensor.mean(axis=axes, keepdims=True)
    if channels_first:
        result[:, :, rows, columns] = mean
    else:
        result[:, rows, columns, :] = mean
    return result


def seen_region(preprocess: Preprocess, shape: tuple[int, ...], size: Box) -> Box:
    """Return the part of a picture, or of a face in it, that reaches the network: all, where it is stretched; where it
    is cropped, the centre.

    :param shape: of the network's input.
    :param size: the face, or the whole picture.
    """
    if preprocess.resize == "stretch":
        return size
    height, width = input_size(preprocess, shape)
    scale = max(preprocess.shorter_side / min(size.width, size.height), width / size.width, height / size.height)
    across, down = round(width / scale), round(height / scale)
    return Box(size.x + (size.width - across) // 2, size.y + (size.height - down) // 2, across, down)


def _span(cell: int, length: int) -> slice:
    """From a cell's left neighbour to its right one, within the picture."""
    before = COVER // 2
    start, stop = max(0, cell - before), min(CELLS, cell + before + 1)
    return slice(start * length // CELLS, -(-stop * length // CELLS))


def _number(model: Model, label: str) -> int:
    try:
        return model.labels.index(label)
    except ValueError:
        some = ", ".join(model.labels[:5]) + (", …" if len(model.labels) > 5 else "")
        raise BadParameter("class", label, f"a label of the model {model.name}: {some}") from None
