"""Import of a model's files as a model folder, which appears once the model has answered."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from app.errors import ModelFormatError
from app.formats.archive.manifest import NAME
from app.formats.folder import SAVED_FOLDER, Checkpoint, ModelFolder, open_model_folder
from app.formats.import_files import ImportFiles, keras_name, make_folder, write_backend
from app.formats.infer_signature import infer_folder
from app.formats.inference import BY_CALLER, BY_LABELS, BY_METADATA, IMAGENETS, NUMBERED, Inference
from app.formats.labels import SYNSET, read_labels, write_labels
from app.formats.signature import FILE_NAME, PARTS, read_stated, write_signature
from app.serving.model import IMAGENET_CLASSES, Model, open_model
from app.settings import Settings
from app.types import Activation, Color, Layout, Preprocess, Resize, Signature
from app.utils.files import swap_folder


@dataclass(frozen=True)
class Overrides:
    """Options that override inferred values; None keeps the inferred value."""

    size: tuple[int, int] | None = None
    layout: Layout | None = None
    color: Color | None = None
    resize: Resize | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    activation: Activation | None = None
    output: str | None = None
    labels: Path | None = None
    keras_backend: str | None = None


@dataclass(frozen=True)
class ImportPlan:
    """A model to import: its files, inferred signature, labels (None if no file lists them), name and options."""

    files: ImportFiles
    inference: Inference
    labels: tuple[str, ...] | None
    name: str
    overrides: Overrides

    def reasons(self, model: Model) -> dict[str, str]:
        """Return the reasons for ``input``, ``pixels``, ``output`` and ``labels`` of the imported model."""
        reasons = {**self.inference.reasons, "labels": IMAGENETS if len(model.labels) == IMAGENET_CLASSES else NUMBERED}
        if model.postprocess.activation != self.inference.signature.postprocess.activation:
            reasons["output"] = model.reasons["output"]
        if file := self.overrides.labels or self.files.labels:
            reasons["labels"] = f"{BY_LABELS}{file.name}"
        elif self.inference.labels is not None:
            reasons["labels"] = BY_METADATA
        return reasons


def plan_import(files: ImportFiles, name: str, overrides: Overrides) -> ImportPlan:
    """Read the files of a model, and infer what they leave open.

    :raises ModelFormatError: if a file cannot be read, or is not an image classifier.
    """
    file = overrides.labels or files.labels
    labels = read_labels(file) if file is not None else None
    inference = infer_folder(_draft_folder(files, labels, name), size=overrides.size, output=overrides.output or "")
    return ImportPlan(files, _overridden(inference, overrides), labels, name, overrides)


def run_import(
    plan: ImportPlan, target: Path, settings: Settings, finish: Callable[[Path, Model], None] = lambda made, model: None
) -> Model:
    """Make a model folder under a hidden name, test the model, and rename the folder.

    :param target: the folder to make; it replaces an existing one.
    :param finish: completes the folder, whose last name is that of ``target``, before it is renamed.
    :raises ModelFormatError: if the model cannot be loaded, or the folder cannot be written.
    """
    files, name = plan.files, plan.name
    signature, known = plan.inference.signature, plan.labels if plan.labels is not None else plan.inference.labels
    parts = PARTS if plan.inference.settled else PARTS - {"postprocess"}
    with hidden_folder(target.absolute()) as made:
        try:
            make_folder(files, signature, known, made, name, parts)
            if plan.overrides.keras_backend and files.h5 is not None:
                write_backend(made / keras_name(files.h5, name), plan.overrides.keras_backend)
            model = open_model(open_model_folder(made), settings.engine, cache_dir=settings.cache)
            model.engine.close()
            final = replace(signature, outputs=(model.output,), postprocess=model.postprocess)
            write_signature(final, made / FILE_NAME)
            write_labels(made, model.labels)
            finish(made, model)
        except ModelFormatError as error:
            raise ModelFormatError(_with_sources(str(error), made, name, files, plan.overrides.labels)) from None
    return model


@contextmanager
def hidden_folder(target: Path) -> Iterator[Path]:
    """Yield a path in a hidden folder beside ``target``. The folder that is made there replaces ``target`` at the end.

    :raises ModelFormatError: if it cannot be written.
    """
    hidden = target.parent / f".{uuid4().hex}.partial"
    try:
        yield hidden / target.name
        swap_folder(hidden / target.name, target)
    except OSError as error:
        raise ModelFormatError(f"{target} cannot be written: {error}. Make room, or let Dimple write there") from None
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _draft_folder(files: ImportFiles, labels: tuple[str, ...] | None, name: str) -> ModelFolder:
    """Return the files as a model folder that is not written yet."""
    checkpoint = Checkpoint(files.symbol, files.params) if files.symbol and files.params else None
    signature, stated = read_stated(files.signature) if files.signature is not None else (None, frozenset())
    return ModelFolder(
        path=files.weights.parent,
        name=name,
        version="1.0",
        signature=signature,
        labels=labels,
        checkpoint=checkpoint,
        h5=files.h5,
        onnx=files.onnx,
        architecture=files.architecture,
        graph=files.graph,
        stated=stated,
    )


def _with_sources(text: str, made: Path, name: str, files: ImportFiles, labels: Path | None) -> str:
    """Return the text of an error with the user's files in place of their temporary copies."""
    graph = files.graph
    suffix = graph.suffix.lower() if graph is not None else ""
    copies = {
        f"{name}-symbol.json": files.symbol,
        f"{name}-0000.params": files.params,
        keras_name(files.h5, name) if files.h5 is not None else "": files.h5,
        f"{name}.onnx": files.onnx,
        SAVED_FOLDER if graph is not None and graph.is_dir() else f"{name}{suffix}": graph,
        "model.json": files.architecture,
        FILE_NAME: files.signature,
    }
    for copy, source in copies.items():
        if source is not None:
            text = text.replace(str(made / copy), str(source))
    text = text.replace(str(made), str(files.weights))
    label_file = labels or files.labels
    return text.replace(SYNSET, str(label_file) if label_file else "its metadata")


