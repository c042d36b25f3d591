"""ONNX files: protobuf, Dimple's reader, and the inferred signature."""

from __future__ import annotations

from pathlib import Path
from random import Random

import onnx

from app.formats.infer_signature import ModelFiles, infer_signature
from fuzz import seeds
from fuzz.mutations import protobuf_fields
from fuzz.target import Target


def mutate(data: bytes, random: Random) -> bytes:
    """Damage fields of a model."""
    return protobuf_fields.mutate(data, onnx.ModelProto, random)


def read(path: Path) -> object:
    """Infer the signature of a model, with a file of external weights beside it."""
    weights = path.with_name("net.bin")
    if not weights.exists():
        weights.write_bytes(bytes(432))
    return infer_signature(ModelFiles(onnx=path))


TARGET = Target("onnx_graph", ".onnx", seeds.onnx_files, mutate, read)
