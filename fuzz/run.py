"""``make fuzz``: every reader against damaged files, in processes of their own.

    python -m fuzz.run [--cases N] [--only NAME …] [--jobs N] [--seed S]     N cases between all targets
    python -m fuzz.run --replay FILE                                         one kept case again, in this process

What was found is under ``instance/fuzz/``. Ends with 1 where something was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from app.settings import ROOT
from fuzz.child import COUNT, Order
from fuzz.findings import found, keep
from fuzz.oracle import Fault, judge
from fuzz.targets import NAMES, SHARES, load
from fuzz.watch import Watch

CASES = 1_240_000
STALL = 60.0
"""Seconds without a new case after which a child is taken to hang."""
DEATHS = 30
"""Children of one target that may die before its rest is given up."""
FINDINGS = ROOT / "instance" / "fuzz"
WORK = next((place for place in ("/dev/shm",) if os.access(place, os.W_OK)), None)
"""Where cases are written, in memory if possible; None for the system's temporary folder."""


@dataclass
class Job:
    """One target's cases, and the child that reads them now."""

    name: str
    cases: int
    seed: int
    findings: Path
    folder: Path = Path()
    process: subprocess.Popen[bytes] | None = None
    done: int = 0
    deaths: int = 0
    began: float = field(default_factory=time.monotonic)
    seen: tuple[int, float] = (0, 0.0)

    @property
    def now(self) -> int:
        """Cases begun so far."""
        return self.done + self._current()

    def start(self) -> None:
        """Start a child for what is left."""
        self.folder = Path(tempfile.mkdtemp(prefix="dimple-fuzz-", dir=WORK))
        order = Order(self.name, self.cases - self.done, self.seed + self.deaths, str(self.folder), str(self.findings))
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.child", json.dumps(dataclasses.asdict(order))],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        self.seen = (0, time.monotonic())

    def look(self) -> bool:
        """See how the child is doing. Says whether the job is over."""
        assert self.process is not None
        if self._current() != self.seen[0]:
            self.seen = (self._current(), time.monotonic())
        if time.monotonic() - self.seen[1] > STALL:
            self.process.kill()
            self.process.wait()
            return self._died("hangs", f"no new case for {STALL:.0f} s")
        status = self.process.poll()
        if status is None:
            return False
        if status:
            what = signal.Signals(-status).name if status < 0 else f"status-{status}"
            log = (self.folder / "log").read_text(errors="replace")
            return self._died(f"dies-{what}", f"the process ended with {what}\n{log[-4_000:]}")
        self._end()
        return True

    def stop(self) -> None:
        """End the child, where one runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _current(self) -> int:
        try:
            return int(struct.unpack("<Q", (self.folder / COUNT).read_bytes())[0])
        except (OSError, struct.error):
            return 0

    def _died(self, kind: str, text: str) -> bool:
        """Keep the case on which the child ended, and go on behind it."""
        target = load(self.name)
        case = self.folder / f"case{target.suffix}"
        keep(self.findings, target, Fault(kind, text), case.read_bytes() if case.exists() else b"")
        self._end()
        self.deaths += 1
        if self.done >= self.cases or self.deaths >= DEATHS:
            return True
        self.start()
        return False

    def _end(self) -> None:
        self.done += self._current()
        shutil.rmtree(self.folder, ignore_errors=True)


def run(jobs: list[Job], at_once: int) -> None:
    """Let the jobs be done, some at once, and say how they are doing."""
    waiting, running = list(reversed(jobs)), []
    told = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop()
                job.began = time.monotonic()
                job.start()
                running.append(job)
            time.sleep(0.2)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                print(" · ".join(_line(job) for job in running), flush=True)
            for job in [one for one in running if one.look()]:
                running.remove(job)
                print("done: " + _line(job), flush=True)
    finally:
        for job in running:
            job.stop()


def _line(job: Job) -> str:
    rate = job.now / max(0.1, time.monotonic() - job.began)
    return f"{job.name} {job.now:,}/{job.cases:,} ({rate:,.0f}/s), findings: {len(found(job.findings, job.name))}"


def replay(path: Path) -> int:
    """Read a kept case again, and show what comes of it."""
    name = path.resolve().parent.name
    if name not in NAMES:
        sys.exit(f"{path} lies in no folder of a target; there are {', '.join(NAMES)}")
    target = load(name)
    with tempfile.TemporaryDirectory(prefix="dimple-fuzz-") as folder:
        case = Path(folder) / f"case{target.suffix}"
        shutil.copy(path, case)
        os.chdir(folder)
        fault = judge(target, case, Watch(Path(folder)))
    print(f"{fault.kind}\n{fault.text}" if fault else "It is read or refused as it should be.")
    return 1 if fault else 0


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description="Read damaged files.")
    parser.add_argument("--cases", type=int, default=CASES, help="cases between all targets (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once (%(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 2**31, help="of the chance; the time by default")
    parser.add_argument("--findings", type=Path, default=FINDINGS, help="folder of what is found (%(default)s)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="read one kept case again")
    options = parser.parse_args()
    if options.replay:
        return replay(options.replay)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children go, too
    whole = sum(SHARES[name] for name in options.only)
    print(f"seed {options.seed}", flush=True)
    for name in options.only:
        shutil.rmtree(options.findings / name, ignore_errors=True)
    jobs = [
        Job(name, -(-options.cases * SHARES[name] // whole), options.seed, options.findings.resolve())
        for name in options.only
    ]
    began = time.monotonic()
    run(jobs, options.jobs)
    read = sum(job.done for job in jobs)
    kept = [path for job in jobs for path in found(job.findings, job.name)]
    took = time.monotonic() - began
    print(f"{read:,} cases in {took / 60:.1f} min ({read / took:,.0f}/s), {len(kept)} findings", flush=True)
    for path in kept:
        print(f"  {path}")
    if kept:
        print(f"python -m fuzz.run --replay {kept[0]}")
    return 1 if kept else 0


if __name__ == "__main__":
    sys.exit(main())
