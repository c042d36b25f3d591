"""Features of pictures: outputs of a classifier's backbone, before its last fully connected layer."""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engines.base import Engine
from app.engines.mxnet.engine import MxnetEngine
from app.errors import BadInput, DataError, DimpleError, EmptyFile, ModelFormatError
from app.formats.folder import Checkpoint, open_model_folder
from app.formats.infer_signature import infer_folder
from app.formats.mxnet_graph import Graph, cut_at, read_graph
from app.formats.pictures import PictureSource
from app.settings import PictureLimits
from app.types import FloatArray, Signature
from app.utils.progress import echo, progress
from app.vision.decode import decode
from app.vision.duplicates import Thumbnails, thumbnail
from app.vision.preprocess import to_tensor

CONNECTED = "FullyConnected"


@dataclass(frozen=True)
class Backbone:
    """A network without its head.

    ``document`` is its ``*-symbol.json``, whose only output is the features. ``head`` is the name of the layer that was
    cut off. ``checkpoint`` and ``signature`` are the whole network's.
    """

    name: str
    version: str
    document: dict[str, Any]
    head: str
    checkpoint: Checkpoint
    signature: Signature


def cut_backbone(folder: Path) -> Backbone:
    """Cut the last fully connected layer, and everything after it, off a model's network.

    :raises ModelFormatError: if the folder is not a model, or its network does not end in such a layer.
    """
    model = open_model_folder(folder)
    if model.checkpoint is None:
        raise ModelFormatError(f"{folder} has no MXNet checkpoint. {_advice(folder)}")
    graph = read_graph(model.checkpoint.symbol)
    last = _last_connected(graph)
    if last is None:
        raise ModelFormatError(f"{model.checkpoint.symbol} has no {CONNECTED} layer to replace. {_advice(folder)}")
    document = json.loads(model.checkpoint.symbol.read_bytes())
    return Backbone(
        name=model.name,
        version=model.version,
        document=cut_at(document, document["nodes"][last]["inputs"][0]),
        head=graph.nodes[last].name,
        checkpoint=model.checkpoint,
        signature=infer_folder(model).signature,
    )


def open_backbone(body: Backbone) -> Engine:
    """Load a backbone, which computes the features (N, F) of pictures.

    :raises ModelFormatError: if its parameters do not match it.
    """
    first = body.signature.inputs[0]
    with tempfile.TemporaryDirectory(prefix="dimple-") as folder:
        symbol = Path(folder) / "body-symbol.json"
        symbol.write_text(json.dumps(body.document), encoding="utf-8")
        return MxnetEngine.load(symbol, body.checkpoint.params, first.name, first.shape)


def array_names(body: Backbone) -> set[str]:
    """Return the names of the backbone's arrays, including its input, as in its symbol."""
    return {node["name"] for node in body.document["nodes"] if node["op"] == "null"}


def _advice(folder: Path) -> str:
    return f"Move {folder} away: Dimple makes its own at the next start."


def _last_connected(graph: Graph) -> int | None:
    reached = graph.needed_by(graph.heads[0])
    return max((number for number in reached if graph.nodes[number].op == CONNECTED), default=None)


BATCH = 16
"""Pictures per batch of the network. Eight or thirty-two are no faster."""


@dataclass(frozen=True)
class Features:
    """The features of N pictures, in the order of the input.

    ``rows`` is (N, F); ``mirrored`` has the features of the horizontally mirrored pictures, or is None if they were not
    requested. ``classes`` is (N,), ``thumbnails`` (N, 16, 16). ``skipped`` names the unreadable pictures.
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


def extract_features(
    body: Backbone,
    source: PictureSource,
    pictures: Sequence[tuple[str, int]],
    limits: PictureLimits,
    with_mirrored: bool,
    threads: int,
) -> Features:
    """Compute the features of pictures, decoded and prepared as in the server.

    Unreadable pictures are reported and skipped.

    :param pictures: name in the source, and number of its class.
    :param limits: limits on the pixels and frames of a picture.
    :param threads: number of decoding threads, besides the network's.
    :raises DataError: if no picture can be read.
    """
    gathered = _FeatureBatches(body, with_mirrored)
    skipped = []
    with gathered, progress("features", len(pictures), "pictures") as bar:
        for name, read in _read_ahead(body, source, pictures, limits, threads):
            if isinstance(read, _Picture):
                gathered.add(read)
            else:
                skipped.append(name)
                echo(f"skipped: {name}: {read}")
            bar.advance()
        if len(skipped) == len(pictures):
            raise DataError(
                f"{source.path}: none of its {len(pictures):,} pictures can be read (the reasons are above). "
                "Put JPEG, PNG, GIF, WebP, AVIF, BMP or TIFF files into the classes' folders."
            )
        return gathered.features(tuple(skipped))


class _FeatureBatches:
    """A buffer that collects single pictures into batches for the network, and stores their features."""

    def __init__(self, body: Backbone, with_mirrored: bool) -> None:
        self._engine = open_backbone(body)
        self._across = 1 + body.signature.preprocess.layout[1:].index("W")
        self._with_mirrored = with_mirrored
        self._waiting: list[FloatArray] = []
        self._rows: list[FloatArray] = []
        self._mirrored: list[FloatArray] = []
        self._small: list[Thumbnails] = []
        self._classes: list[int] = []

    def __enter__(self) -> _FeatureBatches:
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
    body: Backbone, source: PictureSource, pictures: Sequence[tuple[str, int]], limits: PictureLimits, threads: int
) -> Iterator[tuple[str, _Picture | DimpleError]]:
    """Decode in threads while the network computes; at most two batches wait."""

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
