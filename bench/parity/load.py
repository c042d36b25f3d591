"""``ab``, as the load test of MMS's tutorial runs it, and its counts."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

LIMIT_SECONDS = 900
PATIENCE_SECONDS = 30
"""What an answer may take."""
COUNTS = {
    "complete": r"Complete requests:\s+(\d+)",
    "failed": r"Failed requests:\s+(\d+)",
    "refused": r"Non-2xx responses:\s+(\d+)",
    "kept_alive": r"Keep-Alive requests:\s+(\d+)",
    "per_second": r"Requests per second:\s+([\d.]+)",
    "p50": r"\n\s+50%\s+(\d+)",
    "p99": r"\n\s+99%\s+(\d+)",
}


@dataclass(frozen=True)
class Load:
    """The counts of ``ab``. A refused request is complete, too; its status was not 200. ``p50`` and ``p99`` are ms.

    :param broke_off: why ``ab`` gave up, if it did; it counts nothing but the complete ones then.
    """

    complete: int
    failed: int
    refused: int
    kept_alive: int
    per_second: float
    p50: int
    p99: int
    broke_off: str = ""

    @property
    def answered(self) -> int:
        return self.complete - self.refused


def parse(text: str) -> Load:
    """Read the report of ``ab``. A count that it does not mention, such as refused requests, is zero."""
    if "Complete requests" not in text:
        complete = re.search(r"Total of (\d+) requests completed", text)
        words = [line for line in text.splitlines() if line.startswith(("apr_", "ab:"))]
        reason = words[-1] if words else "ab said nothing"
        return Load(int(complete[1]) if complete else 0, 0, 0, 0, 0.0, 0, 0, reason)
    found = {name: re.search(pattern, text) for name, pattern in COUNTS.items()}
    figures = {name: float(match[1]) if match else 0.0 for name, match in found.items()}
    per_second = figures.pop("per_second")
    return Load(**{name: int(figure) for name, figure in figures.items()}, per_second=per_second)


def run_ab(ab: str, url: str, picture: Path, requests: int, clients: int) -> Load:
    """Send the same picture to a prediction route, with persistent connections. A reset connection counts as failed."""
    command = [ab, "-k", "-l", "-n", str(requests), "-c", str(clients), "-s", str(PATIENCE_SECONDS), "-q", "-r"]
    command += ["-T", "image/jpeg", "-p", str(picture), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    return parse(done.stdout + done.stderr)
