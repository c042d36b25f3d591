"""The memory of the server's processes, and of those that run models' own code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from app.handlers.process import PROGRAM
from app.serving.metric_files import processes


@dataclass(frozen=True)
class Memory:
    """Of one process.

    :param kind: ``server``, or ``handler`` where it runs the code of ``model``.
    :param resident: bytes in memory, those included that it shares with others.
    :param proportional: bytes, of shared ones its part; the sum over processes is what they take together. None where
        the system does not tell.
    """

    pid: int
    kind: str
    model: str
    resident: int
    proportional: int | None


def memory() -> list[Memory]:
    """That of every process of this server. It takes the system about a millisecond a process."""
    servers = set(processes())
    top = psutil.Process(os.getpid() if os.getpid() in servers and len(servers) == 1 else os.getppid())
    return list(_read({top.pid: top} | {one.pid: one for one in top.children(recursive=True)}, servers))


def _read(found: dict[int, psutil.Process], servers: set[int]) -> Iterator[Memory]:
    for pid, process in found.items():
        try:
            with process.oneshot():
                kind, model = ("server", "") if pid in servers else _handled(process)
                if kind:
                    full = process.memory_full_info()
                    yield Memory(pid, kind, model, full.rss, getattr(full, "pss", None))
        except psutil.Error:
            continue  # it has just ended


def _handled(process: psutil.Process) -> tuple[str, str]:
    """Which model's code a process runs; nothing where it is another's child."""
    command = process.cmdline()
    program = str(PROGRAM)
    if program not in command:
        return "", ""
    return "handler", command[-1]
