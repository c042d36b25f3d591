"""Mutations of HDF5 files by HDF5 itself: attributes, links and layouts of an intact file."""

from __future__ import annotations

from random import Random
from typing import Any

import h5py
import numpy as np

from app.formats.hdf5 import check_content
from fuzz.mutations import blind, json_values
from fuzz.mutations.values import text

CANARY = "/proc/self/environ"
"""A file whose content no model may reveal."""


def mutate(data: bytes, random: Random) -> bytes:
    """Damage an object of the file, or any bytes."""
    if random.random() < 0.45:
        return blind.mutate(data, random)
    try:
        return _mutate_objects(data, random)
    except Exception:  # the file was already damaged, or HDF5 refuses to write the mutation
        return blind.mutate(data, random)


def _mutate_objects(data: bytes, random: Random) -> bytes:
    check_content(data)  # HDF5 hangs on some damage
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(2**16, False)
    access.set_file_image(data)
    with h5py.File(h5py.h5f.open(b"case", h5py.h5f.ACC_RDWR, fapl=access)) as file:
        for _ in range(random.choice((1, 1, 2))):
            random.choice((_attribute, _attribute, _configuration, _configuration, _dataset, _link))(file, random)
        file.flush()
        return bytes(file.id.get_file_image())


def _names(file: Any, kind: Any) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, node: names.append(name) if isinstance(node, kind) else None)
    return names


def _configuration(file: Any, random: Random) -> None:
    value = file.attrs["model_config"]
    config = json_values.mutate(value.encode() if isinstance(value, str) else bytes(value), random)
    del file.attrs["model_config"]
    if len(config) < 60_000:  # HDF5 limits attributes to 64 KB
        file.attrs["model_config"] = np.bytes_(config)


def _attribute(file: Any, random: Random) -> None:
    groups = [file, *(file[name] for name in _names(file, h5py.Group))]
    attributes = random.choice([group.attrs for group in groups if len(group.attrs)])
    name = random.choice(list(attributes))
    old = attributes[name]
    del attributes[name]
    new = random.choice(
        (
            lambda: None,
            lambda: random.randrange(100),
            lambda: np.array([0.5, np.nan]),
            lambda: np.array(text(random).encode("utf-8", "surrogatepass"), dtype="S"),
            lambda: [text(random).replace("\0", "").encode("utf-8", "replace").decode()] * 3,
            lambda: np.array([value for value in list(np.atleast_1d(old)) for _ in range(3)]),
            lambda: np.zeros((2, 2), np.float32),
            lambda: h5py.Empty("f"),
            lambda: np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
            lambda: file.ref,
            lambda: np.array([b"\xff\xfe", b"a/../../b", b"/", b".", b""], dtype="S12"),
        )
    )()
    if new is not None:
        attributes[random.choice((name, name + "0", name))] = new


def _dataset(file: Any, random: Random) -> None:
    name = random.choice(_names(file, h5py.Dataset))
    del file[name]
    layout = random.randrange(11)
    huge = random.choice(((2**40,), (2**20, 2**20), (100_000_000,), (2**31, 2), (0,), ()))
    if layout == 0:
        file.create_dataset(name, huge, "f4", chunks=tuple(min(side or 1, 64) for side in huge) or None)
    elif layout == 1:
        file.create_dataset(name, (64,), "f4", external=[(CANARY, 0, h5py.h5f.UNLIMITED)])
    elif layout == 2:
        sources = h5py.VirtualLayout((4,), "f4")
        sources[:] = h5py.VirtualSource(CANARY, "x", (4,))
        file.create_virtual_dataset(name, sources)
    elif layout == 3:
        file.create_dataset(name, (2**21,), "f4", compression="gzip", data=np.zeros(2**21, "f4"))
    elif layout == 4:
        file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())
    elif layout == 5:
        file.create_dataset(name, (3,), dtype=h5py.vlen_dtype("f4"))
    elif layout == 6:
        file.create_dataset(name, data=np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]))
    elif layout == 7:
        file.create_dataset(name, (3,), dtype=h5py.ref_dtype)
    elif layout == 8:
        file.create_dataset(name, data=h5py.Empty("f4"))
    elif layout == 9:
        shape = (1,) * random.choice((5, 20, 32))
        file.create_dataset(name, shape, random.choice(("f2", "f8", "i8", "u1", "c16", ">f4")))
    else:
        file.create_dataset(name, (2, 2), np.dtype((np.void, random.choice((1, 100)))))


def _link(file: Any, random: Random) -> None:
    name = random.choice(_names(file, (h5py.Group, h5py.Dataset)))
    del file[name]
    file[name] = random.choice(
        (
            h5py.ExternalLink(CANARY, "/"),
            h5py.ExternalLink("", "/"),
            h5py.SoftLink("/" + name),
            h5py.SoftLink("/"),
            h5py.SoftLink("/nowhere"),
            file["/"],
            np.dtype("f4"),
        )
    )
