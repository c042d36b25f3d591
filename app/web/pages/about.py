"""``/about/``: a page for each model, with what it does, how good it is and how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, make_response, render_template, request, url_for

from app.errors import DimpleError
from app.security.tokens import PREDICTION
from app.serving.explain import input_size
from app.serving.loader import Entry
from app.serving.model import Model
from app.settings import ROOT
from app.utils.files import file_sizes
from app.web.auth import authorizer
from app.web.errors import ErrorBody, error_body
from app.web.pages.labels import distinct_names, percent
from app.web.pages.view_models import code_samples, describe_model, read_document
from app.web.pages.workbench import SAMPLES
from app.web.request import services

bp = Blueprint("about", __name__)

MATRIX_CLASSES = 12
"""Number of classes up to which the confusion matrix is shown."""
TABLE_CLASSES = 25
"""Number of classes in the table of each class's figures; of more, those with the lowest recall."""
SHADES = 5
COLORS = {"rgb": "RGB", "bgr": "BGR", "grey": "grey"}
ENGINES = {
    "openvino": "OpenVINO",
    "mxnet": "MXNet",
    "keras": "Keras",
    "tf_keras": "Keras 2",
    "tensorflow": "TensorFlow",
    "tensorflow-lite": "TensorFlow Lite",
    "onnxruntime": "ONNX Runtime",
    "ray": "Ray",
}
RESIZES = {
    "stretch": "stretched to the size",
    "crop": "shorter side resized, then the centre cropped",
    "fit": "the largest centred part of the input's aspect ratio",
}


@bp.get("/about/<model>")
def about(model: str) -> Response:
    """Show the page of a model."""
    view = about_view(services().registry.entry(model), request.url_root)
    return make_response(render_template("about.html", about=view))


@dataclass(frozen=True)
class Measurement:
    """The accuracy of a model.

    :param statement: how it was measured and on what, as a sentence.
    :param matrix: rows of the confusion matrix: counts with their shades; None if there are too many classes.
    :param classes: figures of the classes, with display names.
    :param more: number of classes that are left out.
    """

    accuracy: str
    interval: str
    statement: str
    matrix: list[list[tuple[int, int]]] | None
    classes: Sequence[Mapping[str, Any]]
    more: int


def about_view(entry: Entry, start_page: str) -> dict[str, Any]:
    """Return what the page of a model shows.

    :param start_page: address of the port of predictions; empty if it is unknown.
    """
    model, folder = entry.model, Path(entry.registration.path)
    builtin = model if isinstance(model, Model) else None
    labels = builtin.labels if builtin else ()
    return {
        "name": entry.name,
        "problem": public_text(entry.problem or ""),
        "model": model,
        "builtin": builtin,
        "description": describe_model(entry) if builtin else "Runs the archive's own code.",
        "labels": distinct_names(labels),
        "measured": measurement(read_document(folder / "metrics.json"), labels),
        "evaluated": measurement(
            read_document(services().settings.instance_dir / "reports" / entry.name / "metrics.json"), labels
        ),
        "facts": _facts(builtin, folder) if builtin else [],
        "notes": _notes(builtin) if builtin else [],
        "samples": [sample for sample in SAMPLES.values() if sample.model == entry.name],
        "code": _code(entry, start_page) if model and start_page else {},
        "token_needed": authorizer().requires_token(PREDICTION),
        "start_page": start_page,
    }


