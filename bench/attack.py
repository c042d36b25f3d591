"""Hostile requests to a real server, and the cost of each: ``make attack``.

The result goes to ``docs/reliability.md``. The exit status is 1 if a request cost more than its bound, or was answered
with a status that blames the server.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.utils.progress import echo  # noqa: E402
from bench.perf.document import table, write_between  # noqa: E402
from bench.perf.host import describe  # noqa: E402
from bench.reliability.attacks import ALL, MIB, Cost, cost  # noqa: E402
from bench.reliability.served import make, running  # noqa: E402

CACHE = ROOT / "instance" / "cache"
MARKERS = ("<!-- attack: start; written by make attack -->", "<!-- attack: end -->")
HEAD = ("request", "MiB sent", "status", "s", "s per MiB", "at most", "MiB taken", "MiB per MiB", "at most", "holds")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="attacks whose name has this text; the document is not written then")
    parser.add_argument("--mib", type=int, default=30, help="length of a request")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of reliability.md")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    try:
        costs = list(measured(folder, given.only, given.mib))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not given.only:
        write_between(given.docs / "reliability.md", MARKERS, text(costs))
    return 0 if all(cost.holds for cost in costs) else 1


def measured(folder: Path, only: str, mib: int) -> Iterator[Cost]:
    """Send every request to one server of one process."""
    served = make(folder, CACHE, ("smile", "dogcat"), workers=1, default_model="smile", gzip_requests="true")
    with running(served):
        for name in ("smile", "dogcat"):
            served.ask("POST", f"/predict/{name}", (ROOT / "static" / "astronaut.jpg").read_bytes())
        for attack in ALL:
            if only in attack.name:
                found = cost(served, attack, mib * MIB)
                echo(f"{'ok' if found.holds else 'NOT OK'}: {' | '.join(cells(found))}")
                yield found


def cells(one: Cost) -> Sequence[str]:
    """Return a row of the table."""
    attack = one.attack
    return (
        attack.name, f"{one.sent:.1f}", str(one.status), f"{one.seconds:.2f}", f"{one.seconds_per_mib:.3f}",
        f"{attack.seconds:g}", f"{one.memory:.0f}", f"{one.memory_per_mib:.1f}",
        f"{attack.times:g} + {attack.free:.0f} MiB",
        "yes" if one.holds else "**no**",
    )  # fmt: skip


def text(costs: Sequence[Cost]) -> str:
    """Return the tables."""
    machine = {name: value for name, value in describe().items() if name not in ("Multi Model Server", "client")}
    facts = "".join(f"| {name} | {value} |\n" for name, value in machine.items())
    rows = table(HEAD, [cells(cost) for cost in costs])
    return f"\n| | |\n|---|---|\n{facts}| date | {date.today().isoformat()} |\n\n{rows}\n"


if __name__ == "__main__":
    sys.exit(main())
