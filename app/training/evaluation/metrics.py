"""Metrics of a classifier."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from app.errors import DataError

BINS = 15
"""Bins of the calibration error, as many as in its paper."""
NORMAL_95 = 1.959963984540054
"""Standard deviations from the mean that enclose the middle 95 % of a normal distribution."""

Rows = NDArray[np.floating[Any]]
Classes = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class, 0-1. None if a metric is undefined: the class was never predicted, or never occurred.

    ``support`` is the number of pictures of the class.
    """

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Metrics:
    """Metrics over ``n`` pictures.

    ``accuracy_interval`` is Wilson's 95 % interval. ``roc_auc`` is class 1's for two classes. For more classes it is
    the mean over the classes that occur, each against the rest; it is None if only one class occurs.
    ``confusion[i][j]`` counts the pictures of class *i* that were predicted as *j*. ``log_loss`` is in nats.
    """

    n: int
    labels: tuple[str, ...]
    accuracy: float
    accuracy_interval: tuple[float, float]
    roc_auc: float | None
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: float
    log_loss: float


@dataclass(frozen=True)
class Bin:
    """Pictures of similar confidence: their number, their mean confidence, and the share of correct predictions."""

    count: int
    confidence: float
    accuracy: float


def compute_metrics(probabilities: Rows, truth: Classes, labels: tuple[str, ...]) -> Metrics:
    """Compare a classifier's probabilities with the true classes.

    :param probabilities: (N, K), 0-1.
    :param truth: (N,), the true classes, 0 to K - 1.
    :param labels: the K classes' names.
    :raises DataError: if there is no picture, or the shapes do not match.
    """
    _check(probabilities, truth, labels)
    counts = _confusion(predicted_classes(probabilities), truth, len(labels))
    right = int(np.trace(counts))
    return Metrics(
        n=len(truth),
        labels=tuple(labels),
        accuracy=right / len(truth),
        accuracy_interval=wilson(right, len(truth)),
        roc_auc=_roc_auc(probabilities, truth),
        classes=tuple(_class(counts, index, label) for index, label in enumerate(labels)),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        calibration_error=_calibration_error(calibration(probabilities, truth)),
        log_loss=_log_loss(probabilities, truth),
    )


def document(figures: Metrics) -> dict[str, Any]:
    """Return the metrics as JSON types: plain lists, numbers, strings and nulls."""
    made = asdict(figures)
    made["labels"] = list(figures.labels)
    made["accuracy_interval"] = list(figures.accuracy_interval)
    made["classes"] = list(made["classes"])
    made["confusion"] = [list(row) for row in figures.confusion]
    return made


def predicted_classes(probabilities: Rows) -> NDArray[np.int64]:
    """Return the most probable class of each row, (N,). Of two equally probable classes, class 1."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] >= probabilities[:, 0]).astype(np.int64)
    best: NDArray[np.int64] = probabilities.argmax(axis=1).astype(np.int64)
    return best


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, ``right`` of ``n``, without continuity correction.

    Source: Wilson 1927, JASA 22:209-212.
    """
    part, z = right / n, NORMAL_95
    middle = part + z * z / (2 * n)
    reach = z * math.sqrt(part * (1 - part) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def calibration(probabilities: Rows, truth: Classes) -> tuple[Bin | None, ...]:
    """Return the pictures in ``BINS`` equally wide bins of their top probability.

    Each bin is open on the left and closed on the right; a bin without pictures is None.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = predicted_classes(probabilities) == truth
    edges = np.linspace(0, 1, BINS + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    return tuple(_bin(confidence[place == index], right[place == index]) for index in range(BINS))


def _check(probabilities: Rows, truth: Classes, labels: tuple[str, ...]) -> None:
    if not len(truth):
        raise DataError("there is no picture to measure the classifier on; give it at least one")
    if probabilities.shape != (len(truth), len(labels)):
        raise DataError(
            f"probabilities of the shape {probabilities.shape} do not fit {len(truth)} pictures and {len(labels)} "
            "labels; give a row for each picture and a column for each label"
        )
    if truth.min() < 0 or truth.max() >= len(labels):
        raise DataError(f"true classes from {truth.min()} to {truth.max()} do not fit {len(labels)} labels from 0 on")


def _roc_auc(probabilities: Rows, truth: Classes) -> float | None:
    occurring = np.unique(truth)
    if len(occurring) < 2:
        return None
    if len(probabilities[0]) == 2:
        return float(roc_auc_score(truth == 1, probabilities[:, 1]))
    # scikit-learn's multi_class="ovr" requires that every class occurs and that every row sums to 1
    return float(np.mean([roc_auc_score(truth == index, probabilities[:, index]) for index in occurring]))


def _confusion(guesses: Classes, truth: Classes, classes: int) -> NDArray[np.int64]:
    """Count predictions per true class.

    scikit-learn's function warns that many classes with few pictures look like regression, so it is not used.
    """
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (truth, guesses), 1)
    return counts


def _class(counts: NDArray[np.int64], index: int, label: str) -> ClassMetrics:
    right, support, calls = int(counts[index, index]), int(counts[index].sum()), int(counts[:, index].sum())
    return ClassMetrics(
        label=label,
        precision=right / calls if calls else None,
        recall=right / support if support else None,
        f1=2 * right / (support + calls) if support + calls else None,
        support=support,
    )


def _bin(confidence: Rows, right: NDArray[np.bool_]) -> Bin | None:
    if not len(confidence):
        return None
    return Bin(len(confidence), float(confidence.mean()), float(right.mean()))


def _calibration_error(bins: tuple[Bin | None, ...]) -> float:
    """Return the expected calibration error (Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3)."""
    filled = [item for item in bins if item]
    return sum(item.count * abs(item.accuracy - item.confidence) for item in filled) / sum(
        item.count for item in filled
    )


def _log_loss(probabilities: Rows, truth: Classes) -> float:
    """Return the mean of -log of the true class's probability.

    A probability of 0 counts as float32's epsilon, which is the precision of the served probabilities. scikit-learn's
    function warns if rows do not sum to 1, as for a network with several sigmoids, so it is not used.
    """
    true = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return float(np.mean(-np.log(np.clip(true, np.finfo(np.float32).eps, 1))))
