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

    The package ``openvino_telemetry`` would report the import to Google Analytics, and write an identity into the
    user's home. OpenVINO works without that package, so its import is blocked.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


@functools.cache
def core() -> Any:
    """Return the process's only ``Core`` of the runtime."""
    return import_openvino().Core()


EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
"""Compilation in float32. Processors with bfloat16 would otherwise use that."""


def compile_model(model: Any, streams: int, threads: int) -> Any:
    """Compile an OpenVINO model for the CPU, with ``threads`` in all, divided evenly among ``streams``."""
    options = {**EXACT, "ENABLE_CPU_PINNING": False, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}
    return core().compile_model(model, "CPU", options)


DONT_NEED = 4
"""``MADV_DONTNEED`` of madvise(2), on Linux."""
READ_ONLY = "r--"


def drop_page_cache(path: Path) -> None:
    """Release the pages of a mapped file that this process has read; later reads load them from the file again.

    OpenVINO reads a network's weights once, copies them into its kernels' layout, and keeps the file mapped. Only
    read-only mappings are released, and only on Linux.
    """
    name = os.fspath(path.resolve())
    with contextlib.suppress(OSError, AttributeError), open("/proc/self/maps") as maps:
        advise = ctypes.CDLL(None).madvise
        for line in maps:
            fields = line.rstrip("\n").split(maxsplit=5)  # addresses, permissions, offset, device, inode, path
            if len(fields) == 6 and fields[5] == name and fields[1].startswith(READ_ONLY):
                begin, end = (int(address, 16) for address in fields[0].split("-"))
                advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), DONT_NEED)
