"""The OpenVINO runtime: its import, its compiler, and the memory of mapped weights."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import sys
from pathlib import Path
from typing import Any


def import_openvino() -> Any:
    """Import OpenVINO and return it.

    The import would report itself to Google Analytics, and write an identity for that into the user's home, both by the
    package ``openvino_telemetry``. Where that cannot be imported OpenVINO does without.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


@functools.cache
def core() -> Any:
    """Return the runtime's own ``Core``: one for the process."""
    return import_openvino().Core()


EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
"""Processors with bfloat16 would otherwise compute in it."""


def compile_model(model: Any, streams: int, threads: int) -> Any:
    """Compile a model of OpenVINO's for the CPU: ``threads`` in all, shared out evenly among ``streams``."""
    options = {**EXACT, "ENABLE_CPU_PINNING": False, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}
    return core().compile_model(model, "CPU", options)


DONT_NEED = 4
"""``MADV_DONTNEED`` of madvise(2), on Linux."""
READ_ONLY = "r--"


def drop_page_cache(path: Path) -> None:
    """Give the pages back that this process has read of a mapped file; what is read again comes from the file again.

    OpenVINO reads a network's weights once, puts them where its kernels want them, and keeps the file mapped. Only what
    is mapped to be read is given back, and only on Linux: elsewhere nothing happens.
    """
    name = os.fspath(path.resolve())
    with contextlib.suppress(OSError, AttributeError), open("/proc/self/maps") as maps:
        advise = ctypes.CDLL(None).madvise
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)  # addresses, permissions, offset, device, inode, path
            if len(fields) == 6 and fields[5] == name and fields[1].startswith(READ_ONLY):
                begin, end = (int(address, 16) for address in fields[0].split("-"))
                advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), DONT_NEED)
