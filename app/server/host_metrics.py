"""Metrics of the machine, logged periodically by one of the workers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from app.server.logging import host_metric
from app.utils.files import file_lock


def report_host(lock: Path, interval: int) -> None:
    """Start a thread that logs the machine's metrics for as long as this process lives and holds the lock.

    The workers of a server share the lock: one reports, and when it ends another takes over.

    :param interval: seconds between reports.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    threading.Thread(target=_report, args=(lock, interval), name="host-metrics", daemon=True).start()


def _report(lock: Path, interval: int) -> None:
    with file_lock(lock):
        while True:
            log_host()
            time.sleep(interval)


def log_host() -> None:
    """Log processor, memory and disk usage once."""
    import psutil

    now = str(int(time.time()))
    memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
    host_metric("CPUUtilization", "Percent", psutil.cpu_percent(interval=0.1), now)
    host_metric("MemoryUsed", "Megabytes", memory.used // 2**20, now)
    host_metric("MemoryAvailable", "Megabytes", memory.available // 2**20, now)
    host_metric("MemoryUtilization", "Percent", memory.percent, now)
    host_metric("DiskUsage", "Gigabytes", round(disk.used / 2**30, 3), now)
    host_metric("DiskAvailable", "Gigabytes", round(disk.free / 2**30, 3), now)
    host_metric("DiskUtilization", "Percent", disk.percent, now)
