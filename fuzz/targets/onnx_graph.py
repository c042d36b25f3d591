"""ONNX files: protobuf, Dimple's reader, and what is inferred of the model."""

from __future__ import annotations

from pathlib import Path
from random import Random

import onnx

from app.formats.infer_signature import ModelFiles, infer_signature
from fuzz import seeds
from fuzz.mutations import protobuf_fields
from fuzz.target import Target


def mutate(data: bytes, random: Random) -> bytes:
    """Change a field of the model."""
    return protobuf_fields.mutate(data, onnx.ModelProto, random)


def read(path: Path) -> object:
    """Read it, with a file of weights beside it."""
    beside = path.with_name("net.bin")
    if not beside.exists():
        beside.write_bytes(bytes(432))
    return infer_signature(ModelFiles(onnx=path))


TARGET = Target("onnx_graph", ".onnx", seeds.onnx_files, mutate, read)
