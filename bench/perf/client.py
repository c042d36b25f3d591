"""The client: ``ab`` for the figures, a plain HTTP connection for the timings that an answer reports."""

from __future__ import annotations

import csv
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from bench.parity.load import parse
from bench.perf.records import Cell

PATIENCE_SECONDS = 120
"""What an answer may take."""
LIMIT_SECONDS = 900
MOST = 200_000
"""``ab`` would stop after 50,000 however much time is left."""
CROWD = 100
"""From so many connections on requests are counted, not seconds: those under way when the time is over would not be
counted, so that nobody could say that none was lost."""


@dataclass(frozen=True)
class Body:
    """The body of a request.

    :param path: of a file with it.
    """

    path: Path
    content_type: str = "image/jpeg"


def multipart(picture: Path, path: Path) -> Body:
    """Write a form with a picture as its field ``file``."""
    with picture.open("rb") as stream:
        boundary, content = encode_multipart({"file": FileStorage(stream, picture.name, content_type="image/jpeg")})
    path.write_bytes(content)
    return Body(path, f"multipart/form-data; boundary={boundary}")


def percentiles(lines: Iterable[str]) -> dict[int, float]:
    """Read what ``ab -e`` wrote: percentage served -> milliseconds, to the microsecond. Its report has whole ones."""
    found = {int(percent): float(milliseconds) for percent, milliseconds in list(csv.reader(lines))[1:]}
    # of fewer than 50 requests ab reads the 99th percentile behind the last one, among zeros
    before = 0.0
    for percent in sorted(found):
        before = found[percent] = found[percent] if found[percent] >= before else found[100]
    return found


def amount(connections: int, seconds: float, per_second: float) -> list[str]:
    """Return the options of ``ab`` for an amount: seconds, or for many connections about as many requests as take so
    long.

    :param per_second: what fewer connections were answered.
    """
    if connections < CROWD:
        return ["-t", str(max(1, round(seconds))), "-n", str(MOST)]
    return ["-n", str(min(MOST, max(2 * connections, round(per_second * seconds))))]


def measure(
    ab: str, url: str, body: Body, connections: int, seconds: float, per_second: float = 0.0
) -> tuple[float, dict[int, float], int, int, int]:
    """Put a server under load.

    :returns: requests answered a second, percentiles, and how many were complete, lost and refused.
    """
    amount_options = amount(connections, seconds, per_second)
    with tempfile.TemporaryDirectory(prefix="ab-") as folder:
        served = Path(folder) / "served.csv"
        command = [ab, "-k", "-l", "-r", "-q", *amount_options, "-c", str(connections), "-s", str(PATIENCE_SECONDS)]
        command += ["-e", str(served), "-T", body.content_type, "-p", str(body.path), url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
        found = percentiles(served.read_text().splitlines()) if served.exists() else {}
    load = parse(done.stdout + done.stderr)
    lost = load.failed
    if load.broke_off:
        lost += max(1, int(amount_options[1]) - load.complete) if amount_options[0] == "-n" else connections
    return load.per_second, found, load.complete, lost, load.refused


def cell(
    ab: str, key: tuple[int, str, str, int], url: str, body: Body, seconds: float, per_second: float = 0.0
) -> Cell:
    """Measure one cell of the table.

    :param key: round, server, model and connections.
    """
    rate, served, complete, lost, refused = measure(ab, url, body, key[3], seconds, per_second)
    answered = rate * (complete - refused) / complete if complete else 0.0
    return Cell(*key, answered, served.get(50, 0.0), served.get(99, 0.0), complete, lost, refused)
