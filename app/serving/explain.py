"""Explanations by occlusion: parts of a picture are covered in turn, and the answers compared.

The method is from Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 4.2. It needs
only a network's outputs, so it works with every engine.
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

__all__ = ["box_of", "crop", "face_tensor", "input_size", "with_margin"]


def face_tensor(model: Model, image: Image.Image, box: Box | None) -> FloatArray:
    """Return the tensor (1, …) of a face, or of the whole picture."""
    region = crop(image, box) if box else image
    return to_tensor(region, model.preprocess, model.input.shape)


def with_margin(box: Box, whole: Box) -> Box:
    """Return a face's box with a margin of its own size on every side, clipped to the picture."""
    left, top = max(0, box.x - box.width), max(0, box.y - box.height)
    right, bottom = min(whole.width, box.x + 2 * box.width), min(whole.height, box.y + 2 * box.height)
    return Box(left, top, right - left, bottom - top)


def box_of(answer: Mapping[str, Any], face: int) -> Box | None:
    """Return a face's box from an answer document, or None if the whole picture was classified.

    :param face: 1 for the first.
    :raises BadParameter: if there are fewer faces.
    """
    faces = answer["faces"] or []
    if not 1 <= face <= max(1, len(faces)):
        raise BadParameter("face", face, f"a number from 1 to {max(1, len(faces))}")
    return Box(**faces[face - 1]["box"]) if faces else None


CELLS = 10
"""Rows and columns of the grid of cells: 100 coverings. Twice as many would take four times the computation and show no
more, because the patch is three cells wide."""
COVER = 3
"""Width and height of the patch in cells: a smaller patch hides too little to affect the network."""


@dataclass(frozen=True)
class Explanation:
    """The decrease of the probability of ``label`` for each covered part of the picture.

    ``drops`` is (CELLS, CELLS): row 0 is the top; values are positive for parts that support the answer, negative for
    parts that contradict it. ``region`` is the part of the picture that the network saw, in the picture's pixels.
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
    """Cover every cell in turn. Each row of cells queues separately, so concurrent requests wait for one row at most.

    :param tensor: (1, …), the network's input.
    :param region: part of the picture that became the tensor.
    :param label: label of the class to explain; None takes the most probable class.
    :raises BadParameter: if the model has no such class.
    :raises ModelUnavailable: as by the model; ``ClientClosedRequest`` if the client has disconnected.
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
    """Return the tensor with a cell and its neighbours covered by its mean colour."""
    result = tensor.copy()
    planes = result if preprocess.layout == "NCHW" else np.moveaxis(result, 3, 1)  # a view
    rows, columns = _span(row, planes.shape[2]), _span(column, planes.shape[3])
    planes[:, :, rows, columns] = planes.mean(axis=(2, 3), keepdims=True)
    return result


def seen_region(preprocess: Preprocess, shape: tuple[int, ...], size: Box) -> Box:
    """Return the part of a picture, or of a face in it, that reaches the network: all if it is stretched, the centre if
    it is cropped.

    :param size: the face, or the whole picture.
    """
    if preprocess.resize == "stretch":
        return size
    height, width = input_size(preprocess, shape)
    scale = max(preprocess.shorter_side / min(size.width, size.height), width / size.width, height / size.height)
    across, down = round(width / scale), round(height / scale)
    return Box(size.x + (size.width - across) // 2, size.y + (size.height - down) // 2, across, down)


def _span(cell: int, length: int) -> slice:
    """Return the slice from a cell's left neighbour to its right one, within the picture."""
    before = COVER // 2
    start, stop = max(0, cell - before), min(CELLS, cell + before + 1)
    return slice(start * length // CELLS, -(-stop * length // CELLS))


def _number(model: Model, label: str) -> int:
    try:
        return model.labels.index(label)
    except ValueError:
        some = ", ".join(model.labels[:5]) + (", …" if len(model.labels) > 5 else "")
        raise BadParameter("class", label, f"a label of the model {model.name}: {some}") from None
