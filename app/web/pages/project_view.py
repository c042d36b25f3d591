"""What the pages of a project show: its classes, warnings about its pictures, its training and its result."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.serving.feedback import stored_corrections
from app.serving.teaching_projects import ENOUGH, LEAST, Project, TaughtClass
from app.serving.training_job import JobResult, TrainingJob
from app.web.csrf import form_token
from app.web.pages.about import MATRIX_CLASSES, confusion_table
from app.web.request import services

FIRST_PICTURES = 24
"""Pictures of a class that are shown before somebody asks for all of them."""
MOST_MISTAKES = 12


@dataclass(frozen=True)
class Mistake:
    """A picture that was predicted wrongly when it was held out: its labels, and the predicted class's probability."""

    picture: str
    label: str
    predicted: str
    probability: float


def project_view(found: Project) -> dict[str, Any]:
    """Return what the templates of a project show."""
    classes = found.classes()
    return {
        **_training_of(found, classes),
        "classes": classes,
        "total": sum(len(kind.pictures) for kind in classes),
        "warnings": _warnings(found, classes),
        "corrections": _new_corrections(found),
        "max_bytes": services().settings.max_request_bytes,
    }


def training_view(found: Project) -> dict[str, Any]:
    """Return what the template of a training shows, which the page requests several times a second."""
    return _training_of(found, found.classes())


def _training_of(found: Project, classes: list[TaughtClass]) -> dict[str, Any]:
    job = TrainingJob(found, services().settings)
    running = job.state()
    result = job.result()
    return {
        "project": found,
        "job": running,
        "result": _result(classes, result) if result else None,
        "is_ready": len(classes) > 1 and all(len(kind.pictures) >= LEAST for kind in classes),
        "is_served": found.name in services().registry and job.served_predictions is not None,
        "limits": {"first": FIRST_PICTURES, "least": LEAST, "enough": ENOUGH},
        "token": form_token(),
    }


def _warnings(found: Project, classes: list[TaughtClass]) -> list[dict[str, Any]]:
    """Return the warnings about the pictures: a sentence, and the pictures that it is about."""
    warnings: list[dict[str, Any]] = [{"text": text} for text in _few(classes)]
    for group in found.duplicates():
        if len(group.labels) > 1:
            text = f"Nearly the same picture is in {' and '.join(group.labels)}. Remove it from the wrong class."
        else:
            text = f"{len(group.pictures)} pictures of {group.labels[0]} are nearly the same. They count as one."
        warnings.append({"text": text, "pictures": group.pictures[:6], "contradicts": len(group.labels) > 1})
    return warnings


def _few(classes: list[TaughtClass]) -> Iterator[str]:
    """Yield a sentence for each class with few pictures."""
    for kind in classes:
        if (count := len(kind.pictures)) < ENOUGH:
            pictures = f"{count or 'no'} {'picture' if count == 1 else 'pictures'}"
            need = f"it needs at least {LEAST}" if count < LEAST else f"{ENOUGH} or more are better"
            yield f"{kind.label} has {pictures}; {need}."


def _result(classes: list[TaughtClass], result: JobResult) -> dict[str, Any]:
    """Return a result for the templates."""
    metrics, predictions = result.metrics, result.predictions
    labels = [str(label) for label in predictions["labels"]]
    wrong = [item for item in predictions["pictures"] if item["class"] != item["predicted"]]
    wrong.sort(key=lambda item: -item["probability"])
    here = {(kind.label, picture) for kind in classes for picture in kind.pictures}
    mistakes = [
        Mistake(name, labels[item["class"]], labels[item["predicted"]], item["probability"])
        for item in wrong
        if (labels[item["class"]], name := Path(item["name"]).name) in here
    ]
    return {
        "metrics": metrics,
        "labels": labels,
        "matrix": confusion_table(metrics["confusion"]) if len(labels) <= MATRIX_CLASSES else None,
        "mistakes": mistakes[:MOST_MISTAKES],
        "wrong": len(wrong),
        "earlier": predictions.get("earlier"),
        "seconds": result.seconds,
        "used": result.used,
    }


def _new_corrections(found: Project) -> int:
    """Return the number of corrections of the project's model that the project does not have."""
    mine = {picture.partition(".")[0] for kind in found.classes() for picture in kind.pictures}
    count = 0
    for _, path in stored_corrections(corrections_dir(found.fact("origin") or found.name)):
        with contextlib.suppress(OSError):
            count += hashlib.sha256(path.read_bytes()).hexdigest()[:32] not in mine
    return count


def corrections_dir(model: str) -> Path:
    return services().settings.instance_dir / "corrections" / Path(model).name


def project_summary(project: Project) -> dict[str, Any]:
    classes = project.classes()
    first = next((kind.pictures[0] for kind in classes if kind.pictures), "")
    return {
        "id": project.id,
        "name": project.name,
        "labels": [kind.label for kind in classes],
        "count": sum(len(kind.pictures) for kind in classes),
        "picture": first,
        "served": (project.folder / "served.json").exists(),
    }
