"""The pipeline from bytes to an answer: decode, find faces, preprocess, compute, sort."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from app.backend.batching import FairSemaphore, IsDisconnected, never_disconnected
from app.serving.model import Model, best
from app.settings import PictureLimits
from app.telemetry import metrics
from app.types import Answer, Box, Face, FloatArray
from app.utils.system import cpu_count
from app.vision.decode import decode
from app.vision.faces import crop, find_faces, is_face_crop
from app.vision.preprocess import to_tensor
from app.vision.sniff import SUFFIXES

NO_FACE = "No face was found; the picture was classified as a whole."


_slots = FairSemaphore(cpu_count())
"""Pictures that may be open at once. One of the largest takes hundreds of megabytes, and more threads than cores decode
no faster."""


@dataclass(frozen=True)
class Picture:
    """An upright RGB picture, the milliseconds of decoding, and the seconds of waiting before it.

    ``image`` may be smaller than the picture in the file, whose width and height are ``size``. ``suffix`` is that of
    files in its format (".jpg", ".png", …); ``note`` is a note on the file for the client.
    """

    image: Image.Image
    milliseconds: float
    size: tuple[int, int]
    suffix: str = ""
    note: str = ""
    waited: float = 0.0


@contextmanager
def open_picture(data: bytes, limits: PictureLimits, enough: int = 0) -> Iterator[Picture]:
    """Decode the bytes of a JPEG, PNG, GIF, WebP, AVIF, BMP or TIFF file.

    This waits while as many pictures are open as there are cores, so close the picture soon.

    :param limits: maximum numbers of pixels and frames.
    :param enough: as for :func:`app.vision.decode.decode`.
    :raises BadInput: if the bytes are not a readable picture, or it is too large.
    """
    arrived = time.perf_counter()
    with _slots:
        started = time.perf_counter()
        decoded = decode(data, limits, enough)
        took = _since(started)
        yield Picture(decoded.image, took, decoded.size, SUFFIXES[decoded.format], decoded.note, started - arrived)


@dataclass(frozen=True)
class PreparedInput:
    """The network's input for a picture: a tensor (N, …) for its N faces, or (1, …) for the whole; the faces' boxes in
    pixels of the file's picture, None if no faces were searched for; the milliseconds of each step; the picture's note;
    the seconds of waiting before decoding."""

    tensor: FloatArray
    boxes: tuple[Box, ...] | None
    timing: dict[str, float]
    note: str = ""
    waited: float = 0.0


def classify(
    model: Model,
    data: bytes,
    limits: PictureLimits,
    top: int | None = None,
    is_disconnected: IsDisconnected = never_disconnected,
) -> Answer:
    """Decode and classify a picture in its turn.

    :param top: number of classes to return; None uses the model's number, a larger number than there are returns all.
    :raises BadInput: as :func:`open_picture`.
    :raises ModelUnavailable: if it waited too long; see :class:`app.backend.batching.BatchQueue`.
    """
    with open_picture(data, limits, model.draft_side) as picture:
        prepared = prepare(model, picture)
    return postprocess(model, prepared, top, is_disconnected)


def answer(model: Model, picture: Picture, top: int | None = None) -> Answer:
    """Classify an open picture."""
    return postprocess(model, prepare(model, picture), top)


def prepare(model: Model, picture: Picture) -> PreparedInput:
    """Find the faces if the model classifies faces, and create tensors."""
    image, timing = picture.image, {"decode": picture.milliseconds}
    started = time.perf_counter()
    boxes = _faces_of(model, image)
    regions = [crop(image, box) for box in boxes] if boxes else [image]
    timing["faces"] = _since(started)

    started = time.perf_counter()
    tensors = [to_tensor(region, model.preprocess, model.input.shape) for region in regions]
    tensor = tensors[0] if len(tensors) == 1 else np.concatenate(tensors)
    timing["preprocess"] = _since(started)
    metrics.stages(model.name, timing)
    scaled = boxes and tuple(_scaled(box, image.size, picture.size) for box in boxes)
    return PreparedInput(tensor, scaled, timing, picture.note, picture.waited)


def postprocess(
    model: Model, prepared: PreparedInput, top: int | None = None, is_disconnected: IsDisconnected = never_disconnected
) -> Answer:
    """Compute the probabilities, and sort the classes by them."""
    started = time.perf_counter()
    done = model.submit_scores(prepared.tensor, is_disconnected, prepared.waited)
    queued = 1000 * (done.waited - prepared.waited)
    timing = {**prepared.timing, "queue": round(1000 * done.waited, 3), "predict": round(_since(started) - queued, 3)}

    count = model.postprocess.top if top is None else top
    results = [best(row, model.labels, count) for row in done.result]
    boxes = prepared.boxes
    faces = None if boxes is None else tuple(Face(box, result) for box, result in zip(boxes, results, strict=False))
    timing["total"] = round(sum(timing.values()), 3)
    note = " ".join(item for item in (prepared.note, NO_FACE if faces == () else "") if item)
    return Answer(model.name, model.version, results[0], faces, timing, note)


def _faces_of(model: Model, image: Image.Image) -> tuple[Box, ...] | None:
    """Return the faces to classify, or None if the model or the picture needs no search."""
    if not model.preprocess.faces or is_face_crop(image, model.input.shape):
        return None
    return find_faces(image)


def _scaled(box: Box, size: tuple[int, int], full: tuple[int, int]) -> Box:
    """Return a box of a picture of ``size`` in the pixels of the same picture at its ``full`` size."""
    if size == full:
        return box
    across, down = full[0] / size[0], full[1] / size[1]
    left, top = round(box.x * across), round(box.y * down)
    right, bottom = round((box.x + box.width) * across), round((box.y + box.height) * down)
    return Box(left, top, min(right, full[0]) - left, min(bottom, full[1]) - top)


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
