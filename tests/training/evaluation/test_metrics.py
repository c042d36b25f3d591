from __future__ import annotations

import json
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from app.errors import DataError
from app.training.evaluation.metrics import calibration, compute_metrics, document, predicted_classes, wilson

LABELS = ("cat", "dog", "fox")
# Six pictures, two of each class. The second is called dog and the last cat, both wrongly.
TRUTH = np.array([0, 0, 1, 1, 2, 2])
ROWS = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]])
DRAW = np.random.default_rng(3)


def of_two(*probabilities: float) -> Any:
    """Return rows of two classes, by the probability of class 1."""
    return np.array([[1 - p, p] for p in probabilities])


def test_accuracy_and_confusion_match_a_count_by_hand() -> None:
    found = compute_metrics(ROWS, TRUTH, LABELS)
    assert found.n == 6
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.confusion == ((1, 1, 0), (0, 2, 0), (1, 0, 1))  # rows are the true classes


def test_the_metrics_of_each_class_match_a_count_by_hand() -> None:
    by_hand = [("cat", 1 / 2, 1 / 2, 1 / 2, 2), ("dog", 2 / 3, 1, 4 / 5, 2), ("fox", 1, 1 / 2, 2 / 3, 2)]
    for item, (label, precision, recall, f1, support) in zip(
        compute_metrics(ROWS, TRUTH, LABELS).classes, by_hand, strict=True
    ):
        assert (item.label, item.support) == (label, support)
        assert (item.precision, item.recall, item.f1) == pytest.approx((precision, recall, f1))


def test_the_metrics_of_many_classes_match_scikit_learn() -> None:
    truth, rows = DRAW.integers(0, 9, 200), DRAW.random((200, 9))
    found = compute_metrics(rows, truth, tuple("abcdefghi"))
    guesses = rows.argmax(axis=1)
    assert np.array_equal(found.confusion, confusion_matrix(truth, guesses))
    columns = precision_recall_fscore_support(truth, guesses)
    assert [item.precision for item in found.classes] == pytest.approx(columns[0])
    assert [item.recall for item in found.classes] == pytest.approx(columns[1])
    assert [item.f1 for item in found.classes] == pytest.approx(columns[2])


def test_roc_auc_of_three_classes_is_the_mean_of_each_against_the_rest() -> None:
    # Of cat's eight pairs (0.7 and 0.4 against 0.1, 0.3, 0.2 and 0.5) only 0.4 and 0.5 are in the wrong order.
    assert compute_metrics(ROWS, TRUTH, LABELS).roc_auc == pytest.approx((7 / 8 + 1 + 1) / 3)


def test_a_class_that_does_not_occur_is_left_out_of_roc_auc() -> None:
    # Without foxes, cat's pairs are 0.7 and 0.4 against 0.1 and 0.3, dog's 0.8 and 0.6 against 0.2 and 0.5: all right.
    assert compute_metrics(ROWS[:4], TRUTH[:4], LABELS).roc_auc == 1


@pytest.mark.parametrize("seed", range(3))
def test_roc_auc_of_two_classes_is_the_probability_of_the_right_order(seed: int) -> None:
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, 2, 60)
    score = np.round(draw.random(60), 1)  # rounded, so that there are ties, which count half
    pairs = list(product(score[truth == 1], score[truth == 0]))
    by_definition = sum((item > other) + (item == other) / 2 for item, other in pairs) / len(pairs)
    assert compute_metrics(of_two(*score), truth, ("no", "yes")).roc_auc == pytest.approx(by_definition)


def test_roc_auc_is_undefined_if_only_one_class_occurs() -> None:
    assert compute_metrics(ROWS[:2], TRUTH[:2], LABELS).roc_auc is None
    assert compute_metrics(of_two(0.2, 0.9), np.array([1, 1]), ("no", "yes")).roc_auc is None


def test_recall_or_precision_is_undefined_without_pictures_or_predictions() -> None:
    cat, dog, fox = compute_metrics(ROWS[[0, 1]], TRUTH[[0, 1]], LABELS).classes
    assert (dog.precision, dog.recall, dog.support) == (0, None, 0)  # called once, wrongly
    assert (fox.precision, fox.recall, fox.f1) == (None, None, None)
    assert (cat.precision, cat.recall) == (1, 0.5)


