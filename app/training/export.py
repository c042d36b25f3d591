"""From a trained network to a model folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from app.engines.compat import import_keras
from app.formats.folder import write_manifest
from app.formats.place import place
from app.formats.signature import write_signature
from app.training.recipes import Course, Recipe
from app.types import Postprocess, Signature, TensorSpec

ALL_CLASSES = Postprocess(top=0)


def export(
    network: Any, course: Course, recipe: Recipe, metrics: dict[str, Any], curves: Path, models_dir: Path
) -> Path:
    """Write everything that serves the network, and how good it was found to be.

    The folder appears whole: a kill meanwhile leaves the model that was there before.

    :param metrics: what ``metrics.json`` is to say.
    :param curves: picture of the learning curves, which is copied.
    :returns: the model folder.
    """
    name = course.name
    partial = models_dir / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # what a killed run left
    write_manifest(partial, name)
    (partial / "synset.txt").write_text("".join(f"{label}\n" for label in course.labels))
    network.save(str(partial / f"{name}.h5"), include_optimizer=False)
    input_name = _export_checkpoint(network, partial / name) if recipe.checkpoint else str(network.input_names[0])
    output = TensorSpec("softmax" if recipe.checkpoint else "sigmoid", (0, network.output_shape[-1]))
    signature = Signature((TensorSpec(input_name, recipe.shape),), (output,), recipe.preprocess, ALL_CLASSES)
    write_signature(signature, partial / "signature.json")
    (partial / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    shutil.copyfile(curves, partial / "learning-curves.png")
    place(partial, models_dir / name)
    return models_dir / name


def _export_checkpoint(network: Any, prefix: Path) -> str:
    """Write ``<prefix>-symbol.json`` and ``<prefix>-0000.params``; return the input's name in them."""
    keras = import_keras()
    names, shapes = keras.models.save_mxnet_model(network, prefix=str(prefix), epoch=0)
    print(f"exported checkpoint: data names {list(names)}, shapes {[tuple(one.shape) for one in shapes]}")
    return str(names[0])
