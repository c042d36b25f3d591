"""``make fuzz``: damaged files for every reader, each in a process of its own.

    python -m fuzz.run [--cases N] [--only NAME …] [--jobs N] [--seed S]     N cases, divided among the targets
    python -m fuzz.run --replay FILE                                         a saved case again, in this process

Findings are saved under ``instance/fuzz/``; the exit status is 1 if there are any.
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
from fuzz.child import COUNT_FILE, FuzzJob
from fuzz.findings import list_findings, save_finding
from fuzz.oracle import Fault, judge
from fuzz.targets import NAMES, SHARES, load
from fuzz.watch import Watch

DEFAULT_CASES = 1_240_000
STALL_SECONDS = 60.0
"""The time without a new case after which a child counts as hanging."""
MAX_FAILURES = 30
"""Children of a target that may crash or hang before the rest of its cases is abandoned."""
DEFAULT_FINDINGS = ROOT / "instance" / "fuzz"
WORK_ROOT = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""The folder of the cases, in memory if possible; None is the system's temporary folder."""


@dataclass
class Campaign:
    """The cases of one target, and the child that reads them at present.

    :param past_cases: cases that earlier children began.
    :param failures: children that crashed or hung.
    :param progress: the latest count of the child, and the time of its last change.
    """

    name: str
    cases: int
    seed: int
    findings: Path
    folder: Path = Path()
    process: subprocess.Popen[bytes] | None = None
    past_cases: int = 0
    failures: int = 0
    start_time: float = field(default_factory=time.monotonic)
    progress: tuple[int, float] = (0, 0.0)

    def start(self) -> None:
        """Start a child for the remaining cases."""
        self.folder = Path(tempfile.mkdtemp(prefix="dimple-fuzz-", dir=WORK_ROOT))
        remaining, seed = self.cases - self.past_cases, self.seed + self.failures
        job = FuzzJob(self.name, remaining, seed, str(self.folder), str(self.findings))
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.child", json.dumps(dataclasses.asdict(job))],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        self.progress = (0, time.monotonic())

    def poll(self) -> bool:
        """Check the child, replace it if it crashed or hangs, and return whether the campaign is over."""
        assert self.process is not None
        count = self._child_cases()
        if count != self.progress[0]:
            self.progress = (count, time.monotonic())
        if time.monotonic() - self.progress[1] > STALL_SECONDS:
            self.process.kill()
            self.process.wait()
            return self._handle_failure("hangs", f"no new case for {STALL_SECONDS:.0f} s")
        status = self.process.poll()
        if status is None:
            return False
        if status:
            cause = signal.Signals(-status).name if status < 0 else f"status-{status}"
            log = (self.folder / "log").read_text(errors="replace")
            return self._handle_failure(f"dies-{cause}", f"the process ended with {cause}\n{log[-4_000:]}")
        self._close_child()
        return True

    def stop(self) -> None:
        """Kill the child if it runs, and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def status_line(self) -> str:
        """Return the numbers of cases and findings so far, for the terminal."""
        count = self.past_cases + self._child_cases()
        rate = count / max(0.1, time.monotonic() - self.start_time)
        findings = len(list_findings(self.findings, self.name))
        return f"{self.name} {count:,}/{self.cases:,} ({rate:,.0f}/s), findings: {findings}"

    def _child_cases(self) -> int:
        try:
            return int(struct.unpack("<Q", (self.folder / COUNT_FILE).read_bytes())[0])
        except (OSError, struct.error):
            return 0

    def _handle_failure(self, kind: str, text: str) -> bool:
        """Save the case at which the child failed, continue after it, and return whether the campaign is over."""
        target = load(self.name)
        case = self.folder / f"case{target.suffix}"
        save_finding(self.findings, target, Fault(kind, text), case.read_bytes() if case.exists() else b"")
        self._close_child()
        self.failures += 1
        if self.past_cases >= self.cases or self.failures >= MAX_FAILURES:
            return True
        self.start()
        return False

    def _close_child(self) -> None:
        self.past_cases += self._child_cases()
        shutil.rmtree(self.folder, ignore_errors=True)


def run(campaigns: list[Campaign], max_children: int) -> None:
    """Run the campaigns, at most ``max_children`` at a time, and print their progress."""
    queue: list[Campaign] = list(reversed(campaigns))
    active: list[Campaign] = []
    last_report = time.monotonic()
    try:
        while queue or active:
            while queue and len(active) < max_children:
                campaign = queue.pop()
                campaign.start_time = time.monotonic()
                campaign.start()
                active.append(campaign)
            time.sleep(0.2)
            if time.monotonic() - last_report > 10:
                last_report = time.monotonic()
                print(" · ".join(campaign.status_line() for campaign in active), flush=True)
            for campaign in [campaign for campaign in active if campaign.poll()]:
                active.remove(campaign)
                print("done: " + campaign.status_line(), flush=True)
    finally:
        for campaign in active:
            campaign.stop()


def replay(path: Path) -> int:
    """Read a saved case again, print the fault if there is one, and return the exit status."""
    name = path.resolve().parent.name
    if name not in NAMES:
        sys.exit(f"{path} is not in the folder of a target ({', '.join(NAMES)})")
    target = load(name)
    with tempfile.TemporaryDirectory(prefix="dimple-fuzz-") as folder:
        case = Path(folder) / f"case{target.suffix}"
        shutil.copy(path, case)
        os.chdir(folder)
        fault = judge(target, case, Watch(Path(folder)))
    print(f"{fault.kind}\n{fault.text}" if fault else "It is read or refused as it should be.")
    return 1 if fault else 0


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description="Read damaged files.")
    parser.add_argument("--cases", type=int, default=DEFAULT_CASES, help="cases of all targets together (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time (%(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 2**31, help="random seed (the time by default)")
    parser.add_argument("--findings", type=Path, default=DEFAULT_FINDINGS, help="folder of the findings (%(default)s)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="read one saved case again")
    return parser.parse_args()


def main() -> int:
    """Run the command, and return the exit status."""
    options = parse_arguments()
    if options.replay:
        return replay(options.replay)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that run() stops the children
    print(f"seed {options.seed}", flush=True)
    for name in options.only:
        shutil.rmtree(options.findings / name, ignore_errors=True)
    total_share = sum(SHARES[name] for name in options.only)
    campaigns = [
        Campaign(name, -(-options.cases * SHARES[name] // total_share), options.seed, options.findings.resolve())
        for name in options.only
    ]
    start = time.monotonic()
    run(campaigns, options.jobs)
    seconds = time.monotonic() - start
    cases = sum(campaign.past_cases for campaign in campaigns)
    findings = [path for campaign in campaigns for path in list_findings(campaign.findings, campaign.name)]
    print(f"{cases:,} cases in {seconds / 60:.1f} min ({cases / seconds:,.0f}/s), {len(findings)} findings", flush=True)
    for path in findings:
        print(f"  {path}")
    if findings:
        print(f"python -m fuzz.run --replay {findings[0]}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
