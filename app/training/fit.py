"""The loop that trains a network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.compat import import_keras, quietly
from app.errors import DataError
from app.progress import progress, say
from app.training.batches import Material, batches
from app.training.calibrate import calibrated_loss
from app.training.recipes import Fitting
from app.training.state import State, load_state, optimizer_state, restore_optimizer, save_state
from app.types import FloatArray

WARMUP = 0.03
"""Share of all steps over which the rate of the cosine schedule rises from nothing."""

History = list[dict[str, float]]


class Trainer:
    """A network on its way through the epochs.

    After every epoch its state is on disk, so that a run that was killed can go on where it was. What is drawn by lot
    in an epoch depends on the seed and the epoch's number only: a run that was resumed ends with the same weights.

    :param run: what identifies the run, besides ``fitting``: kept with the state.
    :param epochs: None takes those of ``fitting``.
    """

    def __init__(
        self, network: Any, fitting: Fitting, run: dict[str, Any], seed: int, state: Path, epochs: int | None = None
    ) -> None:
        self.network = network
        self.history: History = []
        self._fitting, self._seed, self._path = fitting, seed, state
        self._epochs = epochs or fitting.epochs
        self._run = {**run, "epochs": self._epochs, "seed": seed}
        self._best = network.get_weights()
        _compile(network, fitting)
        with quietly():  # MXNet, bound by the first call, warns of a gradient scale that Keras has chosen rightly
            network.predict(np.zeros((fitting.batch, *network.input_shape[1:]), np.float32))

    def resume(self) -> bool:
        """Go on from the state on disk. False where there is none.

        :raises DataError: where the state is of another run.
        """
        state = load_state(self._path, self._run)
        if state is None:
            return False
        restore_optimizer(self.network, state.optimizer)
        self.network.set_weights(state.weights)
        self.history, self._best = state.history, state.best
        return True

    def fit(self, material: Material, validation: Material, shown: Callable[[History], None]) -> None:
        """Train through the epochs that are left; the network ends with the weights that validated best (lowest loss).

        :param shown: is given the history after every epoch.
        :raises DataError: where there are too few pictures for one batch.
        """
        if len(material.classes) < self._fitting.batch:
            raise DataError(
                f"{len(material.classes)} training pictures are too few: at least {self._fitting.batch} are needed."
            )
        for epoch in range(len(self.history), self._epochs):
            self._train_epoch(epoch, material, validation)
            self._save()
            shown(self.history)
        self.network.set_weights(self._best)

    def _train_epoch(self, epoch: int, material: Material, validation: Material) -> None:
        started = time.monotonic()
        trained_loss, trained_accuracy = self._steps(epoch, material)
        loss, accuracy = validate(self.network, validation)
        if not self.history or loss < min(past["val_loss"] for past in self.history):
            self._best = self.network.get_weights()
        seconds = time.monotonic() - started
        self.history.append(
            {
                "epoch": epoch + 1,
                "loss": trained_loss,
                "accuracy": trained_accuracy,
                "val_loss": loss,
                "val_accuracy": accuracy,
                "seconds": seconds,
            }
        )
        say(
            f"epoch {epoch + 1}/{self._epochs}: loss {trained_loss:.4f}, accuracy {trained_accuracy:.4f}, "
            f"validation loss {loss:.4f}, validation accuracy {accuracy:.4f}, {seconds:.0f} s"
        )

    def _steps(self, epoch: int, material: Material) -> tuple[float, float]:
        """Train through one epoch; the mean loss and accuracy on the pictures as they were shown: changed, blended."""
        import mxnet

        keras = import_keras()
        draw = np.random.default_rng([self._seed, epoch])
        mxnet.random.seed(int(draw.integers(2**31)))
        per_epoch = len(material.classes) // self._fitting.batch
        seen = []
        columns = self._columns
        with progress(f"epoch {epoch + 1}/{self._epochs}", per_epoch, "batches") as bar:
            for step, batch in enumerate(batches(material, self._fitting, columns, draw)):
                rate = self._rate(epoch * per_epoch + step, self._epochs * per_epoch)
                keras.backend.set_value(self.network.optimizer.lr, rate)
                weights = [batch.weights, *(np.ones_like(batch.weights) for _ in batch.targets[1:])]
                figures = self.network.train_on_batch(batch.pictures, batch.targets, sample_weight=weights)
                seen.append((figures[0], figures[-1]))  # between them, where there are two outputs, the loss of each
                loss, accuracy = np.mean(seen, axis=0)
                bar.advance()
                bar.note(f"loss {loss:.4f}, accuracy {accuracy:.4f}")
        return float(loss), float(accuracy)

    @property
    def _columns(self) -> int:
        return int(_first(self.network.output_shape)[-1])

    def _rate(self, step: int, steps: int) -> float:
        if self._fitting.schedule == "constant":
            return self._fitting.rate
        rising = min(1.0, (step + 1) / (WARMUP * steps))
        return self._fitting.rate * rising * (1 + math.cos(math.pi * step / steps)) / 2

    def _save(self) -> None:
        state = State(self._run, self.history, self.network.get_weights(), self._best, optimizer_state(self.network))
        save_state(state, self._path)


def class_one(network: Any, pictures: FloatArray) -> FloatArray:
    """The probability of class 1 for every picture: (N, …) -> (N,)."""
    rows = network.predict(pictures, batch_size=64)
    answer: FloatArray = rows[0] if isinstance(rows, list) else rows
    return answer[:, -1]


def validate(network: Any, part: Material) -> tuple[float, float]:
    """Log loss and accuracy on a part, every picture counting alike.

    The loss is that of the network as it will be served, at the temperature that suits the part best: blended pictures
    and smoothed labels make a network shy, more so in some epochs than in others, which says nothing of its worth.
    """
    probability = class_one(network, part.pictures)
    return calibrated_loss(probability, part.classes), float(np.mean((probability >= 0.5) == (part.classes == 1)))


def _compile(network: Any, fitting: Fitting) -> None:
    keras = import_keras()
    optimizer = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[fitting.optimizer]
    loss = "binary_crossentropy" if _first(network.output_shape)[-1] == 1 else "categorical_crossentropy"
    weights = [1.0]
    losses = [loss]
    if fitting.teaching is not None:
        losses.append("categorical_crossentropy")
        weights.append(fitting.teaching.weight)
    metrics = {network.output_names[0]: _accuracy}
    network.compile(optimizer=optimizer(lr=fitting.rate), loss=losses, loss_weights=weights, metrics=metrics)


def _accuracy(truth: Any, answer: Any) -> Any:
    """The share of pictures that are called what they mostly are; Keras's own counts every blended one as wrong."""
    keras = import_keras()
    return keras.backend.mean(keras.backend.equal(_second(keras, truth), _second(keras, answer)))


def _second(keras: Any, rows: Any) -> Any:
    """Say for each row whether the last class, of one or of two columns, is the more probable."""
    return keras.backend.greater_equal(rows[:, -1], 0.5)


def _first(shapes: Any) -> Any:
    """The shape of the first output: Keras gives a list of shapes only where there are several."""
    return shapes[0] if isinstance(shapes, list) else shapes
