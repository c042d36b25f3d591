"""The process in which one reader is fuzzed: what ends it, or hangs in it, leaves its case behind.

It takes an order (see :class:`Order`) as JSON on its command line, and is started by ``fuzz.run``. Where atheris is
installed, libFuzzer chooses what to damage further by the branches that it reached; elsewhere chance does.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

from fuzz.mutations import blind

LONGEST = 64 * 2**10
"""Bytes of a case."""
MEMORY = 512 * 2**20
"""Bytes that reading one case may need beyond what the process had before the first."""
COUNT = "count"
"""File of the number of cases begun, which the parent reads."""
KEPT = 2_000
"""Files that chance alone chooses from."""


@dataclass(frozen=True)
class Order:
    """What to do: ``folder`` is the work folder, empty; ``findings`` is where faults are kept."""

    target: str
    cases: int
    seed: int
    folder: str
    findings: str


def atheris() -> ModuleType | None:
    """Give atheris, which has wheels for Linux on x86-64 alone; None where it is not."""
    try:
        import atheris
    except ImportError:
        return None
    module: ModuleType = atheris
    return module


def guided_modules(name: str) -> tuple[str, ...]:
    """Modules whose branches are counted. They must be known before the target, which imports them, is imported."""
    pictures = ("app.vision", "PIL")
    return pictures if name == "picture" else ("app.formats", "zipfile", "tarfile", "gzip")


class Cases:
    """Reads one case after the other, counts them, and keeps those that show a new fault."""

    def __init__(self, order: Order) -> None:
        from fuzz.targets import load
        from fuzz.watch import Watch

        self.target = load(order.target)
        self._findings = Path(order.findings)
        self._path = Path(order.folder) / f"case{self.target.suffix}"
        self._watch = Watch(Path(order.folder))
        self._count = os.open(Path(order.folder) / COUNT, os.O_RDWR | os.O_CREAT)
        self._done = 0
        self._most = order.cases

    def read(self, data: bytes) -> None:
        """Read one case."""
        from fuzz.findings import keep
        from fuzz.oracle import judge

        self._path.write_bytes(data)
        self._done += 1
        os.pwrite(self._count, struct.pack("<Q", self._done), 0)
        fault = judge(self.target, self._path, self._watch)
        if fault is not None:
            keep(self._findings, self.target, fault, data)
        if self._done >= self._most:
            os._exit(0)  # at its own end, atheris may wait for ever for Python's lock


def main() -> None:
    """Do what the order says."""
    order = Order(**json.loads(sys.argv[1]))
    library = atheris()
    guide = library.instrument_imports(include=list(guided_modules(order.target))) if library else nullcontext()
    with guide:
        cases = Cases(order)
    os.chdir(order.folder)
    seeds = cases.target.seeds()
    for seed in seeds:
        cases.read(seed)  # imports what is imported late
    _limit_memory()
    if library:
        _guided(library, cases, seeds, order)
    else:
        _by_chance(cases, seeds, order)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":  # which alone tells what the process has so far
        return
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))


def _guided(library: Any, cases: Cases, seeds: list[bytes], order: Order) -> None:
    corpus = Path(order.folder) / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.1:
            return bytes(library.Mutate(data, max_size))
        made = _mutated(cases, data, random)
        return made if len(made) <= max_size else data

    options = ("rss_limit_mb=0", "timeout=600", "len_control=0", "verbosity=0", f"max_len={LONGEST}")
    arguments = [f"-{option}" for option in (*options, f"seed={order.seed}", f"artifact_prefix={order.folder}/")]
    library.Setup([sys.argv[0], *arguments, str(corpus)], cases.read, custom_mutator=mutate)
    library.Fuzz()


def _mutated(cases: Cases, data: bytes, random: Random) -> bytes:
    """Damage a case; blindly where it is damaged so much already that more than that needs too much memory or depth."""
    try:
        return cases.target.mutate(data, random)
    except (RecursionError, MemoryError):
        return blind.mutate(data, random)
    except Exception:  # our own mistake, which must be seen; atheris would hang on it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(os.EX_SOFTWARE)


def _by_chance(cases: Cases, seeds: list[bytes], order: Order) -> None:
    random, kept = Random(order.seed), list(seeds)
    while True:
        data = _mutated(cases, random.choice(kept), random)[:LONGEST]
        cases.read(data)
        if random.random() < 0.02:
            kept[len(seeds) + KEPT :] = []
            kept.insert(len(seeds), data)


if __name__ == "__main__":
    main()
