"""What the machine is doing: processor, memory and disk. Read from ``/proc`` and the file system."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from types import ModuleType

from mms.metrics.dimension import Dimension
from mms.metrics.metric import Metric

MEGABYTE, GIGABYTE = 2**20, 2**30

system_metrics: list[Metric] = []
dimension = [Dimension("Level", "Host")]

_last_times = [0, 0]


def cpu_utilization() -> None:
    """The processors' busy share since the last call, in percent; 0 at the first call."""
    ticks = [int(word) for word in _first_line(Path("/proc/stat")).split()[1:9]] or [0] * 8
    now = [sum(ticks), ticks[3] + ticks[4]]  # all, and those idle or waiting for a disk
    total, idle = (after - before for after, before in zip(now, _last_times, strict=True))
    first = not _last_times[0]
    _last_times[:] = now
    _add("CPUUtilization", 0.0 if first or not total else round(100 * (total - idle) / total, 1), "percent")


def memory_used() -> None:
    """Memory in use, in megabytes."""
    total, available = _memory()
    _add("MemoryUsed", (total - available) / MEGABYTE, "MB")


def memory_available() -> None:
    """Memory that programs can still have, in megabytes."""
    _add("MemoryAvailable", _memory()[1] / MEGABYTE, "MB")


def memory_utilization() -> None:
    """The share of memory in use, in percent."""
    total, available = _memory()
    _add("MemoryUtilization", round(100 * (total - available) / total, 1) if total else 0.0, "percent")


def disk_used() -> None:
    """What is used of the root's disk, in gigabytes."""
    _add("DiskUsage", shutil.disk_usage("/").used / GIGABYTE, "GB")


def disk_available() -> None:
    """What is free of the root's disk, in gigabytes."""
    _add("DiskAvailable", shutil.disk_usage("/").free / GIGABYTE, "GB")


def disk_utilization() -> None:
    """The used share of what programs may use of the root's disk, in percent."""
    usage = shutil.disk_usage("/")
    _add("DiskUtilization", round(100 * usage.used / ((usage.used + usage.free) or 1), 1), "percent")


ALL = (
    cpu_utilization,
    disk_available,
    disk_used,
    disk_utilization,
    memory_available,
    memory_used,
    memory_utilization,
)


def collect_all(mod: ModuleType) -> None:
    """Take every metric of this module once, and log them.

    :param mod: this module, for those who call it as Multi Model Server does.
    """
    for take in ALL:
        take()
    for metric in system_metrics:
        logging.info(str(metric))
    logging.info("")


def _add(name: str, value: float, unit: str) -> None:
    system_metrics.append(Metric(name, value, unit, dimension))


def _memory() -> tuple[int, int]:
    """Bytes there are, and bytes that are available; zeros where the system does not tell."""
    sizes = {"MemTotal": 0, "MemAvailable": 0}
    for line in _lines(Path("/proc/meminfo")):
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) * 1024
    return sizes["MemTotal"], sizes["MemAvailable"]


def _first_line(path: Path) -> str:
    return next(iter(_lines(path)), "")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
