"""PyTorch's legacy files, whose pickles are programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.formats.torch_pickle import read_state_dict
from fuzz import seeds
from fuzz.mutations import pickle_opcodes
from fuzz.target import Target


def read(path: Path) -> object:
    """Read a state dict, and assert that it holds only arrays under names."""
    state = read_state_dict(path)
    assert all(type(name) is str and type(array) is np.ndarray for name, array in state.items())
    return state


TARGET = Target("torch_pickle", ".pth", lambda: [seeds.state_dict()], pickle_opcodes.mutate, read)
