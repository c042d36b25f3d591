"""Faults of a real server under load, and the end of every request: ``make reliability``.

The result goes to ``docs/reliability.md``. The exit status is 1 if a request was lost, or something that must hold
does not.
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
from bench.perf.host import describe  # noqa: E402
from bench.reliability import clients, clock, disk, files, processes, registrations  # noqa: E402
from bench.reliability.document import write  # noqa: E402
from bench.reliability.fault import Failed, Fault, Row, Size, suffer  # noqa: E402
from bench.reliability.interleavings import Interleaving, write_versions  # noqa: E402
from bench.reliability.models import COLOUR, HANDLED, HEAVY  # noqa: E402
from bench.reliability.served import NotInTime, Served, make, running  # noqa: E402

CACHE = ROOT / "instance" / "cache"
MODELS = (COLOUR, HEAVY, HANDLED, "smile", "dogcat")
SHARED = (*processes.FAULTS, *clients.FAULTS, *files.FAULTS, *registrations.FAULTS)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults whose name has this text; the document is not written then")
    parser.add_argument("--clients", type=int, default=Size.clients, help="that ask meanwhile")
    parser.add_argument("--registrations", type=int, default=registrations.MANY, help="models that come and go")
    parser.add_argument("--calls", type=int, default=500, help="of each of 16 clients that change and ask a few names")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of reliability.md")
    parser.add_argument("--keep", action="store_true", help="keep the servers' folders, with their logs")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    folder = Path(tempfile.mkdtemp(prefix="reliability-"))
    size = Size(clients=given.clients)
    try:
        rows = list(measured(folder, given.only, size, given.registrations, given.calls))
    finally:
        if given.keep:
            echo(f"the servers' folders are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if not given.only:
        machine = {name: value for name, value in describe().items() if name not in ("Multi Model Server", "client")}
        write(given.docs / "reliability.md", rows, size, machine, date.today().isoformat())
    return 0 if all(row.holds for row in rows) else 1


def measured(folder: Path, only: str, size: Size, count: int, calls: int) -> Iterator[Row]:
    """Run the faults, on one server for those that need no other, and on others for the rest."""
    many = [registrations.come_and_go(count) if item is registrations.CAME_AND_WENT else item for item in SHARED]
    yield from on(make(folder / "shared", CACHE, MODELS, client_timeout=5), many, only, size)
    if reason := disk.why_not():
        echo(f"left out, a full disk: {reason}")
    else:
        yield from on(disk.on_small_disks(folder / "disks"), disk.FAULTS, only, size)
    yield from on(clock.with_own_clock(folder / "clock", CACHE), clock.FAULTS, only, size)
    if only in "random changes and predictions":
        yield from interleaved(folder / "interleaved", calls)


def interleaved(folder: Path, calls: int) -> Iterator[Row]:
    """Change and query a few names from many clients over four server processes, without kills and with them."""
    for kill in (False, True):
        name = f"random changes and predictions{', the backend and server processes killed' if kill else ''}"
        echo(name)
        served = make(folder / str(kill), CACHE, workers=4, job_queue_size=1000)
        versions = write_versions(served.models)
        with running(served):
            row = Interleaving(served, versions, seed=1 + kill, calls=calls, kill=kill).run().row(name)
        tell(row)
        yield row


def on(served: Served, faults: Sequence[Fault], only: str, size: Size) -> Iterator[Row]:
    """Run faults on a server, one after the other."""
    chosen = [fault for fault in faults if only in fault.name]
    if not chosen:
        return
    with running(served):
        for fault in chosen:
            echo(fault.name)
            try:
                row = suffer(fault, served, size)
            except (Failed, NotInTime) as error:
                row = Row(fault.name, failed=str(error).splitlines()[0])
                served.stop()
                served.start()
            tell(row)
            yield row


def tell(row: Row) -> None:
    """Print the result of a fault."""
    echo(
        f"  {'ok' if row.holds else 'NOT OK'}: {row.sent:,} sent, {row.answered:,} answered, {row.refused:,} refused, "
        f"{row.cut:,} cut off, {row.lost:,} lost; recovered after {row.recovery:.1f} s, longest {row.slowest:.2f} s"
    )
    for text in (*row.notes, *row.samples, *([row.failed] if row.failed else [])):
        echo(f"  {text}")


if __name__ == "__main__":
    sys.exit(main())
