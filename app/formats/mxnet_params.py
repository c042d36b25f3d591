"""A reader and writer of MXNet's parameter files (``*.params``, named arrays of ``mxnet.nd.save``) without MXNet.

Format, all little-endian: uint64 0x112, uint64 reserved, uint64 count and that many arrays, uint64 count and that many
names (uint64 length, UTF-8). An array begins with the magic number of its version; in MXNet's first years it began with
its number of dimensions. A checkpoint's names begin with ``arg:`` or ``aux:``; Gluon's have no prefix.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelFormatError
from app.formats.mxnet_graph import Graph
from app.utils.files import refuse_pointer

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DENSE, CPU = 0, 1
MAX_DIMENSIONS = 32
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "|u1", 4: "<i4", 5: "|i1", 6: "<i8", 7: "|b1"}

Arrays = dict[str, NDArray[Any]]


class _Broken(Exception):
    """A defect of the file; the message does not name the file."""


def read_params(path: Path) -> Arrays:
    """Read every array of a ``.params`` file, by its name in the file. The arrays are read-only.

    :raises ModelFormatError: if the file cannot be read, is truncated, or holds arrays that cannot be a network's
        parameters: unnamed, sparse or empty arrays, or unknown types.
    """
    refuse_pointer(path)
    try:
        with path.open("rb") as file:
            return _read_list(_Reader(file, path.stat().st_size))
    except (OSError, _Broken) as error:
        raise ModelFormatError(f"{path} cannot be read as MXNet parameters: {error}") from None


def bare_name(name: str) -> str:
    """Return the name of an array without the prefix of a checkpoint."""
    return name.removeprefix("arg:").removeprefix("aux:")


def write_params(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to a ``.params`` file that MXNet 0.12 and later reads.

    :raises ModelFormatError: if an array has a type that the format lacks, or no dimensions.
    """
    names = [name.encode() for name in arrays]
    with path.open("wb") as file:
        file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays)))
        for name, array in arrays.items():
            _write_array(file, name, array)
        file.write(struct.pack("<Q", len(names)))
        for encoded in names:
            file.write(struct.pack("<Q", len(encoded)) + encoded)


