"""Reports on a classifier: a folder of metrics and plots, and a few lines for the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from app.training.evaluation import plots
from app.training.evaluation.contact_sheet import JudgedPicture, contact_sheet
from app.training.evaluation.metrics import Classes, ClassMetrics, Metrics, Rows, document, predicted_classes
from app.utils.files import atomic_write

MOST_CLASSES = 20
"""Limit on the classes in the table."""
MAX_LABEL = 40


@dataclass(frozen=True)
class Item:
    """A picture's name, and a function that loads it."""

    name: str
    load: Callable[[], Image.Image]


def write_report(
    folder: Path,
    figures: Metrics,
    probabilities: Rows,
    truth: Classes,
    items: Sequence[Item],
    facts: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a report: ``metrics.json`` and its plots; an existing report is replaced.

    The plots are ``roc.png`` (of two classes), ``confusion.png``, ``reliability.png`` and ``mistakes.png``.

    :param folder: created if it is missing.
    :param probabilities: (N, K).
    :param truth: (N,).
    :param items: the N pictures.
    :param facts: other content of ``metrics.json``, before the metrics: model, data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ("metrics.json", "confusion.png", "reliability.png", "mistakes.png", "roc.png")
    metrics, confusion, reliability, mistakes, roc = (folder / name for name in names)
    _write_json(metrics, {**(facts or {}), **document(figures)})
    plots.confusion_matrix(confusion, figures)
    plots.reliability(reliability, probabilities, truth, figures.calibration_error)
    contact_sheet(mistakes, _judge_pictures(figures, probabilities, truth, items))
    written = [metrics, confusion, reliability, mistakes]
    if len(figures.labels) == 2 and figures.roc_auc is not None:
        plots.roc_curve(roc, probabilities[:, 1], truth, figures.labels[1])
        return [*written, roc]
    roc.unlink(missing_ok=True)  # an earlier report's
    return written


def table(figures: Metrics) -> str:
    """Return the metrics as text of several lines. Of many classes, those with the lowest F1 are listed."""
    low, high = figures.accuracy_interval
    auc = "not defined: only one class occurs" if figures.roc_auc is None else f"{figures.roc_auc:.4f}"
    lines = [
        f"pictures           {figures.n:,}",
        f"accuracy           {figures.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f})",
        f"ROC AUC            {auc}",
        f"log loss           {figures.log_loss:.4f}",
        f"calibration error  {figures.calibration_error:.4f}",
        "",
        *_class_lines(figures),
    ]
    return "\n".join(lines)


def _class_lines(figures: Metrics) -> list[str]:
    occurring = [item for item in figures.classes if item.support]
    worst = sorted(occurring, key=lambda item: item.f1 or 0)[:MOST_CLASSES]
    listed = occurring if len(occurring) <= MOST_CLASSES else worst
    width = max(len("class"), *(len(_label(item)) for item in listed))
    lines = [f"{'class':<{width}}  precision  recall      F1  pictures"]
    for item in listed:
        precision, recall, f1 = (_figure(value) for value in (item.precision, item.recall, item.f1))
        lines.append(f"{_label(item):<{width}}  {precision:>9}  {recall:>6}  {f1:>6}  {item.support:>8,}")
    if len(listed) < len(occurring):
        lines.append(f"… and {len(occurring) - len(listed):,} classes with a higher F1")
    return lines


def _label(metrics: ClassMetrics) -> str:
    return metrics.label if len(metrics.label) <= MAX_LABEL else metrics.label[: MAX_LABEL - 1] + "…"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _judge_pictures(
    figures: Metrics, probabilities: Rows, truth: Classes, items: Sequence[Item]
) -> list[JudgedPicture]:
    labels, guesses = figures.labels, predicted_classes(probabilities)
    return [
        JudgedPicture(item.name, item.load, labels[true], labels[guess], float(row[true]))
        for item, row, true, guess in zip(items, probabilities, truth, guesses, strict=True)
    ]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # each row of the confusion on one line: a thousand classes would make a million lines
    text = re.sub(r"\[[\d,\s]+\]", lambda row: "[" + " ".join(row[0][1:-1].split()) + "]", text)
    atomic_write(path, text + "\n")
