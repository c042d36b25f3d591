"""The interface between networks and the rest of the program: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from app.types import FloatArray, Signature


class Engine(Protocol):
    """A loaded network, independent of names, versions, images and HTTP."""

    def predict(self, batch: FloatArray) -> FloatArray:
        """Compute a batch, from any thread at any time.

        :param batch: float32, (N, …) in the layout of the network's input, N at least 1.
        :returns: float32, (N, classes), the network's unchanged output, probabilities or not.
        """
        ...

    def close(self) -> None:
        """Release the network's resources; ``predict`` must not be called after that."""
        ...


LoadNetwork = Callable[[Path, float], Engine]
"""Function that loads OpenVINO's ``model.xml`` with the ``model.bin`` beside it.

Its second argument is the time of one row on one core in milliseconds. It raises RuntimeError if OpenVINO cannot
compute the network.
"""


def check_batch(batch: FloatArray, row_shape: tuple[int, ...]) -> None:
    """Check the shape of a batch.

    :raises ValueError: if the batch has no rows, or rows of another shape than ``row_shape``.
    """
    if batch.shape[1:] != row_shape or not len(batch):
        raise ValueError(f"a batch must have the shape (N, {', '.join(map(str, row_shape))}), not {batch.shape}")


@dataclass(frozen=True)
class Network:
    """A network in MXNet's format, ready for conversion.

    ``document`` is its symbol's JSON, with the answer as its first head. ``arrays`` are its parameters, by bare names.
    ``row_shape`` is the input's shape without the batch axis.
    """

    document: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    input_name: str
    row_shape: tuple[int, ...]


@dataclass(frozen=True)
class Parity:
    """The difference between an engine and the reference on the same inputs.

    ``max_abs_difference`` is between probabilities, 0-1. If the network's output is not probabilities, it is relative
    to the reference's largest value. ``reference`` is ``mxnet`` or ``keras``, for an ONNX file ``onnxruntime`` or
    ``onnx``; ``date`` is the date of the measurement (ISO 8601).
    """

    max_abs_difference: float
    samples: int
    reference: str
    date: str


@dataclass(frozen=True)
class Agreement:
    """The agreement between a quantized network and the network that it was made from.

    ``top1`` is the share, 0-1, of ``samples`` inputs that both assign to the same class. None of these inputs was among
    the ``calibrated`` inputs of the quantizer. ``date`` is the date of the measurement (ISO 8601).
    """

    top1: float
    samples: int
    calibrated: int
    date: str


@dataclass(frozen=True)
class LoadedEngine:
    """A running engine, its kind, and the signature that it implements.

    ``labels`` are the labels in the model's own file. ``reasons`` explain the signature, by ``input``, ``pixels`` and
    ``output``; empty if nothing was inferred.

    ``parity`` is None if nothing was compared: the engine is the reference itself, or no reference can compute it, or
    the reference was not installed, which ``unproven`` then says. If ``precision`` is ``int8``, ``agreement`` is set
    and ``parity`` is None.
    """

    engine: Engine
    kind: str
    signature: Signature
    parity: Parity | None = None
    precision: str = "fp32"
    agreement: Agreement | None = None
    labels: tuple[str, ...] | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    unproven: str = ""
