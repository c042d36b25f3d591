"""The protocol's names of types, and those of NumPy."""

from __future__ import annotations

import struct

import numpy as np

BYTES = "BYTES"
BOOL = "BOOL"
FLOAT = "FP32"
NUMBERS: dict[str, np.dtype[np.generic]] = {
    BOOL: np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    FLOAT: np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
NAMES = (*NUMBERS, BYTES)
LENGTH = struct.Struct("<I")
"""Stands before each element of BYTES."""
