"""A loaded model: its network, its labels, and the way from the network's output to the best classes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from app.backend.batching import BatchQueue, IsDisconnected, QueueConfig, QueueResult, never_disconnected
from app.backend.client import RemoteEngine, RemoteQueue
from app.engines.base import Agreement, Engine, LoadedEngine, Parity
from app.engines.loader import LoadNetwork, load
from app.engines.openvino import OpenvinoEngine
from app.engines.parity import activate, probe
from app.engines.selftest import check_selftest
from app.errors import DimpleError, ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.inference import inferred_reasons
from app.formats.labels import find_labels, imagenet_labels
from app.telemetry import metrics
from app.types import Activation, FloatArray, Postprocess, Prediction, Preprocess, TensorSpec
from app.utils.system import cpu_count
from app.vision import faces
from app.vision.preprocess import input_size

log = logging.getLogger(__name__)

IMAGENET_CLASSES = 1000
ALONE = QueueConfig(concurrency=cpu_count())
"""Queue configuration without a registration: as many concurrent calls as cores, without batches."""


@dataclass(frozen=True)
class Model:
    """A model that answers.

    ``legacy`` is true for an archive of MMS 0.x. ``parity`` is the difference between its engine and the reference; it
    is None for the reference itself, and if ``precision`` is ``int8``, to which ``agreement`` applies.
    ``enough_pixels`` is the shortest side in pixels to which a JPEG may be scaled down during decoding, see
    :func:`app.vision.preprocess.draft_side`; 0 turns this off. ``output`` is the network's output, with the shape (0,
    columns). ``reasons`` explain the values of the signature; ``warnings`` are possible defects of its answers.
    """

    name: str
    version: str
    kind: str
    input: TensorSpec
    preprocess: Preprocess
    postprocess: Postprocess
    labels: tuple[str, ...]
    engine: Engine
    queue: BatchQueue[FloatArray, FloatArray] | RemoteQueue
    legacy: bool = False
    parity: Parity | None = None
    precision: str = "fp32"
    agreement: Agreement | None = None
    draft_side: int = 0
    output: TensorSpec = TensorSpec("output", (0, 0))
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def inferred(self) -> dict[str, str]:
        """Return the reasons for the inferred values ``input``, ``pixels`` and ``output``, without stated ones."""
        return inferred_reasons(self.reasons)

    @property
    def is_remote(self) -> bool:
        """Return whether another process computes the network."""
        return isinstance(self.queue, RemoteQueue)

    def probabilities(self, batch: FloatArray) -> FloatArray:
        """Compute the probabilities (N, classes) of a batch (N, …).

        :raises ModelFormatError: if the network's output contains a value that is not a number.
        """
        return self.submit_scores(batch).result

    def submit_scores(
        self, batch: FloatArray, is_disconnected: IsDisconnected = never_disconnected, waited: float = 0.0
    ) -> QueueResult[FloatArray]:
        """Compute the probabilities of a batch, as :meth:`submit` computes the network's output."""
        done = self.submit(batch, is_disconnected, waited)
        return QueueResult(probabilities(done.result, self.postprocess.activation), done.waited, done.computed)

    def submit(
        self, batch: FloatArray, is_disconnected: IsDisconnected = never_disconnected, waited: float = 0.0
    ) -> QueueResult[FloatArray]:
        """Compute the network's output for a batch (N, …) in its turn.

        :param waited: seconds that the request has waited before, in another queue.
        :raises QueueTimeout: as :meth:`app.backend.batching.BatchQueue.submit`; also ``ClientClosedRequest``.
        """
        done = self.queue.submit(batch, is_disconnected)
        metrics.turn(self.name, waited + done.waited, done.computed)
        return QueueResult(done.result, waited + done.waited, done.computed)

    def with_generation(self, generation: int) -> Model:
        """Return the model for another registration."""
        if isinstance(self.queue, RemoteQueue):
            self.queue.generation = generation
        return self

    def resize(self, concurrency: int) -> None:
        """Set the number of batches that are computed at once."""
        if isinstance(self.queue, BatchQueue):
            self.queue.resize(concurrency)

    def refuse(self, error: DimpleError) -> None:
        """Refuse waiting and future requests."""
        if isinstance(self.queue, BatchQueue):  # the backend refuses the requests of other queues
            self.queue.refuse(error)

    def retire(self) -> None:
        """Release the model's remote resources after its last request."""
        if isinstance(self.engine, RemoteEngine):
            self.engine.release()


