"""Counts of processes that start and end; each is a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from app.settings import ROOT

CHILD = """
import os, sys, time
from pathlib import Path
from app.telemetry.multiprocess import collect, measured_start
from app.telemetry.multiprocess import counts
with measured_start(Path(sys.argv[1])):
    pass
from app.telemetry import metrics
for name in sys.argv[2:]:
    with metrics.in_flight(name):
        metrics.request(name, "/predict/<model>", 500 if name == "bad" else 200, 0.5)
stuck = metrics.in_flight("stuck")
stuck.__enter__()
found = counts()
for name in sorted(found):
    print(name, found[name].requests, found[name].errors, found[name].inside, found[name].seconds)
samples = [one for metric in collect() for one in metric.samples]
print("files", len(list(Path(sys.argv[1]).glob("*/*.db"))), "left", "PROMETHEUS_MULTIPROC_DIR" in os.environ)
for one in samples:
    if one.name in ("dimple_workers", "dimple_worker_starts_total"):
        print(one.name, one.value)
    elif one.name == "dimple_request_duration_seconds_bucket" and one.labels["model"] == "a":
        print("le", one.labels["le"], one.value)
"""


def child(folder: Path, *names: str) -> list[str]:
    """Return what a server process prints that got requests for these models."""
    command = [sys.executable, "-c", CHILD, str(folder), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_counts_of_ended_processes_are_kept_in_merged_files(tmp_path: Path) -> None:
    for _ in range(3):
        seen = child(tmp_path, "a", "a", "bad")
    assert "a 6 0 0 3.0" in seen
    assert "bad 3 3 0 1.5" in seen
    assert "stuck 0 0 1 0.0" in seen  # the running requests of the others are over
    assert "dimple_workers 1.0" in seen
    assert "dimple_worker_starts_total 3.0" in seen
    assert "files 5 left False" in seen  # a process's three, and the sums of counters and of histograms
    assert [line for line in seen if line.startswith("le")] == [
        *(f"le {bound} 0.0" for bound in (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)),
        *(f"le {bound} 6.0" for bound in (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, "+Inf")),
    ]


def test_the_counts_of_an_earlier_server_are_removed(tmp_path: Path) -> None:
    old = tmp_path / "1-1"  # the first process of the machine has not started at its first tick
    old.mkdir()
    child(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith(f"{os.getpid()}-")


def test_partial_files_of_a_killed_process_are_ignored(tmp_path: Path) -> None:
    child(tmp_path, "a")
    (folder,) = tmp_path.iterdir()
    (folder / "counter_1-1.db").touch()
    (folder / ".counter.partial").write_bytes(b"\0" * 70_000)
    assert "a 2 0 0 1.0" in child(tmp_path, "a")
