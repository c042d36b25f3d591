"""The part of a picture that a network looks at, as its tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from app.errors import BadParameter
from app.serving.model import Model
from app.types import Box, FloatArray
from app.vision.faces import crop
from app.vision.preprocess import to_tensor

__all__ = ["around", "box_of", "crop", "look"]


def look(model: Model, image: Image.Image, box: Box | None) -> FloatArray:
    """The tensor (1, …) of a face, or of the whole picture."""
    region = crop(image, box) if box else image
    return to_tensor(region, model.preprocess, model.input.shape)


def around(box: Box, whole: Box) -> Box:
    """A face with as much again on every side, as far as the picture goes."""
    left, top = max(0, box.x - box.width), max(0, box.y - box.height)
    right, bottom = min(whole.width, box.x + 2 * box.width), min(whole.height, box.y + 2 * box.height)
    return Box(left, top, right - left, bottom - top)


def box_of(answer: Mapping[str, Any], face: int) -> Box | None:
    """Where a face is, by an answer's document; None where the whole picture was classified.

    :param face: 1 for the first.
    :raises BadParameter: where there are not so many.
    """
    faces = answer["faces"] or []
    if not 1 <= face <= max(1, len(faces)):
        raise BadParameter("face", face, f"a number from 1 to {max(1, len(faces))}")
    return Box(**faces[face - 1]["box"]) if faces else None
