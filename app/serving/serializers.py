"""JSON documents of answers and models."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.serving.custom_model import CustomModel
from app.serving.loader import Entry
from app.serving.model import Model
from app.types import Answer, Prediction


def answer_document(answer: Answer) -> dict[str, Any]:
    """Return an answer as a JSON document. ``note`` is present only if it is not empty."""
    document: dict[str, Any] = {
        "model": answer.model,
        "version": answer.version,
        "predictions": _predictions(answer.predictions),
        "faces": None
        if answer.faces is None
        else [{"box": asdict(face.box), "predictions": _predictions(face.predictions)} for face in answer.faces],
        "timing_ms": answer.timing_ms,
    }
    if answer.note:
        document["note"] = answer.note
    return document


def _predictions(predictions: tuple[Prediction, ...]) -> list[dict[str, Any]]:
    return [{"class": prediction.label, "probability": prediction.probability} for prediction in predictions]


def entry_document(entry: Entry) -> dict[str, Any]:
    """Return a model as a JSON document for the list of models."""
    problem = entry.problem
    if entry.model is None:
        return {"model": entry.name, "state": "failed", "reason": problem}
    state = {"state": "failed", "reason": problem} if problem else {"state": "ready"}
    return {"model": entry.name, **state, "version": entry.model.version, **_details(entry.model)}


def _details(model: Model | CustomModel) -> dict[str, Any]:
    if isinstance(model, CustomModel):
        return {"engine": model.kind, "predict": f"/predictions/{model.name}"}
    return {
        "engine": model.kind,
        "precision": model.precision,
        "parity": asdict(model.parity) if model.parity else None,
        "agreement": asdict(model.agreement) if model.agreement else None,
        "input": {"name": model.input.name, "shape": list(model.input.shape), **asdict(model.preprocess)},
        "labels": list(model.labels),
        **({"inferred": model.inferred} if model.inferred else {}),
        **({"warnings": list(model.warnings)} if model.warnings else {}),
    }
