"""A reader of PyTorch's legacy files (``torch.save`` before 1.6): a pickle of tensors, read without PyTorch or trust.

Format: four pickles (a magic number, the format's version, the writer's machine, the object), then a pickled list of
storage keys, then for each key an int64 count and the raw values, little-endian. A tensor is a view of a storage:
offset, shape, strides.

A pickle is a program. Here it is limited to ordered dicts and tensors, and can call nothing else.
"""

from __future__ import annotations

import collections
import math
import os
import pickle
import pickletools
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelFormatError

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}


def read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    """Read a state dict, with every tensor as a contiguous array of its own.

    :raises ModelFormatError: if the file cannot be read, is truncated, refers to anything but ordered dicts and
        tensors, or holds anything but named tensors.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            tensors = _read_tensors(file)
            storages = _read_storages(file, size, tensors)
        return {name: _view(name, tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}
    except (OSError, pickle.UnpicklingError) as error:
        raise ModelFormatError(f"{path} cannot be read as PyTorch's legacy format: {error}") from None


@dataclass(frozen=True)
class _Storage:
    """The key of a storage in the file, and the type and number of its values."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _StorageType:
    dtype: str


@dataclass(frozen=True)
class _Rebuild:
    """A replacement for PyTorch's own function. It is a frozen object because a pickle could modify a function."""

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_rest: Any) -> _Tensor:
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in numbers):
            _refuse("a tensor is not described by a storage and whole numbers")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    """An unpickler that resolves ordered dicts, tensors and storages, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if module == "torch" and name in STORAGES:
            return _StorageType(STORAGES[name])
        _refuse(f"it asks for {module}.{name}, which has no place among weights")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _device, count, view = pid
        if kind != "storage" or type(storage) is not _StorageType or type(key) is not str or view is not None:
            _refuse("a storage is described in a way that is not known")
        if type(count) is not int or count < 0:
            _refuse(f"the storage {key} says that it holds {count!r} values")
        return _Storage(storage.dtype, key, count)


def _refuse(reason: str) -> NoReturn:
    raise pickle.UnpicklingError(reason)


def _read_tensors(file: BinaryIO) -> dict[str, _Tensor]:
    if _load(file) != MAGIC or _load(file) != VERSION:
        _refuse("it does not begin as that format does")
    machine = _load(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        _refuse("it was not written by a little-endian machine")
    state = _load(file)
    named = isinstance(state, dict) and all(type(k) is str and type(v) is _Tensor for k, v in state.items())
    if not named:
        _refuse("it holds something else than tensors under their names")
    return dict(state)


def _load(file: BinaryIO) -> Any:
    """Load the next pickle of the file."""
    start = file.tell()
    try:
        _check(file)
        file.seek(start)
        return _Unpickler(file).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a broken pickle may raise almost any exception
        _refuse(f"the pickle at byte {start} is broken ({type(error).__name__}: {str(error)[:100]})")


class _Pieces:
    """A file that limits reads to its remaining bytes, because Python allocates the requested size before it reads."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, max(0, self._size - self._file.tell())))

    def readline(self) -> bytes:
        return self._file.readline()

    def tell(self) -> int:
        return self._file.tell()


def _check(file: BinaryIO) -> None:
    """Check a pickle without running it: refuse texts longer than the file, and memo numbers above the number of
    instructions, because Python would allocate memory for all lower numbers."""
    for count, (instruction, argument, _position) in enumerate(pickletools.genops(cast(Any, _Pieces(file))), start=1):
        if instruction.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > count:
            _refuse(f"the pickle numbers its objects up to {argument}, more than it can have")


def _read_storages(file: BinaryIO, size: int, tensors: dict[str, _Tensor]) -> dict[str, NDArray[Any]]:
    expected = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    keys = _load(file)
    texts = isinstance(keys, list) and all(type(key) is str for key in keys)
    if not texts or len(keys) != len(expected) or set(keys) != set(expected):
        _refuse("its list of storages is not the one that its tensors need")
    storages = {}
    for key in keys:
        storage = expected[key]
        values = storage.count * np.dtype(storage.dtype).itemsize
        if file.tell() + 8 + values > size:
            _refuse(f"it ends within the storage {key} of {storage.count:,} values")
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            _refuse(f"the storage {key} holds {count:,} values where its tensor says {storage.count:,}")
        storages[key] = np.frombuffer(file.read(values), storage.dtype)
    return storages


def _view(name: str, tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    count = math.prod(tensor.shape)
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=False))
    fits = len(tensor.shape) == len(tensor.strides) and count <= len(storage)
    if not fits or (count and tensor.offset + reach >= len(storage)):
        _refuse(f"the tensor {name} of shape {tensor.shape} reaches beyond its storage of {len(storage):,} values")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    start = storage[tensor.offset :]
    # The values need not be in order: these weights came from TensorFlow, which puts the output channels last.
    try:
        return np.lib.stride_tricks.as_strided(start, tensor.shape, strides).copy()
    except (ValueError, OverflowError):  # a size of 0 beside numbers too large for NumPy
        _refuse(f"the tensor {name} has the impossible shape {tensor.shape}")


def describe_torch(path: Path) -> tuple[str, str]:
    """Return the kind of a PyTorch file in words, and how to export its network as ONNX."""
    export = "export it as ONNX and import that: torch.onnx.export(net.eval(), torch.rand(1, 3, 224, 224), 'net.onnx')"
    try:
        with zipfile.ZipFile(path) as archive:
            is_script = any("/code/" in name for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        is_script = False
    if is_script:
        return "PyTorch (TorchScript)", f"Where PyTorch is installed, load it by torch.jit.load, then {export}"
    way = "It holds weights alone: where PyTorch is installed, build its network and load them, then"
    return "PyTorch (weights)", f"{way} {export}"
