"""A loaded model: its network, its labels and what surrounds them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.cluster.selftest import check_selftest
from app.engines.base import Agreement, Engine, Opened, Parity
from app.engines.opening import load
from app.engines.probe import probe
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.inference import inferred_reasons
from app.formats.labels import find_labels, imagenet_labels
from app.machine import cores
from app.serving.line import Gone, Limits, Line, Turn, never
from app.serving.scores import probabilities
from app.types import FloatArray, Postprocess, Preprocess, TensorSpec
from app.vision import faces
from app.vision.preprocess import input_size

log = logging.getLogger(__name__)

IMAGENET_CLASSES = 1000
ALONE = Limits(slots=cores())
"""What is allowed where nobody has registered anything: as many calls at once as there are cores, each by itself."""


@dataclass(frozen=True)
class Model:
    """A model that answers.

    ``legacy`` says that it came as an archive of MMS 0.x. ``parity`` is how far its engine is from the reference; None
    where that is the reference, or ``precision`` is ``int8``: ``agreement`` tells of those. ``enough_pixels`` is how
    far a JPEG may be scaled down while it is decoded, see :func:`app.vision.preprocess.enough_pixels`; 0 for not at
    all. ``output`` is the network's output, with the shape (0, columns). ``reasons`` tell why the signature says what
    it says; ``warnings``, what about its answers should be looked into.
    """

    name: str
    version: str
    kind: str
    input: TensorSpec
    preprocess: Preprocess
    postprocess: Postprocess
    labels: tuple[str, ...]
    engine: Engine
    line: Line[FloatArray, FloatArray]
    legacy: bool = False
    parity: Parity | None = None
    precision: str = "fp32"
    agreement: Agreement | None = None
    enough_pixels: int = 0
    output: TensorSpec = TensorSpec("output", (0, 0))
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def inferred(self) -> dict[str, str]:
        """Return the reasons for what was inferred: ``input``, ``pixels`` and ``output``, without what is stated."""
        return inferred_reasons(self.reasons)

    def probabilities(self, batch: FloatArray) -> FloatArray:
        """Compute the probabilities (N, classes) of a batch (N, …).

        :raises ModelFormatError: where the network's answer holds something that is not a number.
        """
        return self.turn(batch, never).result

    def turn(self, batch: FloatArray, gone: Gone) -> Turn[FloatArray]:
        """The same for who may get tired of waiting. What others ask at the same moment may be computed together with
        it, and is nothing that it notices.

        :raises QueueTimeout: as :meth:`app.serving.line.Line.ask`, as ``ClientClosedRequest``.
        """
        turn = self.line.ask(batch, gone)
        return Turn(probabilities(turn.result, self.postprocess.activation), turn.waited)


def open_model(
    folder: ModelFolder,
    engine: str,
    limits: Limits = ALONE,
    cache_dir: Path | None = None,
    opened: Opened | None = None,
) -> Model:
    """Load a model and let it answer, so that whatever is wrong with it is known now.

    :param engine: ``auto``, ``openvino``, ``mxnet`` or ``keras``, as :func:`app.engines.opening.load` takes it.
    :param limits: of the line before it.
    :param cache_dir: of what is made for OpenVINO, as ``load`` takes it.
    :param opened: where it is computed already, on a cluster.
    :raises ModelFormatError: where it cannot be loaded, its labels do not match its outputs, or it fails its self-test.
    """
    opened = opened or load(folder, engine, cache_dir)
    signature = opened.signature
    try:
        if signature.preprocess.faces:
            faces.load()
        input_size(signature.preprocess, signature.inputs[0].shape)
        answers, warnings = probe(opened.engine, signature)
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
        line=Line(folder.name, _together(opened.engine), limits),
        legacy=folder.legacy,
        parity=opened.parity,
        precision=opened.precision,
        agreement=opened.agreement,
        output=TensorSpec(name, (0, answers.shape[1])),
        reasons=opened.reasons,
        warnings=tuple(warnings),
    )


def _together(engine: Engine) -> Callable[[Sequence[FloatArray]], list[FloatArray]]:
    """Computes several requests' tensors in one call, and gives each its own rows."""

    def compute(tensors: Sequence[FloatArray]) -> list[FloatArray]:
        if len(tensors) == 1:
            return [engine.predict(tensors[0])]
        rows = engine.predict(np.concatenate(tensors))
        return np.split(rows, np.cumsum([len(tensor) for tensor in tensors])[:-1])

    return compute


def _labels(folder: ModelFolder, inside: tuple[str, ...] | None, classes: int) -> tuple[str, ...]:
    """Return the folder's labels; without any, those inside the model's file, ImageNet's for 1,000 classes, or numbers.

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