def open_model(
    folder: ModelFolder,
    engine: str,
    config: QueueConfig = ALONE,
    cache_dir: Path | None = None,
    opened: LoadedEngine | None = None,
    load_network: LoadNetwork = OpenvinoEngine.load,
) -> Model:
    """Load a model and run a self-test, so that defects show at once.

    :param engine: ``auto``, ``openvino``, ``mxnet`` or ``keras``, as for :func:`app.engines.loader.load`.
    :param cache_dir: cache folder of converted networks, as for ``load``.
    :param opened: an engine that computes the model already, on a cluster.
    :param load_network: as for :func:`app.engines.loader.load`.
    :raises ModelFormatError: if it cannot be loaded, its labels do not match its outputs, or it fails its self-test.
    """
    opened = opened or load(folder, engine, cache_dir, load_network)
    signature = opened.signature
    try:
        if signature.preprocess.faces:
            faces.load()
        input_size(signature.preprocess, signature.inputs[0].shape)
        answers, warnings = probe(opened.engine, signature)
        if opened.unproven:
            warnings = [*warnings, f"its conversion is not proven: {opened.unproven}"]
        classes = probabilities(answers, signature.postprocess.activation).shape[1]
        labels = _labels(folder, opened.labels, classes)
        check_selftest(folder.path, opened.engine, signature)
    except Exception:
        opened.engine.close()
        raise
    for part, reason in inferred_reasons(opened.reasons).items():
        log.info("%s: %s inferred: %s", folder.name, part, reason)
    for warning in warnings:
        log.warning("%s: %s", folder.name, warning)
    name = signature.outputs[0].name if signature.outputs else "output"
    return Model(
        name=folder.name,
        version=folder.version,
        kind=opened.kind,
        input=signature.inputs[0],
        preprocess=signature.preprocess,
        postprocess=signature.postprocess,
        labels=labels,
        engine=opened.engine,
        queue=_queue(folder.name, opened.engine, config),
        legacy=folder.legacy,
        parity=opened.parity,
        precision=opened.precision,
        agreement=opened.agreement,
        output=TensorSpec(name, (0, answers.shape[1])),
        reasons=opened.reasons,
        warnings=tuple(warnings),
    )


def _queue(name: str, engine: Engine, config: QueueConfig) -> BatchQueue[FloatArray, FloatArray] | RemoteQueue:
    if isinstance(engine, RemoteEngine):
        return RemoteQueue(name, engine, config.timeout)
    if isinstance(engine, OpenvinoEngine):  # batches do not make it faster, so requests need not wait for others
        config = replace(config, batch_size=1, max_delay=0.0)
    return BatchQueue(name, _together(engine), config)


def _together(engine: Engine) -> Callable[[Sequence[FloatArray]], list[FloatArray]]:
    """Return a function that computes several requests' tensors in one call, and returns each request's rows."""

    def compute(tensors: Sequence[FloatArray]) -> list[FloatArray]:
        if len(tensors) == 1:
            return [engine.predict(tensors[0])]
        rows = engine.predict(np.concatenate(tensors))
        return np.split(rows, np.cumsum([len(tensor) for tensor in tensors])[:-1])

    return compute


def _labels(folder: ModelFolder, inside: tuple[str, ...] | None, classes: int) -> tuple[str, ...]:
    """Return the folder's labels, or else the model file's own, ImageNet's for 1,000 classes, or numbers.

    :raises ModelFormatError: if the folder has another number of labels than ``classes``.
    """
    if folder.labels is not None:
        if len(folder.labels) != classes:
            file = find_labels(folder.path)
            named = file.name if file is not None else "the model's list"
            raise ModelFormatError(
                f"{folder.path}: {named} has {len(folder.labels)} labels, the network has {classes} classes"
            )
        return folder.labels
    if inside is not None and len(inside) == classes:
        return inside
    return imagenet_labels() if classes == IMAGENET_CLASSES else tuple(str(number) for number in range(classes))


def probabilities(output: FloatArray, activation: Activation) -> FloatArray:
    """Convert the network's output to probabilities.

    :param output: (N, classes) or a shape that flattens to it, such as (N, classes, 1, 1). One column *p* becomes the
        two columns *1 - p* and *p*.
    :returns: float32 (N, classes), 0-1.
    :raises ModelFormatError: if a value is not a finite number.
    """
    if not np.isfinite(output).all():
        raise ModelFormatError("the network's answer holds values that are not numbers; its weights are damaged")
    rows = activate(output.reshape(len(output), -1), activation)
    if rows.shape[1] == 1:
        rows = np.hstack([1 - rows, rows])
    return rows.astype(np.float32)


def best(row: FloatArray, labels: Sequence[str], top: int) -> tuple[Prediction, ...]:
    """Return the ``top`` most probable classes of one row in descending order; 0 returns all. Ties keep the labels'
    order."""
    order = np.argsort(-row, kind="stable")[: top or len(row)]
    return tuple(Prediction(labels[index], float(row[index])) for index in order)