def measurement(metrics: Mapping[str, Any], labels: tuple[str, ...]) -> Measurement | None:
    """Return the figures of a ``metrics.json``; None if it has none, or they are of other classes."""
    accuracy, count = metrics.get("accuracy"), metrics.get("n")
    if not isinstance(accuracy, float) or not isinstance(count, int) or len(metrics.get("labels", ())) != len(labels):
        return None
    interval = metrics.get("accuracy_interval")
    classes = [
        {**figures, "name": name}
        for figures, name in zip(metrics.get("classes", ()), distinct_names(labels), strict=False)
    ]
    if len(classes) > TABLE_CLASSES:
        classes.sort(key=lambda figures: figures["recall"] or 0)
    counts = metrics.get("confusion") if len(labels) <= MATRIX_CLASSES else None
    return Measurement(
        accuracy=percent(accuracy),
        interval=" to ".join(map(percent, interval)) if interval else "",
        statement=_statement(metrics, count),
        matrix=confusion_table(counts) if counts else None,
        classes=classes[:TABLE_CLASSES],
        more=max(0, len(classes) - TABLE_CLASSES),
    )


def _statement(metrics: Mapping[str, Any], count: int) -> str:
    """Return on what the accuracy was measured.

    A model of ``dimple models train`` has been trained on all of its images, so its figure is an estimate.
    """
    if how := metrics.get("how"):
        return (
            f"Estimated by {how} on its {count:,} training images: each was predicted by a model that was trained "
            "without it. The model itself was trained on all of them."
        )
    data, part = metrics.get("data"), metrics.get("measured_on")
    if data and part:
        return f"Measured on {count:,} images of {data} that were held out from training ({part})."
    return f"Measured on {count:,} images of {data}." if data else f"Measured on {count:,} images."


def confusion_table(counts: list[list[int]]) -> list[list[tuple[int, int]]]:
    """Return the cells of a confusion matrix: the count, and its share of the row as a shade from 0 to ``SHADES``."""
    return [[(count, round(SHADES * count / (sum(row) or 1))) for count in row] for row in counts]


def _facts(model: Model, folder: Path) -> list[tuple[str, str]]:
    preprocess = model.preprocess
    height, width = input_size(preprocess, model.input.shape)
    facts = [
        ("Input", f"{width} \u00d7 {height} pixels, {COLORS[preprocess.color]}"),
        ("Images", "faces are found first, and each is classified" if preprocess.faces else RESIZES[preprocess.resize]),
        ("Version", model.version),
        ("Engine", ENGINES.get(model.kind, model.kind)),
        ("Precision", model.precision),
    ]
    if model.parity:
        name = ENGINES.get(model.parity.reference, model.parity.reference)
        facts.append(
            (f"Max. difference from {name}", f"{model.parity.max_abs_difference:.1g}, on {model.parity.samples} inputs")
        )
    if model.agreement:
        facts.append(("Agreement with fp32", percent(model.agreement.top1)))
    facts.append(("Files", f"{folder_bytes(folder) / 1e6:,.1f} MB"))
    return facts


def folder_bytes(folder: Path) -> int:
    """Return the size of the files directly in a folder."""
    try:
        return sum(file_sizes(folder.iterdir()))
    except OSError:
        return 0


def _notes(model: Model) -> list[str]:
    inferred = [f"{part.capitalize()}, inferred: {reason}." for part, reason in model.inferred.items()]
    return [public_text(note) for note in (*model.warnings, *inferred)]


def _code(entry: Entry, start_page: str) -> dict[str, str]:
    path = url_for("predict.predict", model=entry.name)
    if not isinstance(entry.model, Model):
        path = f"/predictions/{entry.name}"
    return code_samples(f"{start_page.rstrip('/')}{path}", "image.jpg", authorizer().requires_token(PREDICTION))


def public_problem(error: DimpleError) -> ErrorBody:
    """Return an error's body without paths of this server."""
    body = error_body(error)
    return replace(body, message=public_text(body.message))


def public_text(text: str) -> str:
    """Return a message without paths of this server: its own folders by their names, others by their last part."""
    settings = services().settings
    folders = {
        settings.cache: "cache",
        settings.models_dir: "models",
        settings.uploads_dir: "uploads",
        settings.instance_dir: "instance",
        ROOT: "dimple",
    }
    for folder, name in folders.items():
        text = text.replace(str(folder), name)
    return text
