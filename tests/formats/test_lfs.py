"""Pointers of Git LFS instead of every kind of model file, as the specification of Git LFS has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import ModelFormatError
from app.formats.archive.unpack import unpack
from app.formats.keras_file import read_h5
from app.formats.mxnet_graph import read_graph
from app.formats.mxnet_params import read_params
from app.formats.onnx_graph import read_onnx

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a' * 16}\nsize 22845858\n"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("net.h5", read_h5),
        ("net.keras", read_h5),
        ("net.onnx", read_onnx),
        ("net-0000.params", read_params),
        ("net-symbol.json", read_graph),
        ("net.mar", lambda path: unpack(path, path.with_name("net"))),
    ],
)
def test_an_lfs_pointer_is_reported_with_the_next_step(tmp_path: Path, name: str, read: Callable[[Path], Any]) -> None:
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(ModelFormatError, match=rf"{name} is a Git LFS pointer.* 22,845,858 bytes.*git lfs pull"):
        read(tmp_path / name)
