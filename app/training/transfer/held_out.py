"""Predictions for pictures that were held out from training, and their JSON document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.training.evaluation.metrics import Rows, predicted_classes, wilson
from app.utils.files import atomic_write
from app.utils.json import read_json


@dataclass(frozen=True)
class HeldOut:
    """The predictions for N pictures, each by a classifier that was not trained on it.

    ``truth`` is (N,), ``probabilities`` (N, K). ``earlier`` (N,) are the classes that another model predicts for the
    same pictures, -1 for a class of its own; None without one. ``rival`` is its name if it was not trained on pictures
    that are known, and empty if it was validated in the same folds.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: Rows
    earlier: NDArray[np.int64] | None = None
    rival: str = ""


def write_predictions(held_out: HeldOut, path: Path) -> None:
    """Write the predictions as JSON: ``labels``; ``pictures``, each with its ``name``, the numbers of its ``class`` and
    of the ``predicted`` class, and the ``probability`` of both (0-1); ``earlier``, the comparison, or null."""
    guesses = predicted_classes(held_out.probabilities)
    before = held_out.earlier
    pictures = [
        {
            "name": name,
            "class": int(true),
            "predicted": int(guess),
            "probability": round(float(row[guess]), 6),
            "class_probability": round(float(row[true]), 6),
        }
        for name, true, guess, row in zip(held_out.names, held_out.truth, guesses, held_out.probabilities, strict=True)
    ]
    document = {
        "labels": list(held_out.labels),
        "pictures": pictures,
        "earlier": None if before is None else _comparison(held_out, guesses, before),
    }
    atomic_write(path, json.dumps(document, ensure_ascii=False) + "\n")


def _comparison(held_out: HeldOut, guesses: NDArray[np.int64], before: NDArray[np.int64]) -> dict[str, Any]:
    """Return the accuracy of the other model, and the names of the pictures on which only one of the two is right."""
    now_right, was_right = guesses == held_out.truth, before == held_out.truth
    return {
        "model": held_out.rival,
        "n": len(before),
        "accuracy": float(was_right.mean()),
        "accuracy_interval": list(wilson(int(was_right.sum()), len(before))),
        "fixed": _names(held_out.names, now_right & ~was_right),
        "broken": _names(held_out.names, was_right & ~now_right),
    }


def _names(names: Sequence[str], chosen: NDArray[np.bool_]) -> list[str]:
    return [name for name, is_chosen in zip(names, chosen, strict=True) if is_chosen]


def read_names(path: Path) -> frozenset[str]:
    """Return the names of the pictures in a document of :func:`write_predictions`.

    :raises DataError: if it is no such document.
    """
    try:
        return frozenset(str(picture["name"]) for picture in read_json(path)["pictures"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path} does not hold the predictions of an earlier training: {error}") from None
