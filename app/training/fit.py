"""Training of a network: batches, the loop, its checkpoints, and the calibration of the probabilities."""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from app.engines.mxnet.compat import import_keras, quietly
from app.errors import DataError
from app.training.augment import augment
from app.training.recipes import FitOptions
from app.types import FloatArray
from app.utils.files import replacing
from app.utils.progress import echo, progress


@dataclass(frozen=True)
class Material:
    """Training pictures (N, C, H, W) of 0-1, their classes as (N,) numbers, and a teacher's outputs (N, T)."""

    pictures: FloatArray
    classes: NDArray[np.int64]
    taught: FloatArray | None = None


@dataclass(frozen=True)
class Batch:
    """Pictures (B, C, H, W), the targets (B, …) of each of the network's outputs, and the weight of each picture."""

    pictures: FloatArray
    targets: list[FloatArray]
    weights: FloatArray


def batches(material: Material, fitting: FitOptions, columns: int, draw: np.random.Generator) -> Iterator[Batch]:
    """Yield the batches of one epoch: every picture once in random order, except the remainder of the last batch.

    All batches have one size: for another size MXNet would bind, and keep, another executor.

    :param columns: of the network's output: 2 for a softmax, 1 for a sigmoid.
    """
    weights = _class_weights(material.classes) if fitting.weigh_classes else np.ones(2, np.float32)
    order = draw.permutation(len(material.classes))
    for start in range(0, len(order) - fitting.batch + 1, fitting.batch):
        chosen = order[start : start + fitting.batch]
        pictures = material.pictures[chosen]
        if fitting.augmentation is not None:
            pictures = augment(pictures, fitting.augmentation, draw)
        classes = np.eye(2, dtype=np.float32)[material.classes[chosen]]
        targets = classes * (1 - fitting.smoothing) + fitting.smoothing / 2
        distributions = [targets[:, -columns:]] + ([] if material.taught is None else [material.taught[chosen]])
        yield Batch(*_mix(pictures, distributions, fitting.mixup, draw), classes @ weights)


def _mix(
    pictures: FloatArray, targets: list[FloatArray], alpha: float, draw: np.random.Generator
) -> tuple[FloatArray, list[FloatArray]]:
    """Blend every picture with another one of the batch, and their targets in the same proportions."""
    if not alpha:
        return pictures, targets
    share, other = np.float32(draw.beta(alpha, alpha)), draw.permutation(len(pictures))
    blended = [share * array + (1 - share) * array[other] for array in (pictures, *targets)]
    return blended[0], blended[1:]


def _class_weights(classes: NDArray[np.int64]) -> FloatArray:
    """Return weights that give both classes the same total weight, however many pictures each has."""
    counts = np.bincount(classes, minlength=2)
    return (len(classes) / (2 * counts)).astype(np.float32)


HOTTEST = 10.0
"""Limit on the temperature: no network worth serving is over- or underconfident by more than a factor of ten."""


def temperature(probability: FloatArray, classes: NDArray[np.int64]) -> float:
    """Return the temperature for a network's scores that gives the lowest log loss.

    Scores are divided by it, which changes no picture's class. Source: Guo et al. 2017, "On Calibration of Modern
    Neural Networks".

    :param probability: (N,), of class 1, on pictures that the network was not trained on.
    :param classes: (N,), true, 0 or 1.
    """
    return _best(probability, classes)[0]


def calibrated_loss(probability: FloatArray, classes: NDArray[np.int64]) -> float:
    """Return the log loss, in nats, at the best temperature."""
    return _best(probability, classes)[1]


def _best(probability: FloatArray, classes: NDArray[np.int64]) -> tuple[float, float]:
    clipped = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    score = np.log(clipped / (1 - clipped))
    sign = np.where(classes == 1, -1.0, 1.0)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, sign * score / np.exp(log_temperature)).mean())

    reach = np.log(HOTTEST)
    minimum = minimize_scalar(loss, bounds=(-reach, reach), method="bounded")
    return float(np.exp(minimum.x)), float(minimum.fun)


def apply_temperature(network: Any, by: float) -> None:
    """Divide the scores of a network's last layer, a softmax or a sigmoid, by a temperature, in its weights."""
    last = network.layers[-1]
    last.set_weights([weights / by for weights in last.get_weights()])


