"""The process that fuzzes one reader. The parent, ``fuzz.run``, saves the current case if it crashes or hangs.

Its only argument is a :class:`FuzzJob` as JSON. If atheris is installed, libFuzzer selects the cases to mutate by the
branches that they reached; otherwise they are selected at random.
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

MAX_CASE_BYTES = 64 * 2**10
MEMORY_BYTES = 512 * 2**20
"""The budget for reading one case, beyond the memory of the process after the seeds."""
COUNT_FILE = "count"
"""Number of cases begun, which the parent reads."""
MAX_MUTANTS = 2_000
"""Mutated cases in the corpus of random fuzzing."""


@dataclass(frozen=True)
class FuzzJob:
    """The work of one child: ``cases`` cases of a target, in an empty work folder."""

    target: str
    cases: int
    seed: int
    folder: str
    findings: str


def import_atheris() -> ModuleType | None:
    """Return atheris if it is installed; it has wheels for Linux on x86-64 only."""
    try:
        import atheris
    except ImportError:
        return None
    module: ModuleType = atheris
    return module


def instrumented_modules(target: str) -> list[str]:
    """Return the modules whose branches are counted; the target itself must not be imported to find them."""
    return ["app.vision", "PIL"] if target == "picture" else ["app.formats", "zipfile", "tarfile", "gzip"]


class Harness:
    """A reader of cases that counts them, saves those with new faults, and ends the process after the last."""

    def __init__(self, job: FuzzJob) -> None:
        # imported here, so that atheris instruments the modules that these import
        from fuzz.targets import load
        from fuzz.watch import Watch

        self.target = load(job.target)
        self._findings = Path(job.findings)
        self._path = Path(job.folder) / f"case{self.target.suffix}"
        self._watch = Watch(Path(job.folder))
        self._count_file = os.open(Path(job.folder) / COUNT_FILE, os.O_RDWR | os.O_CREAT)
        self._count = 0
        self._max_count = job.cases

    def run(self, data: bytes) -> None:
        """Read one case."""
        from fuzz.findings import save_finding
        from fuzz.oracle import judge

        self._path.write_bytes(data)
        self._count += 1
        os.pwrite(self._count_file, struct.pack("<Q", self._count), 0)
        fault = judge(self.target, self._path, self._watch)
        if fault is not None:
            save_finding(self._findings, self.target, fault, data)
        if self._count >= self._max_count:
            os._exit(0)  # atheris may wait for Python's lock forever if it ends by itself


def main() -> None:
    """Fuzz the reader that the command line names."""
    job = FuzzJob(**json.loads(sys.argv[1]))
    atheris = import_atheris()
    with atheris.instrument_imports(include=instrumented_modules(job.target)) if atheris else nullcontext():
        harness = Harness(job)
    os.chdir(job.folder)
    seeds = harness.target.seeds()
    for seed in seeds:
        harness.run(seed)  # completes the lazy imports, which count neither as writes nor as memory of a case
    _limit_memory()
    if atheris:
        _fuzz_by_coverage(atheris, harness, seeds, job)
    else:
        _fuzz_at_random(harness, seeds, job)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":  # other systems have no /proc with the current size
        return
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, size + MEMORY_BYTES))


def _fuzz_by_coverage(atheris: Any, harness: Harness, seeds: list[bytes], job: FuzzJob) -> None:
    corpus = Path(job.folder) / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.1:
            return bytes(atheris.Mutate(data, max_size))
        mutant = _mutate(harness, data, random)
        return mutant if len(mutant) <= max_size else data

    options = ("rss_limit_mb=0", "timeout=600", "len_control=0", "verbosity=0", f"max_len={MAX_CASE_BYTES}")
    arguments = [f"-{option}" for option in (*options, f"seed={job.seed}", f"artifact_prefix={job.folder}/")]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], harness.run, custom_mutator=mutate)
    atheris.Fuzz()


def _mutate(harness: Harness, data: bytes, random: Random) -> bytes:
    """Damage a case by its format, or blindly if it is already so damaged that this takes too much memory or depth."""
    try:
        return harness.target.mutate(data, random)
    except (RecursionError, MemoryError):
        return blind.mutate(data, random)
    except Exception:  # an error of the mutation itself; atheris would hang instead of reporting it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(os.EX_SOFTWARE)


def _fuzz_at_random(harness: Harness, seeds: list[bytes], job: FuzzJob) -> None:
    random, corpus = Random(job.seed), list(seeds)
    while True:
        data = _mutate(harness, random.choice(corpus), random)[:MAX_CASE_BYTES]
        harness.run(data)
        if random.random() < 0.02:
            corpus[len(seeds) + MAX_MUTANTS :] = []
            corpus.insert(len(seeds), data)


if __name__ == "__main__":
    main()
