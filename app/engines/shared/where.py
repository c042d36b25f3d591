"""Which networks the engine process computes, and which this one."""

from __future__ import annotations

from pathlib import Path

from app.engines.base import Engine
from app.engines.openvino_engine import LONG_MILLISECONDS, OpenvinoEngine
from app.engines.shared.announced import announced
from app.engines.shared.client import SharedEngine
from app.errors import EngineUnavailable


def load_network(path: Path, milliseconds: float) -> Engine:
    """Load ``model.xml`` with the ``model.bin`` beside it: in the engine process what takes long, where there is one,
    else in this process. A hop between processes would cost a short network as much as it takes.

    :param milliseconds: what a row takes on one core.
    :raises RuntimeError: where it is no model of OpenVINO's, or this machine cannot compute it.
    """
    if announced() and milliseconds >= LONG_MILLISECONDS:
        try:
            return SharedEngine(announced(), path, milliseconds)
        except EngineUnavailable as error:
            raise RuntimeError(str(error)) from None
    return OpenvinoEngine.load(path, milliseconds)
