from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.mxnet.compat import import_keras
from app.errors import DataError
from app.training.augment import Augmentation
from app.training.batchnorm_folding import build_folded_network
from app.training.fit import (
    History,
    Material,
    Trainer,
    apply_temperature,
    calibrated_loss,
    learning_rate,
    temperature,
)
from app.training.recipes import DistillationOptions, FitOptions, smile_tutorial_network


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_the_temperature_is_the_factor_by_which_scores_were_multiplied(true: float) -> None:
    draw = np.random.default_rng(0)
    score = draw.normal(0, 2, 40_000)
    classes = (draw.random(40_000) < 1 / (1 + np.exp(-score))).astype(np.int64)
    scaled = 1 / (1 + np.exp(-score * true))
    assert temperature(scaled.astype(np.float32), classes) == pytest.approx(true, rel=0.05)


def test_the_temperature_stays_in_range_for_a_useless_network() -> None:
    assert 0.1 <= temperature(np.array([0.9, 0.9], np.float32), np.array([0, 0])) <= 10
    assert 0.1 <= temperature(np.array([0.9, 0.1], np.float32), np.array([1, 0])) <= 10


def test_a_network_with_a_temperature_divides_its_scores() -> None:
    import_keras().backend.clear_session()
    network = smile_tutorial_network()
    pictures = np.random.default_rng(1).random((5, 1, 32, 32), dtype=np.float32)
    before = np.log(network.predict(pictures))
    apply_temperature(network, 0.5)
    after = np.log(network.predict(pictures))
    assert np.ptp(before[:, 1]) > 1e-4
    assert after[:, 1] - after[:, 0] == pytest.approx(2 * (before[:, 1] - before[:, 0]), abs=1e-4)


def test_the_loss_is_computed_at_the_best_temperature() -> None:
    # three in four right, all equally sure: the best confidence is 3/4, for any output of the network
    probability, classes = np.array([0.99, 0.99, 0.99, 0.99], np.float32), np.array([1, 1, 1, 0])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert calibrated_loss(probability, classes) == pytest.approx(entropy, abs=1e-4)


FITTING = FitOptions(batch=16, epochs=4, rate=1e-2, augmentation=Augmentation(zoom=0.1, erase=0.3), mixup=0.2)


class Killed(Exception):
    """The error that stands for any end of a run between two epochs."""


def network(teacher_classes: int = 0) -> Any:
    """Return a tiny network with all random elements, and the same first weights each time."""
    keras = import_keras()
    import mxnet

    keras.backend.clear_session()
    keras.backend.set_image_data_format("channels_first")
    np.random.seed(3)
    mxnet.random.seed(3)
    layers = keras.layers
    plain = keras.models.Sequential(
        [
            layers.Conv2D(4, (3, 3), activation="relu", input_shape=(1, 8, 8), name="conv2d_1"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_1"),
            layers.Flatten(name="flatten_1"),
            layers.Dense(8, activation="relu", name="dense_1"),
            layers.Dropout(0.3, name="dropout_1"),
            layers.Dense(2, activation="softmax", name="dense_2"),
        ]
    )
    return build_folded_network(plain, teacher_classes)


def material(taught: bool = False) -> Material:
    """Return noise that is lighter for class 1."""
    draw = np.random.default_rng(0)
    classes = np.arange(64) % 2
    pictures = (draw.random((64, 1, 8, 8)) * 0.5 + classes[:, None, None, None] * 0.3).astype(np.float32)
    return Material(pictures, classes, np.eye(3, dtype=np.float32)[classes] if taught else None)


def run(state: Path, stop: int | None = None, resume: bool = False, seed: int = 5) -> tuple[list[np.ndarray], History]:
    trainer = Trainer(network(), FITTING, {"model": "tiny"}, seed, state)
    assert trainer.resume() == resume

    def check(history: History) -> None:
        if len(history) == stop:
            raise Killed

    with contextlib.suppress(Killed):
        trainer.fit(material(), material(), check)
    return trainer.network.get_weights(), trainer.history


def test_training_lowers_the_loss_and_learns_the_classes(tmp_path: Path) -> None:
    _, history = run(tmp_path / "state.npz")
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3, 4]
    assert history[-1]["accuracy"] > 0.75
    assert history[-1]["val_loss"] < 0.9 * history[0]["val_loss"]
    assert history[-1]["val_accuracy"] > 0.8


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    unbroken, history = run(tmp_path / "unbroken.npz")
    run(tmp_path / "broken.npz", stop=2)
    resumed, resumed_history = run(tmp_path / "broken.npz", resume=True)
    for item, other in zip(unbroken, resumed, strict=True):
        assert np.array_equal(item, other)
    assert [epoch["loss"] for epoch in history] == [epoch["loss"] for epoch in resumed_history]


def test_the_seed_determines_the_weights(tmp_path: Path) -> None:
    first, _ = run(tmp_path / "a.npz", seed=5)
    same, _ = run(tmp_path / "b.npz", seed=5)
    other, _ = run(tmp_path / "c.npz", seed=6)
    assert all(np.array_equal(item, two) for item, two in zip(first, same, strict=True))
    assert not all(np.array_equal(item, two) for item, two in zip(first, other, strict=True))


def test_the_network_keeps_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    trainer = Trainer(network(), FITTING, {}, 5, tmp_path / "state.npz")
    weights_by_loss: dict[float, list[np.ndarray]] = {}
    trainer.fit(
        material(),
        material(),
        lambda history: weights_by_loss.update({history[-1]["val_loss"]: trainer.network.get_weights()}),
    )
    assert len(weights_by_loss) == 4
    for weight, best in zip(trainer.network.get_weights(), weights_by_loss[min(weights_by_loss)], strict=True):
        assert np.array_equal(weight, best)


def test_a_state_of_another_run_is_an_error_with_the_difference(tmp_path: Path) -> None:
    run(tmp_path / "state.npz", stop=1)
    trainer = Trainer(network(), FITTING, {"model": "tiny"}, 6, tmp_path / "state.npz")
    with pytest.raises(DataError, match="seed 5 instead of 6"):
        trainer.resume()


def test_a_damaged_state_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "state.npz").write_bytes(b"torn")
    trainer = Trainer(network(), FITTING, {}, 5, tmp_path / "state.npz")
    with pytest.raises(DataError, match="without --resume"):
        trainer.resume()


def test_too_few_pictures_for_a_batch_are_an_error(tmp_path: Path) -> None:
    few = Material(material().pictures[:10], material().classes[:10])
    with pytest.raises(DataError, match="at least 16"):
        Trainer(network(), FITTING, {}, 5, tmp_path / "state.npz").fit(few, material(), print)


def test_training_learns_from_a_teacher(tmp_path: Path) -> None:
    """The classes of the teacher are those of the labels, so its output must come to predict them."""
    fitting = FitOptions(batch=16, epochs=6, rate=2e-2, teaching=DistillationOptions(1, 1))
    trainer = Trainer(network(teacher_classes=3), fitting, {}, 5, tmp_path / "state.npz")
    trainer.fit(material(taught=True), material(), lambda history: None)
    _, taught = trainer.network.predict(material().pictures)
    assert np.mean(taught.argmax(axis=1) == material().classes) > 0.9


def test_the_learning_rate_rises_briefly_and_then_falls_along_a_cosine() -> None:
    assert learning_rate(FITTING, 0, 1000) == pytest.approx(1e-2 / 30)
    assert learning_rate(FITTING, 500, 1000) == pytest.approx(1e-2 / 2)
    assert learning_rate(FITTING, 1000, 1000) == pytest.approx(0)