def default_name(files: ImportFiles) -> str:
    """Return the name of the files, converted to a valid model name."""
    return re.sub(r"[^A-Za-z0-9_\-.]", "_", files.stem).lstrip("_-.") or "model"


def check_target(target: Path, force: bool) -> None:
    """Check that a model folder may be made.

    :raises ModelFormatError: if its name is invalid, or it exists and is not to be replaced.
    """
    if not NAME.fullmatch(target.name):
        raise ModelFormatError(f"{target.name!r} cannot be a model's name: use letters, digits, '_', '-' and '.'")
    if (target.exists() or target.is_symlink()) and not force:
        raise ModelFormatError(f"{target} already exists. Give another --name, or replace it with --force")


def _overridden(inference: Inference, overrides: Overrides) -> Inference:
    """Return the inference with the values of the options."""
    signature, reasons = inference.signature, dict(inference.reasons)
    fields = ("layout", "color", "resize", "mean", "std", "scale")
    stated = {name: value for name in fields if (value := getattr(overrides, name)) is not None}
    if 0.0 in stated.get("std", ()):
        raise ModelFormatError("--std must not hold 0: the pixels are divided by it")
    if stated.get("color") == "grey" and len(signature.preprocess.mean) > 1:
        stated = {"mean": (0.0,), "std": (1.0,), **stated}
    preprocess: Preprocess = replace(signature.preprocess, **stated)
    shape = _shape(signature, preprocess, overrides.size)
    signature = replace(signature, inputs=(replace(signature.inputs[0], shape=shape),), preprocess=preprocess)
    if stated.keys() - {"layout"}:
        reasons["pixels"] = BY_CALLER
    if overrides.size is not None:
        reasons["input"] = BY_CALLER
    if overrides.activation is None:
        return replace(inference, signature=signature, reasons=reasons)
    postprocess = replace(signature.postprocess, activation=overrides.activation)
    signature = replace(signature, postprocess=postprocess)
    return replace(inference, signature=signature, reasons={**reasons, "output": BY_CALLER}, settled=True)


def _shape(signature: Signature, preprocess: Preprocess, size: tuple[int, int] | None) -> tuple[int, ...]:
    """Return the input's shape in the layout and size of the options."""
    shape = signature.inputs[0].shape
    if len(shape) not in (3, 4):
        raise ModelFormatError(f"the input {signature.inputs[0].name} has the shape {shape}; a picture has four axes")
    before, after = (signature.preprocess.layout, preprocess.layout) if len(shape) == 4 else ("NHW", "NHW")
    known = dict(zip(before, shape, strict=True))
    if size is not None:
        known["H"], known["W"] = size
    return tuple(known[axis] for axis in after)
