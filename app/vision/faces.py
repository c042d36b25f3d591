"""Where the faces are, cut as the smile network has learnt to see them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from app.long_waits import long_wait
from app.types import Box
from app.vision import opencv

# The search is done on a copy of at most this many pixels a side, as its cost grows with the pixels: 0.1-0.2 s for
# 500 x 375 and about half a second for 1000 x 1000 on one core of the reference machine.
SEARCH_SIDE = 1000
# A face is at least this part of the longer side, and at least so many pixels of the copy: below, walls have faces.
MIN_PART = 0.03
MIN_SIDE = 24
# How often the cascade must hit a face. Among 600 photographs of cats and dogs (Kaggle's), most of them close up, six
# hits find a face in 3 %, five in 3.5 %, three in 11 %; of 450 SMILEs crops with a border, six hits find 93 %.
MIN_HITS = 6
# Two boxes that share more than this part of the smaller one are one face.
MAX_SHARED = 0.3

# The cascade's box goes from hairline to chin, a SMILEs crop from brow to below the mouth. So the face is this part of
# the box: left, top and side, each as a part of the box's side. Determined with the cascade itself: on 400 random
# SMILEs crops, enlarged to 192 pixels and given a border of 96, it found a box in 389, whose median in units of the
# crop is left -0.141, top -0.266, side 1.297 (quartiles of the side 1.245-1.339); FRAME is its inverse. Checked with
# the eyes, which lie at a height of 0.25 in the crops, and at 0.21-0.27 in faces of other photographs cut by FRAME.
FRAME = (0.108, 0.205, 0.771)

# The longest side of a picture that may be a face crop: the SMILEs crops are 64 x 64.
CROP_SIDE = 128
CROP_ASPECT = 1.1


def find_faces(image: Image.Image, limit: int = 20) -> tuple[Box, ...]:
    """Find upright frontal faces, the largest first, each as a crop of the kind that the smile network has learnt from.

    :param image: upright, RGB.
    :param limit: most faces that are returned.
    :returns: boxes within ``image``, in its pixels, cut as ``FRAME`` says; no face is reported twice.
    """
    long_wait()
    grey = image.convert("L")
    grey.thumbnail((SEARCH_SIDE, SEARCH_SIDE), Image.Resampling.BILINEAR)
    min_side = max(MIN_SIDE, round(MIN_PART * max(grey.size)))
    found = opencv.detect_faces(np.asarray(grey), min_side)
    likely = sorted((hit for hit in found if hit[1] >= MIN_HITS), key=lambda hit: -hit[1])
    boxes = _without_overlaps([Box(*box) for box, _ in likely])
    boxes.sort(key=lambda box: (-box.width * box.height, box.y, box.x))
    return tuple(_framed(box, grey.size, image.size) for box in boxes[:limit])


def is_face_crop(image: Image.Image, shape: tuple[int, ...]) -> bool:
    """True for what a network of this input shape takes whole, without a search: a small and square picture.

    Small is at most ``CROP_SIDE`` pixels or the network's own input, square is a ratio of sides within ``CROP_ASPECT``.

    :param shape: the network's input with its batch axis, in either layout.
    """
    longer, shorter = max(image.size), min(image.size)
    return longer <= max(CROP_SIDE, *shape[1:]) and longer <= CROP_ASPECT * shorter


def crop(image: Image.Image, box: Box) -> Image.Image:
    """The part of ``image`` within ``box``."""
    return image.crop((box.x, box.y, box.x + box.width, box.y + box.height))


def _without_overlaps(boxes: list[Box]) -> list[Box]:
    """Of boxes that overlap or lie in one another, the first."""
    kept: list[Box] = []
    for box in boxes:
        if all(_shared(box, other) <= MAX_SHARED for other in kept):
            kept.append(box)
    return kept


def _shared(one: Box, two: Box) -> float:
    """The common area, as a part of the smaller box's."""
    width = min(one.x + one.width, two.x + two.width) - max(one.x, two.x)
    height = min(one.y + one.height, two.y + two.height) - max(one.y, two.y)
    smaller = min(one.width * one.height, two.width * two.height)
    return max(0, width) * max(0, height) / smaller


def _framed(box: Box, searched: tuple[int, int], size: tuple[int, int]) -> Box:
    """From the cascade's box in the searched copy to the face's box in the picture of ``size``."""
    left, top, side = FRAME
    across, down = size[0] / searched[0], size[1] / searched[1]
    x = round((box.x + left * box.width) * across)
    y = round((box.y + top * box.height) * down)
    width = min(round(side * box.width * across), size[0] - x)
    height = min(round(side * box.height * down), size[1] - y)
    return Box(x, y, width, height)
