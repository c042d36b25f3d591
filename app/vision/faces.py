"""Faces in a photograph, cropped like the smile network's training images."""

from __future__ import annotations

import numpy as np
from PIL import Image

from app.types import Box, FloatArray
from app.utils.dispatch import about_to_block
from app.vision import centerface

# Minimum score of a face, 0-1. Measured with `make faces`: docs/performance.md has recall and false faces.
MIN_SCORE = 0.6
# Minimum side of a face: as a fraction of the image's longer side, and in pixels. Smaller faces are a background crowd.
MIN_PART = 0.02
MIN_SIDE = 12

# Positions of the five points (eyes, nose, corners of the mouth) in a SMILEs crop, in units of its side. Determined
# with the detector itself: medians over 150 random SMILEs crops of the training and validation parts, enlarged to 192
# pixels and put into photographs with 96 pixels on every side. The points of one crop scatter by 0.04 (quartiles). The
# detector's box scatters by 0.08-0.14, and extends to a hairline that a crop does not have.
TEMPLATE = np.array([(0.267, 0.280), (0.762, 0.280), (0.514, 0.533), (0.307, 0.742), (0.712, 0.742)])
# Fraction of the side that fits the template. With it the probabilities are nearest to those of the SMILEs crops: they
# differ by 0.033 on average, and by 0.040 with the whole side (1,120 crops of the validation part in photographs).
TIGHTER = 0.95

# Maximum side of an image that may be a face crop: the SMILEs crops are 64 x 64.
CROP_SIDE = 128
CROP_ASPECT = 1.1


def load() -> None:
    """Load the detector, which otherwise loads at the first call of :func:`find_faces`.

    :raises ModelFormatError: if the package with its weights is missing or has unexpected content.
    """
    centerface.load()


def find_faces(image: Image.Image, limit: int = 20) -> tuple[Box, ...]:
    """Find faces, largest first, each as a crop like the smile network's training images.

    :param image: upright, RGB.
    :param limit: maximum number of faces.
    :returns: boxes within ``image``, in its pixels, squares unless its edge cuts them; no face occurs twice.
    :raises ModelFormatError: as :func:`load`.
    """
    about_to_block()
    faces = centerface.detect(image, MIN_SCORE)
    min_side = max(MIN_SIDE, MIN_PART * max(image.size))
    crops = [
        _crop_box(points, image.size)
        for points, box in zip(faces.points, faces.boxes, strict=True)
        if box[2] - box[0] >= min_side
    ]
    boxes = sorted((box for box in crops if box), key=lambda box: (-box.width * box.height, box.y, box.x))
    return tuple(boxes[:limit])


def is_face_crop(image: Image.Image, shape: tuple[int, ...]) -> bool:
    """Return whether an image is small and square, so that a network of this input shape uses it whole, without face
    detection.

    Small means at most ``CROP_SIDE`` pixels or the network's own input; square means a ratio of sides within
    ``CROP_ASPECT``.

    :param shape: shape of the network's input with its batch axis, in either layout.
    """
    longer, shorter = max(image.size), min(image.size)
    return longer <= max(CROP_SIDE, *shape[1:]) and longer <= CROP_ASPECT * shorter


def crop(image: Image.Image, box: Box) -> Image.Image:
    """Return the part of ``image`` within ``box``."""
    return image.crop((box.x, box.y, box.x + box.width, box.y + box.height))


def _crop_box(points: FloatArray, size: tuple[int, int]) -> Box | None:
    """Return the square around a face's points (5, 2) that corresponds to a SMILEs crop, cut at the edges of an image
    of ``size``; None if nothing is left.

    Only the mean of the points and their distance from it are used, so a tilted face has a crop of the same size.
    """
    centre, middle = points.mean(0), TEMPLATE.mean(0)
    side = np.sqrt(((points - centre) ** 2).sum() / ((TEMPLATE - middle) ** 2).sum())
    side *= TIGHTER
    left, top = np.rint(centre + (0.5 - middle) * side / TIGHTER - side / 2)
    right, bottom = min(left + round(side), size[0]), min(top + round(side), size[1])
    left, top = max(left, 0), max(top, 0)
    if right <= left or bottom <= top:
        return None
    return Box(int(left), int(top), int(right - left), int(bottom - top))
