"""From a trained network to a model folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from app.engines.compat import import_keras
from app.errors import DataError
from app.formats.folder import write_manifest
from app.formats.signature import write_signature
from app.training.recipes import Course, Recipe
from app.types import Postprocess, Signature, TensorSpec
from app.utils.files import replacing_folder

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
    with replacing_folder(models_dir / name) as partial:
        write_manifest(partial, name)
        (partial / "synset.txt").write_text("".join(f"{label}\n" for label in course.labels))
        network.save(str(partial / f"{name}.h5"), include_optimizer=False)
        input_name = _export_checkpoint(network, partial / name) if recipe.checkpoint else str(network.input_names[0])
        output = TensorSpec("softmax" if recipe.checkpoint else "sigmoid", (0, network.output_shape[-1]))
        signature = Signature((TensorSpec(input_name, recipe.shape),), (output,), recipe.preprocess, ALL_CLASSES)
        write_signature(signature, partial / "signature.json")
        (partial / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        shutil.copyfile(curves, partial / "learning-curves.png")
    return models_dir / name


def copy_under(folder: Path, prefix: Path) -> list[Path]:
    """Copy a model's checkpoint and ``.h5``, which are called after it, to files that are called otherwise.

    :param prefix: takes the place of the model's name: ``smileCNN_model`` makes ``smileCNN_model-symbol.json``,
        ``smileCNN_model-0000.params`` and ``smileCNN_model.h5`` in the current folder.
    :returns: the copies.
    :raises DataError: if one cannot be written.
    """
    copies = []
    for path in sorted(folder.glob(f"{folder.name}[-.]*")):
        copy = prefix.with_name(prefix.name + path.name.removeprefix(folder.name))
        try:
            shutil.copyfile(path, copy)
        except OSError as error:
            raise DataError(f"{copy} cannot be written: {error.strerror or error}. {path} has the same") from None
        copies.append(copy)
    return copies


def _export_checkpoint(network: Any, prefix: Path) -> str:
    """Write ``<prefix>-symbol.json`` and ``<prefix>-0000.params``; return the input's name in them."""
    keras = import_keras()
    names, shapes = keras.models.save_mxnet_model(network, prefix=str(prefix), epoch=0)
    print(f"exported checkpoint: data names {list(names)}, shapes {[tuple(one.shape) for one in shapes]}")
    return str(names[0])
