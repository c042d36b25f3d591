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
"""What a server process takes with a few ordinary models; measured with the three that Dimple brings and SqueezeNet."""
COUNT_GPUS = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
COUNT_SECONDS = 30.0
"""The driver of a machine with many GPUs may take 10 s to wake them."""


@functools.cache
def cores() -> int:
    """Return :func:`available_cores` of this machine, which is read once: every request needs it."""
    return available_cores(SYSTEM)


def available_cores(system: Path) -> int:
    """Return how many processor cores this process may use: those of its affinity, or fewer if its control group (a
    container's ``--cpus``) allows fewer; part of a core counts as one.

    :param system: where ``/proc`` and ``/sys`` are found.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([allowed, *(max(1, math.ceil(quota)) for quota in _cpu_quotas(system))])


def memory_bytes(system: Path = SYSTEM) -> int:
    """How much memory this process may use: the machine's, or less where its control group allows less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _groups(system, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += [int(word) for word in _words(folder / name) if word.isdigit()]
    return min(limits)


@functools.cache
def gpus() -> int:
    """Return how many GPUs ``nvidia-smi`` lists, as Multi Model Server counts them; 0 without it. Asked once."""
    try:
        done = subprocess.run(COUNT_GPUS, capture_output=True, text=True, timeout=COUNT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(done.stdout.split())


def server_processes(system: Path = SYSTEM) -> int:
    """How many server processes fit: one for every core, as long as there is memory for them."""
    return max(1, min(available_cores(system), memory_bytes(system) // PROCESS_BYTES))


def _cpu_quotas(system: Path) -> Iterator[float]:
    """Cores that control groups grant: version 2 in one file, ``max`` meaning all; version 1 in two, -1 meaning all."""
    for folder in _groups(system, "cpu"):
        found = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(found) == 2 and all(word.isdigit() for word in found):
            yield int(found[0]) / int(found[1])


def _groups(system: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups and of all above them, whose limits hold, too (cgroups(7))."""
    for line in _lines(system / "proc" / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        root = system / "sys" / "fs" / "cgroup" / ("" if number == "0" else controllers)
        folder = root / path.lstrip("/")
        yield from (one for one in (folder, *folder.parents) if one.is_relative_to(root))


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
