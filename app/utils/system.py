"""Processors, memory and GPUs of this machine or container."""

from __future__ import annotations

import functools
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

SYSTEM = Path("/")
PROCESS_BYTES = 500 * 2**20
"""Memory of a server process with a few ordinary models in bytes (measured with Dimple's three models and
SqueezeNet)."""
COUNT_GPUS = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
COUNT_SECONDS = 30.0
"""Timeout of counting GPUs in seconds. A driver may take 10 s to wake many GPUs."""


@functools.cache
def cpu_count() -> int:
    """Return :func:`available_cores` of this machine. It is cached, because every request needs it."""
    return available_cores(SYSTEM)


def available_cores(system: Path) -> int:
    """Return the number of processor cores that this process may use: the cores of its affinity, limited by its control
    group (a container's ``--cpus``). A fraction of a core counts as one.

    :param system: parent folder of ``/proc`` and ``/sys``.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([allowed, *(max(1, math.ceil(quota)) for quota in _cpu_quotas(system))])


def memory_limit(system: Path = SYSTEM) -> int:
    """Return the memory that this process may use: the machine's, limited by its control group."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _groups(system, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += [int(word) for word in _read_words(folder / name) if word.isdigit()]
    return min(limits)


@functools.cache
def gpus() -> int:
    """Return the number of GPUs that ``nvidia-smi`` lists, as Multi Model Server counts them; 0 without it. Cached."""
    try:
        done = subprocess.run(COUNT_GPUS, capture_output=True, text=True, timeout=COUNT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(done.stdout.split())


def default_worker_count(system: Path = SYSTEM) -> int:
    """Return the number of server processes that fit: one for every core, limited by memory."""
    return max(1, min(available_cores(system), memory_limit(system) // PROCESS_BYTES))


def _cpu_quotas(system: Path) -> Iterator[float]:
    """Yield the core quotas of control groups: version 2 in one file, ``max`` for no limit; version 1 in two files, -1
    for no limit."""
    for folder in _groups(system, "cpu"):
        fields = _read_words(folder / "cpu.max") or [
            *_read_words(folder / "cpu.cfs_quota_us"),
            *_read_words(folder / "cpu.cfs_period_us"),
        ]
        if len(fields) == 2 and all(word.isdigit() for word in fields):
            yield int(fields[0]) / int(fields[1])


def _groups(system: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups and of all their ancestors, whose limits also apply
    (cgroups(7))."""
    for line in _read_lines(system / "proc" / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        root = system / "sys" / "fs" / "cgroup" / ("" if number == "0" else controllers)
        folder = root / path.lstrip("/")
        yield from (item for item in (folder, *folder.parents) if item.is_relative_to(root))


def _read_words(path: Path) -> list[str]:
    return " ".join(_read_lines(path)).split()


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
