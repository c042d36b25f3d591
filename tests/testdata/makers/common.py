"""Pictures, weights and the record of answers for the scripts beside this file, each of which runs in its own venv."""

import json
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES = 12, 3
draw = np.random.RandomState(17)  # numpy of any version draws the same
PICTURES = (draw.randint(0, 256, (4, SIDE, SIDE, 3)) * np.array([0.2, 0.5, 0.8, 1.0]).reshape(4, 1, 1, 1)).astype(int)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def unit() -> Any:
    """Values of 0-1, (N, H, W, 3)."""
    return (PICTURES / 255).astype(np.float32)


def imagenet() -> Any:
    """Values less ImageNet's mean, divided by its deviation, (N, 3, H, W)."""
    return ((PICTURES / 255 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2)


def raw() -> Any:
    """Values of 0-255, (N, 3, H, W)."""
    return PICTURES.astype(np.float32).transpose(0, 3, 1, 2)


def softmax(rows: Any) -> Any:
    """Probabilities of logits (N, classes)."""
    wide = np.exp(np.asarray(rows, np.float64) - np.max(rows, axis=1, keepdims=True))
    return wide / wide.sum(axis=1, keepdims=True)


def record(folder: Path, name: str, kind: str, made_by: str, probabilities: Any) -> None:
    """Write ``NAME.json``: the kind of file, its maker, the pictures, and what the maker answers for them."""
    rows = np.asarray(probabilities, np.float64)
    assert np.ptp(rows, axis=0).max() > 0.01, "the pictures make no difference"
    document = {"kind": kind, "made_by": made_by, "pictures": PICTURES.tolist(), "answers": rows.tolist()}
    (folder / (name + ".json")).write_text(json.dumps(document) + "\n")
