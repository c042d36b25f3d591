"""HDF5 files from untrusted sources, and what they can do to a reader."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from app.errors import ModelFormatError
from app.formats.keras_file import read_h5
from app.settings import ROOT

DENSE = {"class_name": "Dense", "config": {"name": "d", "units": 2, "batch_input_shape": [None, 3]}}


def model(path: Path, layers: Any = (DENSE,), **datasets: Any) -> Path:
    """Return a Keras file of one layer; each keyword makes its dataset in the group that it is given."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": list(layers)})
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"d"]
        group.attrs["backend"] = b"mxnet"
        layer = group.create_group("d")
        layer.attrs["weight_names"] = np.array([name.encode() for name in datasets], "S20")
        for name, make in datasets.items():
            make(layer, name)
    return path


def plain(group: Any, name: str) -> None:
    group[name] = np.arange(6, dtype=np.float32).reshape(3, 2)


def refused(path: Path) -> str:
    with pytest.raises(ModelFormatError) as raised:
        read_h5(path)
    return str(raised.value)


def test_arrays_are_read_unchanged(tmp_path: Path) -> None:
    (name, (array,)) = read_h5(model(tmp_path / "a.h5", kernel=plain)).weights[0]
    assert (name, array.tolist()) == ("d", [[0, 1], [2, 3], [4, 5]])


def test_arrays_may_be_compressed_with_gzip(tmp_path: Path) -> None:
    (_name, (array,)) = read_h5(model(tmp_path / "a.h5", kernel=packed)).weights[0]
    assert array.tolist() == [0, 1, 2, 3]


def external(group: Any, name: str) -> None:
    group.create_dataset(name, (3,), "u1", external=[(ROOT / "README.md", 0, 3)])


def virtual(group: Any, name: str) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (2,))
    group.create_virtual_dataset(name, layout)


def linked(group: Any, name: str) -> None:
    group[name] = h5py.ExternalLink("other.h5", "secret")


def softly_linked(group: Any, name: str) -> None:
    group["real"] = np.zeros(3)
    group[name] = h5py.SoftLink("real")


def never_written(group: Any, name: str) -> None:
    group.create_dataset(name, (2**20, 2**20), "f4", chunks=(64, 64))


def huge_chunk(group: Any, name: str) -> None:
    group.create_dataset(name, (1,), "f4", maxshape=(None,), chunks=(2**28,))


def bomb(group: Any, name: str) -> None:
    group.create_dataset(name, data=np.zeros(2**25, np.float32), compression="gzip", chunks=(2**22,))


def scaled(group: Any, name: str) -> None:
    group.create_dataset(name, data=np.zeros(4, np.int32), scaleoffset=0)


def packed(group: Any, name: str) -> None:
    options: Any = {"compression": "gzip", "shuffle": True, "fletcher32": True}
    group.create_dataset(name, data=np.arange(4, dtype=np.float32), **options)


def texts(group: Any, name: str) -> None:
    group.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())


def nothing(group: Any, name: str) -> None:
    group.create_dataset(name, data=h5py.Empty("f4"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (external, "its w keeps its values in other files"),
        (virtual, "its w keeps its values in other files"),
        (linked, "its w is a link to 'secret'"),
        (softly_linked, "its w is a link to 'real'"),
        (never_written, "would need 4,398,046,511,104 bytes; at most 67,108,864"),
        (huge_chunk, "would need 1,073,741,824 bytes; at most 67,108,864"),
        (bomb, "would need 134,217,728 bytes; at most 67,108,864"),
        (scaled, "its w is packed by the HDF5 filter 6"),
        (texts, "its w is of the type object; weights are numbers"),
        (nothing, "its w is not an array"),
        (lambda group, name: group.create_group(name), "its w is not an array"),
        (lambda group, name: None, "it has no w"),
    ],
)
def test_datasets_that_are_not_local_numeric_arrays_are_refused(tmp_path: Path, make: Any, reason: str) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.zeros(2, np.float32)
    assert reason in refused(model(tmp_path / "a.h5", w=make))


def test_an_array_referenced_a_thousand_times_counts_each_time(tmp_path: Path) -> None:
    path = model(tmp_path / "a.h5", w=lambda group, name: group.create_dataset(name, data=np.zeros(2**20, "f4")))
    with h5py.File(path, "a") as file:
        file["model_weights/d"].attrs["weight_names"] = np.array([b"w"] * 1000)
    assert "at most" in refused(path)


def test_the_weights_themselves_may_not_be_a_link(tmp_path: Path) -> None:
    path = model(tmp_path / "a.h5", kernel=plain)
    with h5py.File(path, "a") as file:
        file.move("model_weights", "elsewhere")
        file["model_weights"] = h5py.ExternalLink("other.h5", "/")
    assert "its model_weights is a link" in refused(path)


@pytest.mark.parametrize(
    ("number", "length"), [(0, 0), (0, 8), (0, 2**63), (0, 2**64 - 8), (1, 2**63), (1, 2**64 - 8), (1, 2**64 - 16)]
)
def test_a_heap_that_makes_hdf5_loop_forever_is_refused(tmp_path: Path, number: int, length: int) -> None:
    path = model(tmp_path / "a.h5", kernel=plain)  # the configuration is a text of any length, and lies in a heap
    content = bytearray(path.read_bytes())
    (text,) = struct.unpack_from("<Q", content, content.index(b"GCOL") + 24)
    free = content.index(b"GCOL") + 32 + -(-text // 8) * 8
    struct.pack_into("<H6xQ", content, free, number, length)
    path.write_bytes(content)
    assert "a heap of its texts is damaged" in refused(path)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" + bytes(100)])
def test_files_that_are_not_hdf5_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    assert str(tmp_path / "a.h5") in refused(tmp_path / "a.h5")


def code(kind: str, **options: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": "evil", **options}}


@pytest.mark.parametrize(
    "layer",
    [
        code("Lambda"),
        code("Custom>Lambda"),
        code("a>b>Lambda"),
        code("TimeDistributed", layer=code("Keras>Lambda")),
        code("Merge", mode_type="lambda"),
        code("Custom>Merge", mode_type="lambda"),
    ],
)
def test_a_layer_with_code_is_refused_under_every_name(tmp_path: Path, layer: Any) -> None:
    assert "evil" in refused(model(tmp_path / "a.h5", [DENSE, layer], kernel=plain))


def test_weights_listed_in_an_unknown_way_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kernel"] = np.zeros(2)
    (tmp_path / "a.json").write_text(json.dumps({"class_name": "Sequential", "config": [DENSE]}))
    assert "not listed by layers" in refused(tmp_path / "a.h5")
