"""MXNet checkpoints as networks, read without MXNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.engines.base import Network
from app.errors import ModelFormatError
from app.formats.mxnet_describe import free_inputs
from app.formats.mxnet_graph import graph_of, read_document
from app.formats.mxnet_params import bare_name, read_params


def read_checkpoint(
    symbol: Path, params: Path, input_name: str, input_shape: tuple[int, ...], output: str = ""
) -> Network:
    """Read a checkpoint, and check that it has all parameters that one of its outputs needs.

    :param input_shape: with the batch axis, whose size is ignored.
    :param output: the name of the output; the first output if none has that name.
    :returns: the part of the network that computes the output, with floats in 32 bits.
    :raises ModelFormatError: if a file is broken, parameters are missing, or the input has another name or an open
        size.
    """
    document = read_document(symbol, output)
    arrays = {bare_name(name): array for name, array in read_params(params).items()}
    arrays.pop(input_name, None)
    free = free_inputs(graph_of(document, symbol), set(arrays))
    if input_name not in free:
        raise ModelFormatError(f"{symbol} has no input {input_name!r}; it takes {', '.join(free[:4]) or 'nothing'}")
    if missing := [name for name in free if name != input_name]:
        raise ModelFormatError(f"{params} lacks parameters that {symbol.name} needs: {listed(missing)}")
    if len(input_shape) < 2 or min(input_shape[1:]) < 1:
        raise ModelFormatError(f"{symbol}: the input's shape {input_shape} must give every size but the batch's")
    floats = {
        name: array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }
    return Network(document, floats, input_name, tuple(input_shape[1:]))


def listed(names: list[str]) -> str:
    """Return the first names, and the number of the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
