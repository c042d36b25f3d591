from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.mxnet.compat import prepare
from app.errors import ModelFormatError
from app.formats.mxnet_params import read_params, write_params

ARRAYS = {
    "arg:conv_weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "aux:bn_moving_mean": np.array([0.5, -1.0], np.float64),
    "bare.0.bias": np.array([[1, 2, 3]], np.int32),
    "arg:größe": np.array([7], np.uint8),
}


def mxnet() -> Any:
    prepare()
    import mxnet

    return mxnet


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_files_saved_by_mxnet_are_read(tmp_path: Path) -> None:
    mx = mxnet()
    made = {}
    for name, array in ARRAYS.items():
        made[name] = mx.nd.empty(array.shape, dtype=array.dtype)
        made[name][:] = array
    mx.nd.save(str(tmp_path / "a.params"), made)
    assert_same(read_params(tmp_path / "a.params"), ARRAYS)


def test_files_saved_by_mxnet_with_numpy_shapes_are_read(tmp_path: Path) -> None:
    mx = mxnet()
    with mx.util.np_shape(True):
        mx.nd.save(str(tmp_path / "a.params"), {"scalar": mx.nd.ones(()), "row": mx.nd.ones((2,))})
    expected = {"scalar": np.ones((), np.float32), "row": np.ones(2, np.float32)}
    assert_same(read_params(tmp_path / "a.params"), expected)


def test_mxnet_loads_written_files(tmp_path: Path) -> None:
    write_params(tmp_path / "a.params", ARRAYS)
    loaded = mxnet().nd.load(str(tmp_path / "a.params"))
    assert set(loaded) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name].asnumpy(), array)


def test_written_files_are_read_back(tmp_path: Path) -> None:
    arrays = {**ARRAYS, "half": np.ones((2, 2), np.float16), "flags": np.array([True, False]), "none": np.zeros((0, 3))}
    write_params(tmp_path / "a.params", arrays)
    assert_same(read_params(tmp_path / "a.params"), arrays)


def test_an_array_that_is_not_contiguous_is_written_in_order(tmp_path: Path) -> None:
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_params(tmp_path / "a.params", {"w": transposed})
    np.testing.assert_array_equal(read_params(tmp_path / "a.params")["w"], transposed)


def one_array(head: bytes) -> bytes:
    """Return a file with one array of two float32 called ``w``; ``head`` is the array's beginning, up to its shape."""
    values = struct.pack("<iii2f", 1, 0, 0, 1.5, -2.0)
    return struct.pack("<QQQ", 0x112, 0, 1) + head + values + struct.pack("<QQ", 1, 1) + b"w"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(struct.pack("<II", 1, 2), id="no magic"),
        pytest.param(struct.pack("<IIq", 0xF993FAC8, 1, 2), id="V1"),
        pytest.param(struct.pack("<Iiiq", 0xF993FAC9, 0, 1, 2), id="V2"),
    ],
)
def test_every_older_version_is_read_as_mxnet_reads_it(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.params").write_bytes(one_array(head))
    found = read_params(tmp_path / "a.params")
    np.testing.assert_array_equal(found["w"], mxnet().nd.load(str(tmp_path / "a.params"))["w"].asnumpy())
    np.testing.assert_array_equal(found["w"], np.array([1.5, -2.0], np.float32))


def test_a_file_truncated_anywhere_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.params"
    write_params(path, ARRAYS)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFormatError, match=r"cut\.params"):
            read_params(path)


def test_random_damage_gives_arrays_or_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.params"
    write_params(path, ARRAYS)
    whole = path.read_bytes()
    random = np.random.RandomState(1)
    for _ in range(500):
        damaged = bytearray(whole)
        for position in random.randint(0, len(whole), 3):
            damaged[position] = random.randint(256)
        path.write_bytes(damaged)
        try:
            assert all(isinstance(array, np.ndarray) for array in read_params(path).values())
        except ModelFormatError as error:
            assert "damaged.params" in str(error)


V2_HEAD = struct.pack("<QQQI", 0x112, 0, 1, 0xF993FAC9)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "first 16 bytes"),
        (b"this is not a parameter file at all", "begins with"),
        (struct.pack("<QQQ", 0x112, 0, 2**60), "cannot hold"),
        (V2_HEAD + struct.pack("<iii", 1, 1, 1), "sparse"),
        (V2_HEAD + struct.pack("<ii", 0, 1000), "1000 dimensions"),
        (V2_HEAD + struct.pack("<ii", 0, -1), "-1 dimensions"),
        (V2_HEAD + struct.pack("<ii2q", 0, 2, -1, 4), "impossible shape"),
        (V2_HEAD + struct.pack("<ii2qiii", 0, 2, 2**40, 2**40, 1, 0, 0), "ends within array 1 of 1"),
        (V2_HEAD + struct.pack("<iiqiii", 0, 1, 1, 1, 0, 99), "type number 99"),
        (V2_HEAD + struct.pack("<iiqiiifQ", 0, 1, 1, 1, 0, 0, 1.0, 0), "1 arrays but 0 names"),
        (V2_HEAD + struct.pack("<iiqiiifQQ", 0, 1, 1, 1, 0, 0, 1.0, 1, 2**62), "ends within a name"),
        (V2_HEAD + struct.pack("<iiqiiifQQ", 0, 1, 1, 1, 0, 0, 1.0, 1, 1) + b"\xff", "not UTF-8"),
    ],
)
def test_a_broken_file_is_refused_with_the_fault(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.params").write_bytes(content)
    with pytest.raises(ModelFormatError, match=reason):
        read_params(tmp_path / "bad.params")


def test_two_arrays_with_one_name_are_refused(tmp_path: Path) -> None:
    write_params(tmp_path / "a.params", {"x": np.ones(1, np.float32), "y": np.ones(1, np.float32)})
    (tmp_path / "a.params").write_bytes((tmp_path / "a.params").read_bytes()[:-1] + b"x")
    with pytest.raises(ModelFormatError, match="same name"):
        read_params(tmp_path / "a.params")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"none\.params"):
        read_params(tmp_path / "none.params")


def test_a_type_that_the_format_lacks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="complex"):
        write_params(tmp_path / "a.params", {"w": np.ones(2, np.complex64)})
