"""The plots, read again, with their content found by the colours of their pixels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.settings import ROOT
from app.training.evaluation import plots
from app.training.evaluation.metrics import Metrics, compute_metrics

# Okabe and Ito's blue and vermilion, and both ends of ColorBrewer's Blues
BLUE, ORANGE, PALEST, DARKEST = (0, 114, 178), (213, 94, 0), (247, 251, 255), (8, 48, 107)


@pytest.fixture(autouse=True, scope="module")
def own_config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    os.environ.setdefault("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))


def pixels_of(path: Path) -> Any:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def places(pixels: Any, colour: tuple[int, int, int]) -> Any:
    """Return rows and columns of a colour, as parts of the height and width, from the top and from the left."""
    found = np.argwhere((abs(pixels - colour) <= 2).all(axis=2))
    return found / np.array(pixels.shape[:2])


def of_two(called_right: bool, count: int = 20) -> tuple[Any, Any]:
    truth = np.arange(count) % 2
    p = np.where((truth == 1) == called_right, 0.9, 0.1)
    return np.stack([1 - p, p], axis=1), truth


def cells(path: Path) -> list[str]:
    """Return a confusion of two classes by its colours, read near the corners of its cells."""
    pixels = pixels_of(path)
    ends = [(abs(pixels - colour) <= 1).all(axis=2) for colour in (PALEST, DARKEST)]
    either = ends[0] | ends[1]
    left = int(np.flatnonzero(either.sum(axis=0) > 50)[0]) + 1
    rows = np.flatnonzero(either[:, left])
    side = int(rows[-1] - rows[0])
    found = ""
    for down in (0.1, 0.6):
        for right in (0.1, 0.6):
            here = (rows[0] + int(down * side), left + int(right * side))
            found += "dark " if ends[1][here] else "pale " if ends[0][here] else "? "
    return found.split()


def test_the_diagonal_of_a_perfect_classifier_is_dark_and_the_rest_pale(tmp_path: Path) -> None:
    plots.confusion_matrix(tmp_path / "c.png", compute_metrics(*of_two(True), ("no", "yes")))
    assert cells(tmp_path / "c.png") == ["dark", "pale", "pale", "dark"]


def test_the_diagonal_of_a_classifier_that_is_always_wrong_is_pale(tmp_path: Path) -> None:
    plots.confusion_matrix(tmp_path / "c.png", compute_metrics(*of_two(False), ("no", "yes")))
    assert cells(tmp_path / "c.png") == ["pale", "dark", "dark", "pale"]


def test_rows_are_the_true_classes(tmp_path: Path) -> None:
    rows = np.array([[0.9, 0.1]] * 4)  # always called class 0: the left column is dark
    plots.confusion_matrix(tmp_path / "c.png", compute_metrics(rows, np.array([0, 1, 0, 1]), ("no", "yes")))
    assert cells(tmp_path / "c.png") == ["dark", "pale", "dark", "pale"]


@pytest.mark.slow
def test_the_labels_of_a_hundred_classes_fit(tmp_path: Path) -> None:
    rows = np.eye(100)
    plots.confusion_matrix(
        tmp_path / "c.png", compute_metrics(rows, np.arange(100), tuple(f"class {i}" for i in range(100)))
    )
    pixels = pixels_of(tmp_path / "c.png")
    dark = (abs(pixels - DARKEST) <= 1).all(axis=2)
    assert pixels.shape[0] > 100 * 12  # a line of the smallest legible type is twelve pixels
    # the diagonal falls: from left to right the dark is ever lower
    columns = np.flatnonzero(dark[:, : int(0.85 * dark.shape[1])].sum(axis=0) > 5)
    heights = [np.flatnonzero(dark[:, column]).mean() for column in columns]
    assert len(columns) > 100 * 10
    assert np.corrcoef(columns, heights)[0, 1] > 0.999


def test_labels_of_any_text_are_drawn(tmp_path: Path) -> None:
    labels = ("$100 \\frac{", "n02123045 tabby, tabby cat, and a long line after it")
    plots.confusion_matrix(tmp_path / "c.png", compute_metrics(*of_two(True), labels))
    assert cells(tmp_path / "c.png") == ["dark", "pale", "pale", "dark"]
    rows, truth = of_two(True)
    plots.roc_curve(tmp_path / "r.png", rows[:, 1], truth, labels[0])
    assert len(places(pixels_of(tmp_path / "r.png"), BLUE))


def thousand(n: int) -> Metrics:
    """Return a thousand classes; class i occurs n - i times and is always predicted rightly, except one that is called
    999.
    """
    truth = np.repeat(np.arange(n), np.arange(n, 0, -1))
    calls = truth.copy()
    calls[0] = 999
    return compute_metrics(np.eye(1000)[calls], truth, tuple(f"class {i}" for i in range(1000)))


def test_classes_that_do_not_occur_are_omitted() -> None:
    labels, counts = plots.plotted_classes(thousand(3))
    assert labels == ["class 0", "class 1", "class 2", "class 999"]
    assert counts.tolist() == [[2, 0, 0, 1], [0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_the_rarest_of_more_than_a_hundred_classes_are_merged() -> None:
    labels, counts = plots.plotted_classes(thousand(110))
    assert len(labels) == 100
    assert labels[98:] == ["class 98", "(others)"]
    # the others are classes 99 to 109, of 11 to 1 pictures, and 999, of none
    assert counts[99, 99] == 66
    assert counts[0, 99] == 1
    assert counts.sum() == 110 * 111 / 2


@pytest.mark.parametrize(("right", "corner"), [(True, (0, 0)), (False, (1, 1))])
def test_the_threshold_of_a_perfect_classifier_is_at_the_top_left(
    tmp_path: Path, right: bool, corner: tuple[int, int]
) -> None:
    rows, truth = of_two(right)
    plots.roc_curve(tmp_path / "r.png", rows[:, 1], truth, "yes")
    pixels = pixels_of(tmp_path / "r.png")
    orange = places(pixels, ORANGE)
    near = np.abs(orange - corner).max(axis=1) < 0.2
    assert near.sum() > 20
    # the curve itself: over the left half it is above for one, below for the other
    blue = places(pixels, BLUE)
    left = blue[(blue[:, 1] > 0.2) & (blue[:, 1] < 0.45)]
    assert (left[:, 0].mean() < 0.2) == right


def test_the_bars_of_reliability_are_as_high_as_the_accuracy(tmp_path: Path) -> None:
    rows = np.array([[0.01, 0.99]] * 40)
    heights = []
    for right in (40, 20, 0):
        truth = np.arange(40) < right
        plots.reliability(tmp_path / "r.png", rows, truth.astype(int), 0.5)
        pixels = pixels_of(tmp_path / "r.png")
        blue = places(pixels, BLUE)
        bar = blue[blue[:, 1] > 0.85]  # the last of fifteen bins; the legend is on the left
        heights.append(np.ptp(bar[:, 0]) if len(bar) else 0)
    assert heights[0] > 0.4
    assert heights[1] == pytest.approx(heights[0] / 2, rel=0.05)
    assert heights[2] < 0.03


def test_learning_curves_fall_and_rise_as_the_history_does(tmp_path: Path) -> None:
    history = [{"epoch": e, "loss": 1 - e / 10, "accuracy": e / 10} for e in range(1, 9)]
    plots.learning_curves(tmp_path / "l.png", history)
    pixels = pixels_of(tmp_path / "l.png")
    assert not len(places(pixels, ORANGE))  # nothing was kept back
    blue = places(pixels, BLUE)
    loss, accuracy = blue[blue[:, 1] < 0.5], blue[blue[:, 1] >= 0.5]
    assert np.corrcoef(loss.T)[0, 1] > 0.5  # further right is further down
    assert np.corrcoef(accuracy.T)[0, 1] < -0.5


def test_learning_curves_mark_the_best_epoch(tmp_path: Path) -> None:
    validated = [0.2, 0.4, 0.9, 0.5, 0.3]
    history = [
        {"epoch": e, "loss": 0.5, "accuracy": 0.5, "val_loss": 0.6, "val_accuracy": a}
        for e, a in enumerate(validated, 1)
    ]
    plots.learning_curves(tmp_path / "l.png", history)
    pixels = pixels_of(tmp_path / "l.png")
    orange = (abs(pixels - ORANGE) <= 2).all(axis=2)
    half = pixels.shape[1] // 2
    # the mark is the highest and the thickest: the middle epoch of five is in the middle of the right panel
    top = np.flatnonzero(orange[:, half:].any(axis=1))[0]
    columns = np.flatnonzero(orange[top, half:]) / half
    assert 0.45 < columns.mean() < 0.65


def test_one_epoch_is_enough(tmp_path: Path) -> None:
    plots.learning_curves(tmp_path / "l.png", [{"epoch": 1, "loss": 0.5, "accuracy": 0.5}])
    assert len(places(pixels_of(tmp_path / "l.png"), BLUE))


DRAWING = """
import sys
from pathlib import Path
import numpy as np
from app.training.evaluation.metrics import compute_metrics
from app.training.evaluation import plots, plots
if len(sys.argv) > 2:
    plots.keep_config_in(Path(sys.argv[2]))
plots.confusion_matrix(Path(sys.argv[1]) / "c.png", compute_metrics(np.eye(2), np.arange(2), ("a", "b")))
print("matplotlib.pyplot" in sys.modules)
"""


@pytest.mark.parametrize("given", [pytest.param(False, marks=pytest.mark.slow), True])
def test_nothing_is_written_to_the_home_directory_or_left_behind(tmp_path: Path, given: bool) -> None:
    home, temporary, out, config = (tmp_path / name for name in ("home", "tmp", "out", "config"))
    for folder in (home, temporary, out):
        folder.mkdir()
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("MPL", "XDG_"))}
    environ |= {"HOME": str(home), "TMPDIR": str(temporary)}
    arguments = [sys.executable, "-c", DRAWING, str(out), *([str(config)] if given else [])]
    done = subprocess.run(arguments, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"  # pyplot's globals are not there
    assert [path.name for path in out.iterdir()] == ["c.png"]
    assert list(home.rglob("*")) == []
    assert list(temporary.rglob("*")) == []
    assert config.is_dir() == given
    assert not given or any(path.name.startswith("fontlist") for path in config.iterdir())
