"""All processes of a server, and their resources."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Held:
    """The resources of processes together: memory in MiB (see :class:`bench.perf.records.Run`), threads, open files."""

    processes: int
    pss: float
    rss: float
    threads: int
    files: int


def family(group: int, proc: Path = PROC) -> list[int]:
    """Return the processes of a process group and everything under them."""
    parents, found = {}, set()
    for stat in proc.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            _state, parent, own_group = stat.read_text().rpartition(")")[2].split()[:3]
            number = int(stat.parent.name)
            parents[number] = int(parent)
            if int(own_group) == group:
                found.add(number)
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def held(numbers: list[int], proc: Path = PROC) -> Held:
    """Add up the resources of processes; a process that ends meanwhile counts as zero."""
    pss = rss = threads = files = count = 0
    for number in numbers:
        folder = proc / str(number)
        with contextlib.suppress(OSError):
            rollup = (folder / "smaps_rollup").read_text()
            status = (folder / "status").read_text()
            files += len(list((folder / "fd").iterdir()))
            pss, rss = pss + _kilobytes("Pss", rollup), rss + _kilobytes("Rss", rollup)
            threads += _number(r"^Threads:\s+(\d+)", status)
            count += 1
    return Held(count, pss / 1024, rss / 1024, threads, files)


def _kilobytes(name: str, text: str) -> int:
    return _number(rf"^{name}:\s+(\d+) kB", text)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else 0
