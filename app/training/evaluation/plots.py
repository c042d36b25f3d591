"""Plots of a classifier's results, drawn by Matplotlib without its globals and without files in a user's home."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from app.training.evaluation.metrics import BINS, Classes, Metrics, Rows, calibration
from app.utils.files import replacing

DPI = 110
CONFIG = "MPLCONFIGDIR"


def keep_config_in(folder: Path) -> None:
    """Store matplotlib's font cache in ``folder``, unless the user has set ``MPLCONFIGDIR``.

    Without it every process builds the cache anew, in a temporary folder. Call this before drawing anything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(CONFIG, str(folder))


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure that is not registered with pyplot.

    :param width: in inches, of ``DPI`` pixels each; ``height`` likewise.
    """
    _import_quietly()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_png(figure: Any, path: Path) -> None:
    """Write a figure; the file appears complete or not at all."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png", bbox_inches="tight", pad_inches=0.15)  # long labels need room


def _import_quietly() -> None:
    """Import matplotlib with a private folder for its cache and fontconfig's.

    Without a cache matplotlib gets its fonts from fontconfig, which writes to the home directory too.
    """
    if "matplotlib.font_manager" in sys.modules:
        return
    if not os.environ.get(CONFIG):
        temporary = tempfile.mkdtemp(prefix="dimple-matplotlib-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        os.environ[CONFIG] = temporary
    with _environ("XDG_CACHE_HOME", os.environ[CONFIG]):
        import matplotlib.font_manager  # noqa: F401


@contextlib.contextmanager
def _environ(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6b6b6b"
MAX_CLASSES = 100
"""Limit on the classes in a confusion matrix; the rest share one row and one column."""
MAX_WRITTEN = 30
"""Limit on the classes for counts in the cells."""
MAX_LABEL = 26
OTHERS = "(others)"


def roc_curve(path: Path, probability: Rows, truth: Classes, label: str) -> None:
    """Draw the receiver operating characteristic of one class.

    :param probability: (N,), of the class.
    :param truth: (N,), 1 or True if a picture is of the class. Both values must occur.
    """
    false_rate, true_rate, _ = metrics.roc_curve(truth, probability)
    area = metrics.auc(false_rate, true_rate)
    figure = new_figure(6, 6)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="chance (AUC 0.5)")
    axes.fill_between(false_rate, true_rate, color=BLUE, alpha=0.12, linewidth=0)
    axes.plot(false_rate, true_rate, color=BLUE, linewidth=2, label=f"AUC {area:.4f}")
    predicted, positive = probability >= 0.5, np.asarray(truth, bool)
    axes.plot(predicted[~positive].mean(), predicted[positive].mean(), "o", color=ORANGE, label="threshold 0.5")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel(f"false positive rate (of {(~positive).sum():,} others)")
    axes.set_ylabel(f"true positive rate (of {positive.sum():,} {_short(label)})")
    axes.set_title(f"ROC curve of {_short(label)}")
    axes.legend(loc="lower right")
    _tidy(axes)
    write_png(figure, path)


def confusion_matrix(path: Path, figures: Metrics) -> None:
    """Draw the confusion matrix: counts, and colours for the share of each true class.

    Classes that neither occurred nor were predicted are left out. Of more than ``MAX_CLASSES``, those with the most
    pictures are drawn and the rest is summed.
    """
    labels, counts = plotted_classes(figures)
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(labels)
    side = max(3.2, size * (0.9 if size <= 5 else 0.55 if size <= MAX_WRITTEN else 0.17))
    longest = max(map(len, labels))
    level = longest * size <= 40  # otherwise the labels of the columns would overlap
    figure = new_figure(side + 2 + 0.08 * longest, side + 1.2 + (0 if level else 0.08 * longest))
    axes = figure.add_subplot()
    image = axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    font = 10 if size <= MAX_WRITTEN else 6.5
    axes.set_xticks(range(size), labels, rotation=0 if level else 90, fontsize=font)
    axes.set_yticks(range(size), labels, fontsize=font)
    axes.set(xlabel="called", ylabel="true")
    axes.set_title(f"Confusion of {figures.n:,} pictures\naccuracy {figures.accuracy:.1%}")
    if size <= MAX_WRITTEN:
        _write_cells(axes, counts, parts, 10 if size <= 5 else 7)
    bar = figure.colorbar(
        image, ax=axes, fraction=0.046, pad=0.03, aspect=max(20, 0.5 * size), format=lambda part, _: f"{part:.0%}"
    )
    bar.set_label("part of the true class")
    write_png(figure, path)


def plotted_classes(figures: Metrics) -> tuple[list[str], NDArray[np.int64]]:
    """Return the labels and counts in the confusion matrix."""
    counts = np.array(figures.confusion, np.int64)
    support, calls = counts.sum(axis=1), counts.sum(axis=0)
    seen = np.flatnonzero(support + calls)
    if len(seen) <= MAX_CLASSES:
        return [_short(figures.labels[index]) for index in seen], counts[np.ix_(seen, seen)]
    order = seen[np.lexsort((-calls[seen], -support[seen]))]
    largest, rest = np.sort(order[: MAX_CLASSES - 1]), order[MAX_CLASSES - 1 :]
    groups = [*([index] for index in largest), rest]
    rows = np.stack([counts[group].sum(axis=0) for group in groups])
    merged = np.stack([rows[:, group].sum(axis=1) for group in groups], axis=1)
    return [*(_short(figures.labels[index]) for index in largest), OTHERS], merged


def reliability(path: Path, probabilities: Rows, truth: Classes, error: float) -> None:
    """Draw the accuracy of the classifier and the number of pictures by confidence.

    :param probabilities: (N, K).
    :param truth: (N,).
    :param error: the calibration error, as in :class:`Metrics`.
    """
    bins = calibration(probabilities, truth)
    figure = new_figure(6, 7)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 1 / BINS
    middles = (np.arange(BINS) + 0.5) * width
    upper.bar(middles, [item.accuracy if item else 0 for item in bins], width * 0.94, color=BLUE, label="accuracy")
    filled = [item for item in bins if item]
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    upper.plot(
        [item.confidence for item in filled],
        [item.accuracy for item in filled],
        "o",
        color=ORANGE,
        markeredgecolor="white",
        label="at the mean confidence",
    )
    upper.set(ylim=(0, 1.02), ylabel="accuracy")
    upper.set_title(f"Reliability: calibration error {error:.3f}\n{len(truth):,} pictures, {BINS} bins")
    upper.legend(loc="upper left")
    lower.bar(middles, [item.count / len(truth) if item else 0 for item in bins], width * 0.94, color=GREY)
    lower.set(xlim=(0, 1), xlabel="confidence (probability of the class that is called)", ylabel="part of pictures")
    _tidy(upper)
    _tidy(lower)
    write_png(figure, path)


def learning_curves(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Draw loss and accuracy over the epochs.

    :param history: one mapping per epoch: epoch, loss, accuracy, and with validation pictures val_loss and
        val_accuracy. Accuracies are 0-1.
    """
    figure = new_figure(11, 4.5)
    left, right = figure.subplots(1, 2)
    for axes, name in ((left, "loss"), (right, "accuracy")):
        _curve(axes, history, name, "training", BLUE, "-")
        _curve(axes, history, f"val_{name}", "validation", ORANGE, "--")
        axes.set(xlabel="epoch", ylabel=name, title=name.capitalize())
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
        _tidy(axes)
    validated = [epoch for epoch in history if "val_accuracy" in epoch]
    if validated:
        best = max(validated, key=lambda epoch: epoch["val_accuracy"])
        right.plot(best["epoch"], best["val_accuracy"], "o", color=ORANGE)
        right.set_title(f"Accuracy: {best['val_accuracy']:.3f} at epoch {best['epoch']:.0f} at best")
    write_png(figure, path)


def _curve(axes: Any, history: Sequence[Mapping[str, float]], key: str, label: str, color: str, style: str) -> None:
    points = [(epoch["epoch"], epoch[key]) for epoch in history if key in epoch]
    if points:
        marker = "." if len(points) < 40 else None
        axes.plot(*zip(*points, strict=True), color=color, linestyle=style, marker=marker, label=label)


def _write_cells(axes: Any, counts: NDArray[np.int64], parts: NDArray[np.float64], font: float) -> None:
    for row, column in np.argwhere(counts):
        part = parts[row, column]
        text = f"{counts[row, column]:,}\n{part:.0%}"
        color = "white" if part > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=font)


def _tidy(axes: Any) -> None:
    axes.grid(color="#d9d9d9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _short(label: str) -> str:
    """Shorten a label to fit beside an axis. Matplotlib reads dollar signs as mathematics, so they are escaped."""
    short = label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…"
    return short.replace("$", r"\$")
