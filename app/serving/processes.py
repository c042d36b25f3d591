"""The memory of the server's processes: those that answer, one that computes, and those that run models' own code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from app.backend.supervisor import MODULE
from app.handlers.process import PROGRAM
from app.telemetry.metric_files import processes


@dataclass(frozen=True)
class Memory:
    """Of one process.

    :param kind: ``server``; ``engine`` where it computes for all of these; ``handler`` where it runs the code of
        ``model``.
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
                kind, model = _child(process)
                kind = kind or ("server" if pid in servers else "")
                if kind:
                    full = process.memory_full_info()
                    yield Memory(pid, kind, model, full.rss, getattr(full, "pss", None))
        except psutil.Error:
            continue  # it has just ended


def _child(process: psutil.Process) -> tuple[str, str]:
    """What a process is for, and which model's code it runs; nothing where it is another's child."""
    command = process.cmdline()
    if MODULE in command:
        return "engine", ""
    return ("handler", command[-1]) if str(PROGRAM) in command else ("", "")
