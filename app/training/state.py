"""Where a training run stands, on disk: what it needs to go on as if it had never stopped."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.utils.files import replacing

Weights = list[NDArray[Any]]


@dataclass(frozen=True)
class State:
    """A run after its last whole epoch.

    ``history`` has an object an epoch: ``epoch`` (from 1), ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``,
    ``seconds``. ``run`` says what run it is (recipe, epochs, seed, data): another one cannot go on from here.
    """

    run: dict[str, Any]
    history: list[dict[str, float]]
    weights: Weights
    best: Weights
    optimizer: bytes


def save_state(state: State, path: Path) -> None:
    """Write the state; a kill meanwhile leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{kind}{i}": array for kind in ("weights", "best") for i, array in enumerate(getattr(state, kind))}
    facts = json.dumps({"run": state.run, "history": state.history, "weights": len(state.weights)})
    with replacing(path, path.with_name(path.name + ".partial")) as partial, partial.open("wb") as file:
        np.savez(file, facts=np.array(facts), optimizer=np.frombuffer(state.optimizer, np.uint8), **arrays)


def load_state(path: Path, run: dict[str, Any]) -> State | None:
    """Read the state of a run; None where there is none.

    :raises DataError: where the file is damaged, or is of another run than ``run``.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            facts = json.loads(str(file["facts"]))
            weights, best = ([file[f"{kind}{i}"] for i in range(facts["weights"])] for kind in ("weights", "best"))
            state = State(facts["run"], facts["history"], weights, best, file["optimizer"].tobytes())
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}. Start again without --resume.") from None
    other = {key: value for key, value in state.run.items() if run.get(key) != value}
    if other:
        was = ", ".join(f"{key} {value!r} instead of {run.get(key)!r}" for key, value in other.items())
        raise DataError(f"{path} is of another run: {was}. Give the same again, or start without --resume.")
    return state


def optimizer_state(network: Any) -> bytes:
    """What a compiled Keras-MXNet network's optimizer remembers: moments of the gradients and the count of updates.

    Keras-MXNet saves none of it with a model; it lies in the MXNet module below.
    """
    optimizer = network.optimizer
    counts = (optimizer.num_update, dict(optimizer._index_update_count))
    return pickle.dumps((network._module._curr_module._updater.get_states(), counts))


def restore_optimizer(network: Any, state: bytes) -> None:
    """Give it back. The network must have been bound: by a prediction, or a step."""
    states, (updates, by_index) = pickle.loads(state)  # written by this very program, on this machine
    network._module._curr_module._updater.set_states(states)
    network.optimizer.num_update = updates
    network.optimizer._index_update_count.clear()
    network.optimizer._index_update_count.update(by_index)
