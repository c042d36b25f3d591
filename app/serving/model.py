"""A loaded model: its network, its labels and what surrounds them."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from app.engines.base import Engine
from app.engines.opening import load
from app.errors import ModelFormatError
from app.formats.folder import ModelFolder
from app.formats.labels import imagenet_labels
from app.serving.scores import probabilities
from app.types import FloatArray, Postprocess, Preprocess, TensorSpec
from app.vision.preprocess import to_tensor

IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Model:
    """A model that answers."""

    name: str
    version: str
    kind: str
    input: TensorSpec
    preprocess: Preprocess
    postprocess: Postprocess
    labels: tuple[str, ...]
    engine: Engine

    def probabilities(self, batch: FloatArray) -> FloatArray:
        """Compute the probabilities (N, classes) of a batch (N, …).

        :raises ModelFormatError: where the network's answer holds something that is not a number.
        """
        return probabilities(self.engine.predict(batch), self.postprocess.activation)


def open_model(folder: ModelFolder, engine: str) -> Model:
    """Load a model and let it answer once, so that what is wrong with it is known now.

    :param engine: ``auto``, ``mxnet`` or ``keras``, as :func:`app.engines.opening.load` takes it.
    :raises ModelFormatError: where it cannot be loaded, or its labels do not match its outputs.
    """
    opened = load(folder, engine)
    signature = opened.signature
    try:
        blank = to_tensor(Image.new("RGB", (8, 8)), signature.preprocess, signature.inputs[0].shape)
        answer = probabilities(opened.engine.predict(blank), signature.postprocess.activation)
        labels = _labels(folder, answer.shape[1])
    except Exception:
        opened.engine.close()
        raise
    return Model(
        name=folder.name,
        version=folder.version,
        kind=opened.kind,
        input=signature.inputs[0],
        preprocess=signature.preprocess,
        postprocess=signature.postprocess,
        labels=labels,
        engine=opened.engine,
    )


def _labels(folder: ModelFolder, classes: int) -> tuple[str, ...]:
    """The folder's labels; where it has none, ImageNet's for 1,000 classes and numbers otherwise."""
    if folder.labels is None:
        return imagenet_labels() if classes == IMAGENET_CLASSES else tuple(str(number) for number in range(classes))
    if len(folder.labels) != classes:
        raise ModelFormatError(
            f"{folder.path}: synset.txt has {len(folder.labels)} labels, the network has {classes} classes"
        )
    return folder.labels