def test_a_tie_of_two_classes_predicts_class_one() -> None:
    assert predicted_classes(of_two(0.5, 0.4999, 0.5001)).tolist() == [1, 0, 1]


def test_the_most_probable_of_three_classes_is_predicted() -> None:
    assert predicted_classes(ROWS).tolist() == [0, 1, 1, 1, 2, 0]


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_matches_published_values(right: int, n: int, low: float, high: float) -> None:
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)


def test_the_metrics_have_the_interval_of_the_accuracy() -> None:
    # 0 of 20 wrong: the mirror of Newcombe's 0 of 20
    found = compute_metrics(of_two(*[0.9] * 20), np.ones(20, int), ("no", "yes"))
    assert found.accuracy_interval == pytest.approx((1 - 0.1611, 1), abs=5e-5)


def test_the_calibration_error_matches_a_calculation_by_hand() -> None:
    # 0.95, 0.97 and 0.99 share the last bin, (14/15, 1]: mean 0.97, two of three right. 0.6 is alone in its bin, right.
    found = compute_metrics(of_two(0.95, 0.97, 0.99, 0.6), np.array([1, 0, 1, 1]), ("no", "yes"))
    assert found.calibration_error == pytest.approx((3 * abs(2 / 3 - 0.97) + abs(1 - 0.6)) / 4)


def test_the_calibration_error_of_three_classes_uses_the_predicted_class() -> None:
    # confidences 0.7 right, 0.5 wrong, 0.8 right, 0.6 right, 0.6 right, 0.5 wrong
    error = (abs(1 - 0.7) + 2 * abs(0 - 0.5) + abs(1 - 0.8) + 2 * abs(1 - 0.6)) / 6
    assert compute_metrics(ROWS, TRUTH, LABELS).calibration_error == pytest.approx(error)


def test_bins_are_a_fifteenth_wide_and_closed_on_the_right() -> None:
    bins = calibration(of_two(1.0, 14.001 / 15, 13.999 / 15, 0.5), np.array([1, 1, 0, 0]))
    assert [item.count if item else 0 for item in bins] == [0] * 7 + [1] + [0] * 5 + [1, 2]
    assert bins[13] and bins[13].accuracy == 0


def test_log_loss_matches_scikit_learn() -> None:
    rows = DRAW.dirichlet([1, 1, 1, 1], 50)
    truth = DRAW.integers(0, 4, 50)
    found = compute_metrics(rows, truth, ("a", "b", "c", "d"))
    assert found.log_loss == pytest.approx(log_loss(truth, rows, labels=range(4)))


def test_log_loss_of_unnormalised_rows_follows_the_definition() -> None:
    rows = np.array([[0.9, 0.8], [0.5, 0.1]])  # two sigmoids
    assert compute_metrics(rows, np.array([0, 1]), ("a", "b")).log_loss == pytest.approx(
        -(math.log(0.9) + math.log(0.1)) / 2
    )


def test_a_true_class_of_probability_zero_has_a_finite_log_loss() -> None:
    assert compute_metrics(of_two(0.0), np.array([1]), ("no", "yes")).log_loss == pytest.approx(23 * math.log(2))


def test_metrics_are_plain_json() -> None:
    made = json.loads(json.dumps(document(compute_metrics(ROWS.astype(np.float32), TRUTH, LABELS)), allow_nan=False))
    assert made["confusion"] == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert made["classes"][2]["label"] == "fox"
    assert made["classes"][2]["support"] == 2
    assert made["n"] == 6


def test_undefined_metrics_are_null_in_json() -> None:
    made = json.loads(json.dumps(document(compute_metrics(ROWS[:2], TRUTH[:2], LABELS)), allow_nan=False))
    assert made["roc_auc"] is None
    assert made["classes"][2]["precision"] is None


@pytest.mark.parametrize(
    ("rows", "truth", "labels", "words"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), ("a", "b"), "no picture"),
        (ROWS, TRUTH, ("a", "b"), r"\(6, 3\)"),
        (ROWS, TRUTH[:5], LABELS, "5 pictures"),
        (ROWS, TRUTH + 1, LABELS, "1 to 3"),
    ],
)
def test_inconsistent_inputs_are_an_error(rows: Any, truth: Any, labels: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        compute_metrics(rows, truth, labels)
