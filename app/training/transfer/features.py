"""What the body sees in every picture."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import BadInput, DataError, DimpleError, EmptyFile
from app.formats.pictures import PictureSource
from app.picture_limits import PictureLimits
from app.progress import progress, say
from app.training.duplicates import Thumbnails, thumbnail
from app.training.transfer.body import Body, open_body
from app.types import FloatArray
from app.vision.decode import decode
from app.vision.preprocess import to_tensor

BATCH = 16
"""Pictures that the network sees at once. Eight or thirty-two are no faster."""


@dataclass(frozen=True)
class Features:
    """What was seen in N pictures, in the order in which they were given.

    ``rows`` is (N, F); ``mirrored`` is the same of the pictures turned left to right, or None where it was not asked
    for. ``classes`` is (N,), ``thumbnails`` (N, 16, 16). ``skipped`` names the pictures that could not be read.
    """

    rows: FloatArray
    mirrored: FloatArray | None
    classes: NDArray[np.int64]
    thumbnails: Thumbnails
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Picture:
    tensor: FloatArray
    small: Thumbnails
    number: int


def see(
    body: Body,
    source: PictureSource,
    pictures: Sequence[tuple[str, int]],
    limits: PictureLimits,
    with_mirrored: bool,
    threads: int,
) -> Features:
    """Compute the features of pictures, decoded and prepared as the server does it. One that cannot be read is named
    and skipped.

    :param pictures: name in the source, and number of its class.
    :param limits: most pixels and frames that a picture may have.
    :param threads: how many decode, beside the network.
    :raises DataError: where none can be read.
    """
    gathered = _Gathered(body, with_mirrored)
    skipped = []
    with gathered, progress("features", len(pictures), "pictures") as shown:
        for name, read in _read_ahead(body, source, pictures, limits, threads):
            if isinstance(read, _Picture):
                gathered.add(read)
            else:
                skipped.append(name)
                say(f"skipped: {name}: {read}")
            shown.advance()
        if len(skipped) == len(pictures):
            raise DataError(
                f"{source.path}: none of its {len(pictures):,} pictures can be read (the reasons are above). "
                "Put JPEG, PNG, GIF, WebP, BMP or TIFF files into the classes' folders."
            )
        return gathered.features(tuple(skipped))


class _Gathered:
    """Pictures go in one by one, features come out; between them the network works on batches."""

    def __init__(self, body: Body, with_mirrored: bool) -> None:
        self._engine = open_body(body)
        self._across = 1 + body.signature.preprocess.layout[1:].index("W")
        self._with_mirrored = with_mirrored
        self._waiting: list[FloatArray] = []
        self._rows: list[FloatArray] = []
        self._mirrored: list[FloatArray] = []
        self._small: list[Thumbnails] = []
        self._classes: list[int] = []

    def __enter__(self) -> _Gathered:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()

    def add(self, picture: _Picture) -> None:
        self._waiting.append(picture.tensor)
        self._small.append(picture.small)
        self._classes.append(picture.number)
        if len(self._waiting) == BATCH:
            self._compute()

    def features(self, skipped: tuple[str, ...]) -> Features:
        if self._waiting:
            self._compute()
        return Features(
            rows=np.concatenate(self._rows),
            mirrored=np.concatenate(self._mirrored) if self._with_mirrored else None,
            classes=np.array(self._classes),
            thumbnails=np.stack(self._small),
            skipped=skipped,
        )

    def _compute(self) -> None:
        batch = np.concatenate(self._waiting)
        self._waiting.clear()
        self._rows.append(self._engine.predict(batch))
        if self._with_mirrored:
            self._mirrored.append(self._engine.predict(np.flip(batch, self._across)))


def _read_ahead(
    body: Body, source: PictureSource, pictures: Sequence[tuple[str, int]], limits: PictureLimits, threads: int
) -> Iterator[tuple[str, _Picture | DimpleError]]:
    """Decode in threads while the network works; at most two batches wait."""

    def read(name: str, number: int) -> _Picture | DimpleError:
        try:
            data = source.read(name)
            if not data:
                raise EmptyFile(name)
            image = decode(data, limits).image
        except (BadInput, DataError) as error:
            return error
        shape = body.signature.inputs[0].shape
        return _Picture(to_tensor(image, body.signature.preprocess, shape), thumbnail(image), number)

    waiting: deque[tuple[str, Future[_Picture | DimpleError]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for name, number in pictures:
                waiting.append((name, pool.submit(read, name, number)))
                if len(waiting) == 2 * BATCH:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for name, future in waiting:
                yield name, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # at Ctrl-C
