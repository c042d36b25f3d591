"""The one seam between a network and the rest: arrays in, arrays out."""

from __future__ import annotations

from typing import Protocol

from app.types import FloatArray


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
