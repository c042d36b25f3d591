"""A training run, from the prepared data to the model folder, also with the predictions of a teacher network."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.engines.loader import load
from app.engines.mxnet.compat import import_keras, use_all_cores
from app.errors import DataError
from app.formats.folder import open_model_folder, write_manifest
from app.formats.signature import write_signature
from app.training.batchnorm_folding import build_folded_network, fold_weights
from app.training.datasets import Dataset
from app.training.evaluation.metrics import Metrics, compute_metrics, document
from app.training.evaluation.plots import keep_config_in, learning_curves
from app.training.fit import History, Material, Trainer, apply_temperature, class_one, temperature
from app.training.recipes import DistillationOptions, Recipe, TrainingTask
from app.types import FloatArray, Postprocess, Signature, TensorSpec
from app.utils.files import replacing_folder
from app.utils.progress import echo, track
from app.vision.preprocess import to_tensor

ALL_CLASSES = Postprocess(top=0)


def export(
    network: Any, course: TrainingTask, recipe: Recipe, metrics: dict[str, Any], curves: Path, models_dir: Path
) -> Path:
    """Write all files that serve the network, and its metrics.

    The folder appears complete: a kill during the export leaves the previous model.

    :param metrics: content of ``metrics.json``.
    :param curves: picture of the learning curves, which is copied.
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
    """Copy a model's checkpoint and ``.h5``, which have the model's name, to files of other names.

    :param prefix: replaces the model's name: ``smileCNN_model`` makes ``smileCNN_model-symbol.json``,
        ``smileCNN_model-0000.params`` and ``smileCNN_model.h5`` in the current folder.
    :raises DataError: if a copy cannot be written.
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
    print(f"exported checkpoint: data names {list(names)}, shapes {[tuple(shape.shape) for shape in shapes]}")
    return str(names[0])


@dataclass(frozen=True)
class Run:
    """The specification of a training run.

    If ``epochs`` is None, the recipe's number applies. ``teacher`` is the folder of the teacher model, if the recipe
    has one. ``work_dir`` holds the state from which an interrupted run resumes.
    """

    course: TrainingTask
    recipe: Recipe
    epochs: int | None
    seed: int
    models_dir: Path
    work_dir: Path
    teacher: Path | None = None

    @property
    def epochs_in_all(self) -> int:
        return self.epochs or self.recipe.fitting.epochs


def train(run: Run, data: Dataset, resume: bool) -> tuple[Path, Metrics]:
    """Train a network, evaluate it on the test part, and write its model folder.

    :param resume: resume from the state of an earlier call with the same run; without a state, start anew.
    :returns: the model folder, and the metrics on the test part, which training never saw.
    :raises DataError: if there are too few pictures, or the state is of another run.
    """
    keep_config_in(run.work_dir / "matplotlib")
    use_all_cores()
    keras = import_keras()
    keras.backend.clear_session()
    network, history = _train_network(run, data, resume)
    keras.backend.clear_session()  # names are numbered per session; the served network needs the first ones
    served = run.recipe.network()
    served = fold_weights(network, served) if run.recipe.fitting.twin else _copy_weights(network, served)
    served.compile(optimizer="sgd", loss="mse")  # Keras-MXNet exports only compiled models; neither argument is used
    apply_temperature(served, _temperature(served, run, data))
    metrics = _evaluate(served, run, data)
    curves = run.work_dir / f"{_name(run)}-curves.png"
    folder = export(served, run.course, run.recipe, _metrics(run, data, history, metrics), curves, run.models_dir)
    _state(run).unlink()  # the run is complete: the next one starts anew
    return folder, metrics


def _train_network(run: Run, data: Dataset, resume: bool) -> tuple[Any, History]:
    import mxnet

    fitting = run.recipe.fitting
    seen = {part: data.part(part, run.recipe.input) for part in ("train", "validation")}
    validation = Material(seen["validation"].pictures, seen["validation"].classes)
    taught = None
    if fitting.teaching and run.teacher:
        taught = predict_teacher(run.teacher, seen["train"].pictures, fitting.teaching)
    material = Material(seen["train"].pictures, seen["train"].classes, taught)
    mxnet.random.seed(run.seed)
    np.random.seed(run.seed)  # Keras draws the initial weights from NumPy's global generator
    network = run.recipe.network()
    if fitting.twin:
        network = build_folded_network(network, 0 if taught is None else taught.shape[1], fitting.dropout)
    who = {"model": run.course.name, "recipe": run.recipe.name, "fitting": repr(fitting), "data": data.fingerprint}
    trainer = Trainer(network, fitting, who, run.seed, _state(run), run.epochs)
    if resume and not trainer.resume():
        echo("There is nothing to resume: starting from the beginning.")
    run.work_dir.mkdir(parents=True, exist_ok=True)
    trainer.fit(
        material, validation, lambda history: learning_curves(run.work_dir / f"{_name(run)}-curves.png", history)
    )
    return network, trainer.history


def _copy_weights(trained: Any, plain: Any) -> Any:
    plain.set_weights(trained.get_weights())
    return plain


def _temperature(network: Any, run: Run, data: Dataset) -> float:
    validation = data.part("validation", run.recipe.input)
    return temperature(class_one(network, validation.pictures), validation.classes)


def _evaluate(network: Any, run: Run, data: Dataset) -> Metrics:
    test = data.part("test", run.recipe.input)
    probabilities = class_one(network, test.pictures)
    return compute_metrics(np.column_stack([1 - probabilities, probabilities]), test.classes, run.course.labels)


def _metrics(run: Run, data: Dataset, history: History, metrics: Metrics) -> dict[str, Any]:
    """Return the content of ``metrics.json``."""
    best = min(history, key=lambda epoch: epoch["val_loss"])
    return {
        "data": run.course.title,
        "recipe": run.recipe.name,
        "epochs": run.epochs_in_all,
        "best_epoch": best["epoch"],
        "seed": run.seed,
        "seconds": round(sum(epoch["seconds"] for epoch in history)),
        "pictures": {part: data.parts.count(part) for part in ("train", "validation", "test")},
        "measured_on": f"test, {run.course.test:.0%} by file name",
        "validation_accuracy": best["val_accuracy"],
        **document(metrics),
    }


def _state(run: Run) -> Path:
    return run.work_dir / f"{_name(run)}-state.npz"


def _name(run: Run) -> str:
    return f"{run.course.name}-{run.recipe.name}"


def predict_teacher(folder: Path, pictures: FloatArray, teaching: DistillationOptions) -> FloatArray:
    """Return the teacher's softened probabilities for every picture: (N, 3, H, W) of 0-1 -> (N, T).

    :param folder: folder of a model with colour input and a softmax.
    """
    opened = load(open_model_folder(folder), "auto")
    # the whole picture: the teacher must see the margins that the student sees
    preprocess = replace(opened.signature.preprocess, resize="stretch")
    shape = opened.signature.inputs[0].shape
    try:
        answers = [
            opened.engine.predict(to_tensor(_image(picture), preprocess, shape))[0]
            for picture in track(pictures, "teacher", len(pictures), "pictures")
        ]
    finally:
        opened.engine.close()
    return _soften(np.stack(answers), teaching.temperature)


def _image(picture: FloatArray) -> Image.Image:
    return Image.fromarray(np.rint(picture.transpose(1, 2, 0) * 255).astype(np.uint8))


def _soften(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Return the softmax of the network's scores divided by ``temperature``."""
    powers = np.maximum(probabilities, 1e-8) ** (1 / temperature)
    soft: FloatArray = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return soft
