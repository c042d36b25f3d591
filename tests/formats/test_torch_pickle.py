from __future__ import annotations

import collections
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import ModelFormatError
from app.formats.torch_pickle import MAGIC, VERSION, read_state_dict

MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Named:
    """An object that is pickled as a name alone, as PyTorch's storage types are."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Stored:
    """An object that is pickled as a persistent id."""

    def __init__(self, *pid: Any) -> None:
        self.pid = pid


class Writer(pickle._Pickler):  # type: ignore[misc, name-defined]
    """A pickler that writes names of modules that are not installed here, and persistent ids."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, Stored) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Named):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Tensor):
            self.save(Named("torch._utils", "_rebuild_tensor_v2"))
            self.save(obj.args)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


class Tensor:
    def __init__(self, *args: Any) -> None:
        self.args = args


def tensor(key: str, count: int, offset: Any, shape: Any, strides: Any, kind: str = "FloatStorage") -> Tensor:
    stored = Stored("storage", Named("torch", kind), key, "cpu", count, None)
    return Tensor(stored, offset, shape, strides, False, collections.OrderedDict())


def legacy(path: Path, state: Any, storages: dict[str, Any]) -> Path:
    """Write a file in PyTorch's legacy format, as its description says."""
    with path.open("wb") as file:
        for item in (MAGIC, VERSION, MACHINE, state, list(storages)):
            Writer(file, 2).dump(item)
        for values in storages.values():
            file.write(struct.pack("<q", len(values)) + values.tobytes())
    return path


VALUES = np.arange(6, dtype=np.float32)


def test_tensors_are_read_with_their_names_in_order(tmp_path: Path) -> None:
    state = collections.OrderedDict(b=tensor("1", 6, 0, (2, 3), (3, 1)), a=tensor("2", 1, 0, (), (), "LongStorage"))
    found = read_state_dict(legacy(tmp_path / "a.pth", state, {"1": VALUES, "2": np.array([9], np.int64)}))
    assert list(found) == ["b", "a"]
    np.testing.assert_array_equal(found["b"], [[0, 1, 2], [3, 4, 5]])
    assert found["a"].dtype == np.int64 and found["a"] == 9


def test_strides_and_offset_are_respected(tmp_path: Path) -> None:
    state = {"w": tensor("1", 6, 1, (2, 2), (1, 2))}
    found = read_state_dict(legacy(tmp_path / "a.pth", state, {"1": VALUES}))["w"]
    np.testing.assert_array_equal(found, [[1, 3], [2, 4]])
    assert found.flags.c_contiguous


def test_two_tensors_may_share_a_storage(tmp_path: Path) -> None:
    state = {"w": tensor("1", 6, 0, (3,), (1,)), "v": tensor("1", 6, 3, (3,), (1,))}
    found = read_state_dict(legacy(tmp_path / "a.pth", state, {"1": VALUES}))
    np.testing.assert_array_equal(found["v"], [3, 4, 5])


def test_the_tensors_may_carry_pytorchs_metadata(tmp_path: Path) -> None:
    state = collections.OrderedDict(w=tensor("1", 6, 0, (6,), (1,)))
    state._metadata = collections.OrderedDict([("", {"version": 1})])  # type: ignore[attr-defined]
    assert list(read_state_dict(legacy(tmp_path / "a.pth", state, {"1": VALUES}))) == ["w"]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(tensor("1", 6, 0, (7,), (1,)), id="longer than its storage"),
        pytest.param(tensor("1", 6, 5, (2,), (1,)), id="offset beyond the end"),
        pytest.param(tensor("1", 6, 0, (2, 3), (4, 1)), id="stride beyond the end"),
        pytest.param(tensor("1", 6, 0, (10**9, 10**9), (0, 0)), id="a huge shape of stride 0"),
        pytest.param(tensor("1", 6, -1, (2,), (1,)), id="negative offset"),
        pytest.param(tensor("1", 6, 0, (2,), (-1,)), id="negative stride"),
        pytest.param(tensor("1", 6, 0, (2, 3), (1,)), id="fewer strides than sizes"),
        pytest.param(tensor("1", 6, 0, ("2",), (1,)), id="text for a size"),
        pytest.param(tensor("1", 7, 0, (2,), (1,)), id="another count than the storage has"),
        pytest.param(tensor("1", 10**15, 0, (2,), (1,)), id="a storage larger than the file"),
        pytest.param(tensor("1", -1, 0, (2,), (1,)), id="a storage of negative size"),
        pytest.param(tensor("2", 6, 0, (2,), (1,)), id="a storage that is not there"),
        pytest.param("text", id="no tensor"),
    ],
)
def test_an_impossible_tensor_is_refused(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(ModelFormatError, match=r"a\.pth"):
        read_state_dict(legacy(tmp_path / "a.pth", {"w": bad}, {"1": VALUES}))


class Hostile:
    """An object that runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


def test_a_pickle_that_runs_a_command_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    with pytest.raises(ModelFormatError, match="system"):
        read_state_dict(legacy(tmp_path / "a.pth", {"w": Hostile(target)}, {}))
    assert not target.exists()


@pytest.mark.parametrize("name", ["builtins\neval", "builtins\ngetattr", "torch\nload", "torch._utils\nimport_module"])
def test_a_plain_pickle_may_not_import_anything_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.pth").write_bytes(b"\x80\x02c" + name.encode() + b"\n(tR.")
    with pytest.raises(ModelFormatError, match="no place among weights"):
        read_state_dict(tmp_path / "a.pth")


def test_a_pickle_cannot_modify_the_stub_of_a_pytorch_function(tmp_path: Path) -> None:
    change = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00xK\x01sb."  # BUILD with {"x": 1}
    (tmp_path / "a.pth").write_bytes(change)
    with pytest.raises(ModelFormatError):
        read_state_dict(tmp_path / "a.pth")
    state = {"w": tensor("1", 6, 0, (6,), (1,))}
    np.testing.assert_array_equal(read_state_dict(legacy(tmp_path / "b.pth", state, {"1": VALUES}))["w"], VALUES)


def test_a_pickle_with_a_huge_memo_number_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"\x80\x02K\x01r" + struct.pack("<I", 2**31 - 1) + b".")
    with pytest.raises(ModelFormatError, match="numbers its objects"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"PK\x03\x04 a zip of PyTorch 1.6 or later", b"\x80\x02.", b"\x80\x02N."]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"a\.pth"):
        read_state_dict(tmp_path / "a.pth")


def test_a_file_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    path = legacy(tmp_path / "a.pth", {"w": tensor("1", 6, 0, (6,), (1,))}, {"1": VALUES})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFormatError):
            read_state_dict(path)


def test_random_damage_gives_tensors_or_a_clear_error(tmp_path: Path) -> None:
    path = legacy(tmp_path / "a.pth", {"w": tensor("1", 6, 0, (6,), (1,))}, {"1": VALUES})
    whole = path.read_bytes()
    random = np.random.RandomState(2)
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[random.randint(len(whole))] = random.randint(256)
        path.write_bytes(damaged)
        try:
            assert all(isinstance(array, np.ndarray) for array in read_state_dict(path).values())
        except ModelFormatError as error:
            assert "a.pth" in str(error)