Weights = list[NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after its last complete epoch.

    ``history`` has an object per epoch: ``epoch`` (from 1), ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``,
    ``seconds``. ``run`` identifies the run (recipe, epochs, seed, data): another run cannot resume from this state.
    """

    run: dict[str, Any]
    history: list[dict[str, float]]
    weights: Weights
    best: Weights
    optimizer: bytes


def save_checkpoint(state: Checkpoint, path: Path) -> None:
    """Write the state atomically; a kill during the write leaves the previous state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{kind}{i}": array for kind in ("weights", "best") for i, array in enumerate(getattr(state, kind))}
    facts = json.dumps({"run": state.run, "history": state.history, "weights": len(state.weights)})
    with replacing(path, path.with_name(path.name + ".partial")) as partial, partial.open("wb") as file:
        np.savez(file, facts=np.array(facts), optimizer=np.frombuffer(state.optimizer, np.uint8), **arrays)


def load_checkpoint(path: Path, run: dict[str, Any]) -> Checkpoint | None:
    """Read the state of a run; return None if there is none.

    :raises DataError: if the file is damaged, or is of another run than ``run``.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            facts = json.loads(str(file["facts"]))
            weights, best = ([file[f"{kind}{i}"] for i in range(facts["weights"])] for kind in ("weights", "best"))
            state = Checkpoint(facts["run"], facts["history"], weights, best, file["optimizer"].tobytes())
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}. Start again without --resume.") from None
    other = {key: value for key, value in state.run.items() if run.get(key) != value}
    if other:
        was = ", ".join(f"{key} {value!r} instead of {run.get(key)!r}" for key, value in other.items())
        raise DataError(f"{path} is of another run: {was}. Give the same again, or start without --resume.")
    return state


def optimizer_state(network: Any) -> bytes:
    """Return the state of a compiled Keras-MXNet network's optimizer: gradient moments and the count of updates.

    Keras-MXNet does not save it with a model; it is in the underlying MXNet module.
    """
    optimizer = network.optimizer
    counts = (optimizer.num_update, dict(optimizer._index_update_count))
    return pickle.dumps((network._module._curr_module._updater.get_states(), counts))


def restore_optimizer(network: Any, state: bytes) -> None:
    """Restore the optimizer's state. The network must have been bound, by a prediction or a training step."""
    states, (updates, by_index) = pickle.loads(state)  # written by this same program, on this machine
    network._module._curr_module._updater.set_states(states)
    network.optimizer.num_update = updates
    network.optimizer._index_update_count.clear()
    network.optimizer._index_update_count.update(by_index)


WARMUP = 0.03
"""Share of all steps over which the rate of the cosine schedule rises from zero."""

History = list[dict[str, float]]


class Trainer:
    """The training of a network over its epochs.

    After every epoch its state is written to disk, so a killed run can resume. The random numbers of an epoch depend
    only on the seed and the epoch's number: a resumed run ends with the same weights.

    :param run: identifies the run, besides ``fitting``; stored with the state.
    :param epochs: if None, the number in ``fitting``.
    """

    def __init__(
        self, network: Any, fitting: FitOptions, run: dict[str, Any], seed: int, state: Path, epochs: int | None = None
    ) -> None:
        self.network = network
        self.history: History = []
        self._fitting, self._seed, self._path = fitting, seed, state
        self._epochs = epochs or fitting.epochs
        self._run = {**run, "epochs": self._epochs, "seed": seed}
        self._best = network.get_weights()
        _compile(network, fitting)
        with quietly():  # MXNet, bound by the first call, warns of Keras's gradient scale, which is correct
            network.predict(np.zeros((fitting.batch, *network.input_shape[1:]), np.float32))

    def resume(self) -> bool:
        """Resume from the state on disk; return False if there is none.

        :raises DataError: if the state is of another run.
        """
        state = load_checkpoint(self._path, self._run)
        if state is None:
            return False
        restore_optimizer(self.network, state.optimizer)
        self.network.set_weights(state.weights)
        self.history, self._best = state.history, state.best
        return True

    def fit(self, material: Material, validation: Material, report: Callable[[History], None]) -> None:
        """Train through the remaining epochs; the network ends with the weights of the lowest validation loss.

        :param report: called with the history after every epoch.
        :raises DataError: if there are too few pictures for one batch.
        """
        if len(material.classes) < self._fitting.batch:
            raise DataError(
                f"{len(material.classes)} training pictures are too few: at least {self._fitting.batch} are needed."
            )
        for epoch in range(len(self.history), self._epochs):
            self._train_epoch(epoch, material, validation)
            self._save()
            report(self.history)
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
        echo(
            f"epoch {epoch + 1}/{self._epochs}: loss {trained_loss:.4f}, accuracy {trained_accuracy:.4f}, "
            f"validation loss {loss:.4f}, validation accuracy {accuracy:.4f}, {seconds:.0f} s"
        )

    def _steps(self, epoch: int, material: Material) -> tuple[float, float]:
        """Train through one epoch; return the mean loss and accuracy on the pictures as augmented and blended."""
        import mxnet

        keras = import_keras()
        draw = np.random.default_rng([self._seed, epoch])
        mxnet.random.seed(int(draw.integers(2**31)))
        per_epoch = len(material.classes) // self._fitting.batch
        seen = []
        columns = self._columns
        with progress(f"epoch {epoch + 1}/{self._epochs}", per_epoch, "batches") as bar:
            for step, batch in enumerate(batches(material, self._fitting, columns, draw)):
                rate = learning_rate(self._fitting, epoch * per_epoch + step, self._epochs * per_epoch)
                keras.backend.set_value(self.network.optimizer.lr, rate)
                weights = [batch.weights, *(np.ones_like(batch.weights) for _ in batch.targets[1:])]
                figures = self.network.train_on_batch(batch.pictures, batch.targets, sample_weight=weights)
                seen.append((figures[0], figures[-1]))  # with two outputs, their separate losses are in between
                loss, accuracy = np.mean(seen, axis=0)
                bar.advance()
                bar.note(f"loss {loss:.4f}, accuracy {accuracy:.4f}")
        return float(loss), float(accuracy)

    @property
    def _columns(self) -> int:
        return int(_first(self.network.output_shape)[-1])

    def _save(self) -> None:
        state = Checkpoint(
            self._run, self.history, self.network.get_weights(), self._best, optimizer_state(self.network)
        )
        save_checkpoint(state, self._path)


def learning_rate(fitting: FitOptions, step: int, steps: int) -> float:
    """Return the learning rate of a batch: after a short linear warm-up it falls along half a cosine, unless constant.

    :param step: number of the batch, 0 to ``steps``, which is the number of batches of all epochs.
    """
    if fitting.schedule == "constant":
        return fitting.rate
    rising = min(1.0, (step + 1) / (WARMUP * steps))
    return fitting.rate * rising * (1 + math.cos(math.pi * step / steps)) / 2


def class_one(network: Any, pictures: FloatArray) -> FloatArray:
    """Return the probability of class 1 for every picture: (N, …) -> (N,)."""
    rows = network.predict(pictures, batch_size=64)
    answer: FloatArray = rows[0] if isinstance(rows, list) else rows
    return answer[:, -1]


def validate(network: Any, part: Material) -> tuple[float, float]:
    """Return log loss and accuracy on a part, with equal weights for all pictures.

    The loss is the loss of the served network, at the best temperature for the part. Blended pictures and smoothed
    labels make a network underconfident, in some epochs more than in others, which is unrelated to its quality.
    """
    probability = class_one(network, part.pictures)
    return calibrated_loss(probability, part.classes), float(np.mean((probability >= 0.5) == (part.classes == 1)))


def _compile(network: Any, fitting: FitOptions) -> None:
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
    """Return the accuracy with each picture's largest target as its class.

    Keras's own accuracy counts every blended picture as wrong.
    """
    keras = import_keras()
    return keras.backend.mean(keras.backend.equal(_second(keras, truth), _second(keras, answer)))


def _second(keras: Any, rows: Any) -> Any:
    """Return for each row whether the last class, of one or of two columns, is the more probable."""
    return keras.backend.greater_equal(rows[:, -1], 0.5)


def _first(shapes: Any) -> Any:
    """Return the shape of the first output: Keras returns a list of shapes only if there are several."""
    return shapes[0] if isinstance(shapes, list) else shapes