class _Reader:
    """A reader that refuses to read beyond the end of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def take(self, count: int, what: str) -> bytes:
        if count > self._left:
            raise _Broken(f"it ends within {what} ({count:,} bytes are needed, {self._left:,} are left)")
        self._left -= count
        return self._file.read(count)

    def numbers(self, form: str, what: str) -> tuple[int, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form), what))

    def number(self, form: str, what: str) -> int:
        return self.numbers(form, what)[0]

    def check_count(self, count: int, least: int, what: str) -> None:
        """Refuse a count of items, each of at least ``least`` bytes, that the rest of the file cannot hold."""
        if count * least > self._left:
            raise _Broken(f"it says that it has {count:,} {what}, which its {self._left:,} remaining bytes cannot hold")


def _read_list(reader: _Reader) -> Arrays:
    magic, _reserved = reader.numbers("QQ", "its first 16 bytes")
    if magic != LIST_MAGIC:
        raise _Broken(f"it begins with {magic:#x}, not with {LIST_MAGIC:#x}")
    count = reader.number("Q", "the number of arrays")
    reader.check_count(count, 4, "arrays")
    arrays = [_read_array(reader, f"array {index + 1} of {count}") for index in range(count)]
    names = list(_read_names(reader, count))
    if len(set(names)) != count:
        raise _Broken("two of its arrays have the same name")
    return dict(zip(names, arrays, strict=True))


def _read_names(reader: _Reader, arrays: int) -> Iterator[str]:
    count = reader.number("Q", "the number of names")
    if count != arrays:
        raise _Broken(f"it has {arrays} arrays but {count} names; a network's parameters are named, one by one")
    for _ in range(count):
        length = reader.number("Q", "a name's length")
        try:
            yield reader.take(length, "a name").decode()
        except UnicodeDecodeError:
            raise _Broken("a name in it is not UTF-8") from None


def _read_array(reader: _Reader, what: str) -> NDArray[Any]:
    shape = _read_shape(reader, what)
    reader.numbers("ii", what)  # the array's device
    type_flag = reader.number("i", what)
    if type_flag not in DTYPES:
        raise _Broken(f"{what} has the type number {type_flag}; known are {', '.join(map(str, DTYPES))}")
    dtype = np.dtype(DTYPES[type_flag])
    values = reader.take(math.prod(shape) * dtype.itemsize, f"{what}, of shape {shape}")
    try:
        return np.frombuffer(values, dtype).reshape(shape)
    except ValueError:  # a size of 0 beside sizes that overflow NumPy's count
        raise _Broken(f"{what} has the impossible shape {shape}") from None


def _read_shape(reader: _Reader, what: str) -> tuple[int, ...]:
    """Read the beginning of an array, up to its shape, in any of the four versions."""
    first = reader.number("I", what)
    if first in (V2, V3) and (storage := reader.number("i", what)) != DENSE:
        raise _Broken(f"{what} is sparse (storage type {storage}); save it dense")
    versioned = first in (V1, V2, V3)
    dimensions = reader.number("i", what) if versioned else first
    least = 0 if first == V3 else 1  # before version 3 an array without dimensions had no values
    if not least <= dimensions <= MAX_DIMENSIONS:
        raise _Broken(f"{what} says that it has {dimensions} dimensions; {least} to {MAX_DIMENSIONS} are possible")
    shape = reader.numbers(("q" if versioned else "I") * dimensions, what)
    if any(size < 0 for size in shape):
        raise _Broken(f"{what} has the impossible shape {shape}")
    return shape


def _write_array(file: BinaryIO, name: str, array: NDArray[Any]) -> None:
    flags = {np.dtype(text): flag for flag, text in DTYPES.items()}
    dtype = array.dtype.newbyteorder("<")
    if dtype not in flags or not array.ndim:
        raise ModelFormatError(f"{name}: arrays of type {array.dtype} and shape {array.shape} cannot be written")
    file.write(struct.pack("<Iii", V2, DENSE, array.ndim))
    file.write(struct.pack(f"<{array.ndim}q", *array.shape))
    file.write(struct.pack("<iii", CPU, 0, flags[dtype]))
    file.write(np.ascontiguousarray(array, dtype).tobytes())


def no_graph(params: Path) -> ModelFormatError:
    """Return the error for a ``.params`` file without a graph, which cannot be computed."""
    names = sorted(read_params(params))
    if is_structural(names):
        return ModelFormatError(
            f"{params} holds a Gluon network's parameters, under names such as {names[0]}, as save_parameters writes "
            f"them, but not its graph. Build the network as it was built, load them, and call hybridize(), then the "
            f"network on a picture, then export({params.stem!r}): it writes {params.stem}-symbol.json beside new "
            f"parameters. For a network of Gluon's model zoo, dimple models pull NAME does that"
        )
    prefix = params.stem.rsplit("-", 1)[0]
    return ModelFormatError(f"{params} holds parameters, but not their graph: put {prefix}-symbol.json beside it")


def is_structural(names: Iterable[str]) -> bool:
    """Return whether parameters are named by their places in a Gluon network: ``features.0.weight``."""
    listed = list(names)
    return bool(listed) and all("." in name and not name.startswith(("arg:", "aux:")) for name in listed)


def missing_params(
    graph: Graph, missing: list[str], names: Iterable[str], symbol: Path, params: Path
) -> ModelFormatError:
    """Return the error for arrays that a graph needs and its parameters lack.

    :param missing: the names of these arrays, at least one.
    :param names: the names of the arrays that the parameters hold.
    """
    first = missing[0]
    users = (node for node in graph.nodes if any(graph.nodes[number].name == first for number in node.inputs))
    user = next((f"{node.op} {node.name} of " for node in users), "")  # none if the array is itself an output
    rest = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
    text = f"{params} does not hold {first}{rest}, which {user}{symbol.name} needs"
    listed = sorted(names)
    if is_structural(listed):
        text += (
            f". It names its parameters by their places ({listed[0]}), as Gluon's save_parameters does; export() "
            "writes graph and parameters under the same names"
        )
    elif listed:
        text += f". It holds {', '.join(listed[:3])}{', …' if len(listed) > 3 else ''}"
    return ModelFormatError(text)
