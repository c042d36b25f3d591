"""Processor, memory and disk use of the machine.

As in Multi Model Server, every function of this module but :func:`collect_all` takes one metric and has no parameters:
programs call whatever functions they find here.
"""

from __future__ import annotations

import logging
from types import FunctionType, ModuleType

import psutil

from mms.metrics.dimension import Dimension
from mms.metrics.metric import Metric

MEGABYTE, GIGABYTE = 2**20, 2**30

system_metrics: list[Metric] = []
dimension = [Dimension("Level", "Host")]


def cpu_utilization() -> None:
    """Take the busy share of the processors since the last call, in percent; 0 at the first call."""
    system_metrics.append(Metric("CPUUtilization", psutil.cpu_percent(), "percent", dimension))


def memory_used() -> None:
    """Take the memory in use, in megabytes."""
    system_metrics.append(Metric("MemoryUsed", psutil.virtual_memory().used / MEGABYTE, "MB", dimension))


def memory_available() -> None:
    """Take the memory that programs can still have, in megabytes."""
    system_metrics.append(Metric("MemoryAvailable", psutil.virtual_memory().available / MEGABYTE, "MB", dimension))


def memory_utilization() -> None:
    """Take the share of memory in use, in percent."""
    system_metrics.append(Metric("MemoryUtilization", psutil.virtual_memory().percent, "percent", dimension))


def disk_used() -> None:
    """Take the used part of the root's disk, in gigabytes."""
    system_metrics.append(Metric("DiskUsage", psutil.disk_usage("/").used / GIGABYTE, "GB", dimension))


def disk_available() -> None:
    """Take the free part of the root's disk, in gigabytes."""
    system_metrics.append(Metric("DiskAvailable", psutil.disk_usage("/").free / GIGABYTE, "GB", dimension))


def disk_utilization() -> None:
    """Take the used share of the root's disk, in percent."""
    system_metrics.append(Metric("DiskUtilization", psutil.disk_usage("/").percent, "percent", dimension))


def collect_all(mod: ModuleType) -> None:
    """Take every metric of a module once, in the order of their names, and log all that were taken.

    :param mod: this module, or one like it.
    """
    for name, take in sorted(vars(mod).items()):
        if isinstance(take, FunctionType) and name != "collect_all":
            take()
    for metric in system_metrics:
        logging.info(str(metric))
    logging.info("")
