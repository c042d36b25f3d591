"""The one seam between a network and the rest: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from app.types import FloatArray, Signature


class Engine(Protocol):
    """A loaded network. It knows nothing of names, versions, images or HTTP."""

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch. Any thread may call this at any time.

        :param batch: float32, (N, …) as the network's input is laid out, N at least 1.
        :returns: float32, (N, classes), as the network gives it: probabilities or not.
        """
        ...

    def close(self) -> None:
        """Give back what the network holds. It cannot predict after that."""
        ...


LoadNetwork = Callable[[Path, float], Engine]
"""Loads OpenVINO's ``model.xml`` with the ``model.bin`` beside it, given what a row takes on one core in milliseconds.
It raises RuntimeError if OpenVINO cannot compute it."""


def check_batch(batch: FloatArray, row_shape: tuple[int, ...]) -> None:
    """:raises ValueError: where a batch has no rows, or rows of another shape than ``row_shape``."""
    if batch.shape[1:] != row_shape or not len(batch):
        raise ValueError(f"a batch must have the shape (N, {', '.join(map(str, row_shape))}), not {batch.shape}")


@dataclass(frozen=True)
class Network:
    """A network as MXNet writes it down, to be converted.

    ``document`` is its symbol's JSON, with the answer as its first head. ``arrays`` are its parameters, by bare names.
    ``row_shape`` is the input's shape without the batch.
    """

    document: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    input_name: str
    row_shape: tuple[int, ...]


@dataclass(frozen=True)
class Parity:
    """How far an engine is from the reference, on the same inputs.

    ``max_abs_difference`` is between probabilities, 0-1; where the network gives something else, in parts of the
    reference's largest value. ``reference`` is ``mxnet`` or ``keras``; ``date`` is that of the measurement (ISO 8601).
    """

    max_abs_difference: float
    samples: int
    reference: str
    date: str


@dataclass(frozen=True)
class Agreement:
    """How often a quantized network calls pictures as the network does that it was made from.

    ``top1`` is that part, 0-1, of ``samples`` inputs of which none was among the ``calibrated`` ones that the quantizer
    saw. ``date`` is that of the measurement (ISO 8601).
    """

    top1: float
    samples: int
    calibrated: int
    date: str


@dataclass(frozen=True)
class LoadedEngine:
    """A running engine, what kind it is, and the signature that it obeys.

    ``labels`` are those that the model's own file carries. ``reasons`` tell why the signature says what it says, by
    ``input``, ``pixels`` and ``output``; empty where nothing was inferred.

    ``parity`` is None where nothing was compared: the engine is the reference itself, or (ONNX) there is none.
    ``agreement`` is there where ``precision`` is ``int8``, and then ``parity`` is not.
    """

    engine: Engine
    kind: str
    signature: Signature
    parity: Parity | None = None
    precision: str = "fp32"
    agreement: Agreement | None = None
    labels: tuple[str, ...] | None = None
    reasons: dict[str, str] = field(default_factory=dict)
