from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.training.evaluation.metrics import compute_metrics
from app.training.evaluation.report import Item, table, write_report


@pytest.fixture(autouse=True, scope="module")
def own_config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    os.environ.setdefault("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))


TRUTH = np.array([0, 0, 1, 1])
ROWS = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
PNGS = {"confusion.png", "reliability.png", "mistakes.png"}


def items(count: int) -> list[Item]:
    return [Item(f"{number}.png", lambda: Image.new("RGB", (9, 9), (255, 0, 0))) for number in range(count)]


def test_a_report_of_two_classes_is_five_files(tmp_path: Path) -> None:
    found = compute_metrics(ROWS, TRUTH, ("cat", "dog"))
    written = write_report(tmp_path / "deep" / "report", found, ROWS, TRUTH, items(4), {"model": "pets"})
    assert {path.name for path in written} == {"metrics.json", "roc.png", *PNGS}
    assert sorted((tmp_path / "deep" / "report").iterdir()) == sorted(written)  # and nothing half made
    metrics = json.loads(written[0].read_text())
    assert metrics["model"] == "pets"
    assert metrics["accuracy"] == 0.75
    assert metrics["confusion"] == [[1, 1], [0, 2]]
    with Image.open(tmp_path / "deep" / "report" / "mistakes.png") as sheet:
        red = (np.asarray(sheet) == (255, 0, 0)).all(axis=2)
    assert 0 < red.any(axis=0).sum() == red.any(axis=1).sum() <= 180  # one mistake, a square


def test_an_earlier_report_is_replaced_and_its_roc_curve_removed(tmp_path: Path) -> None:
    (tmp_path / "roc.png").write_bytes(b"of another model")
    (tmp_path / "metrics.json").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("the user's own")
    rows, truth = np.eye(3), np.arange(3)
    write_report(tmp_path, compute_metrics(rows, truth, ("a", "b", "c")), rows, truth, items(3))
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "notes.txt", *PNGS}
    assert json.loads((tmp_path / "metrics.json").read_text())["n"] == 3


def test_a_single_class_has_no_roc_curve(tmp_path: Path) -> None:
    found = compute_metrics(ROWS[:2], TRUTH[:2], ("cat", "dog"))
    written = write_report(tmp_path, found, ROWS[:2], TRUTH[:2], items(2))
    assert "roc.png" not in {path.name for path in written}


def test_metrics_of_many_classes_have_a_line_for_each_row_of_the_confusion(tmp_path: Path) -> None:
    labels = tuple(f"[{number},\n {number}]" for number in range(40))
    write_report(tmp_path, compute_metrics(np.eye(40), np.arange(40), labels), np.eye(40), np.arange(40), items(40))
    text = (tmp_path / "metrics.json").read_text()
    assert text.count("\n") < 40 * 12
    metrics = json.loads(text)
    assert metrics["confusion"] == np.eye(40, dtype=int).tolist()
    assert metrics["labels"] == list(labels)


def test_the_table_lists_the_metrics() -> None:
    lines = table(compute_metrics(ROWS, TRUTH, ("cat", "a long label"))).splitlines()
    assert lines[0].split() == ["pictures", "4"]
    assert lines[1].split()[:2] == ["accuracy", "0.7500"]
    assert lines[2].split() == ["ROC", "AUC", "1.0000"]
    header, cat, other = lines[-3:]
    assert cat.split() == ["cat", "1.0000", "0.5000", "0.6667", "2"]
    assert other.split()[-4:] == ["0.6667", "1.0000", "0.8000", "2"]
    assert len({len(header), len(cat), len(other)}) == 1  # aligned on the right
    assert cat.index("1.0000") == other.index("0.6667")


def test_the_table_marks_undefined_metrics() -> None:
    text = table(compute_metrics(ROWS[:1], TRUTH[:1] + 1, ("cat", "dog")))
    assert "not defined" in text
    assert text.splitlines()[-1].split() == ["dog", "-", "0.0000", "0.0000", "1"]


def test_only_the_worst_of_many_classes_are_listed() -> None:
    rows = np.eye(50)
    rows[40] = rows[7]  # 40 is called 7
    lines = table(compute_metrics(rows, np.arange(50), tuple(f"class{number}" for number in range(50)))).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("class "))
    assert [line.split()[0] for line in lines[start + 1 : start + 3]] == ["class40", "class7"]
    assert lines[-1].split()[2] == "30"
    assert len(lines) < 30
