"""A head, two nodes and two servers on one machine, under steady load, with the loss of each part.

No request may be lost: each is answered as without a cluster, or refused with 503 and ``Retry-After``. The exit status
is 1 if something of that does not hold. The tables go to ``docs/scaling.md``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.settings import Settings, with_absolute_paths  # noqa: E402
from app.utils.progress import echo  # noqa: E402
from bench.cluster.acts import ACTS, Scene, grow  # noqa: E402
from bench.cluster.capacity import report as capacity  # noqa: E402
from bench.cluster.hop import Hop, measure_hop  # noqa: E402
from bench.cluster.load import Ask, Load, Tally  # noqa: E402
from bench.cluster.models import NAMES, NEW, ROLLED, Answers, answers, make, pictures  # noqa: E402
from bench.cluster.rig import Failed, Rig, rig, wait_for  # noqa: E402
from bench.perf.document import number, table, write_between  # noqa: E402

MARKS = ("<!-- cluster: start; written by make cluster-test -->", "<!-- cluster: end -->")
CAPACITY = ("<!-- capacity: start; written by make cluster-test -->", "<!-- capacity: end -->")
MOST_SECONDS, MOST_MEBIBYTES = 600, 8192
CLIENTS = 4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-second", type=float, default=12.0, help="requests of all clients; default %(default)s")
    parser.add_argument("--only", help="only the acts whose names have this in them, and no document is written")
    parser.add_argument("--nodes", default="", help="besides, let so many nodes compute: 2,4,8; 0.4 GB each")
    parser.add_argument("--no-hop", action="store_true", help="do not measure what the hop costs")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of scaling.md")
    parser.add_argument("--keep-logs", type=Path, help="copy the logs of fronts and nodes to this folder")
    return parser.parse_args()


def main() -> int:
    given, began = arguments(), time.monotonic()
    if find_spec("ray") is None:
        echo("This needs Ray: python -m pip install -r requirements-ray.txt")
        return 2
    work = Path(tempfile.mkdtemp(prefix="cluster-"))
    try:
        found = run(given, work, began)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - began
    problems = [f"{name}: {tally.lost} lost: {dict(tally.reasons)}" for name, _, tally in found.acts if tally.lost]
    problems += [f"it took {seconds:.0f} s"] if seconds > MOST_SECONDS and not given.nodes else []
    problems += [f"it took {found.peak:,.0f} MiB"] if found.peak > MOST_MEBIBYTES else []
    if not given.only:
        write_between(given.docs / "scaling.md", MARKS, report(found, seconds))
        if found.hops:
            performance = (given.docs / "performance.md").read_text(encoding="utf-8")
            write_between(given.docs / "scaling.md", CAPACITY, "\n" + capacity(performance, hop_of(found)))
    for problem in problems + found.failures:
        echo(f"NOT OK: {problem}")
    echo(f"{seconds:.0f} s, at most {found.peak:,.0f} MiB")
    return 1 if problems + found.failures else 0


class Found:
    """The results."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str, Tally]] = []
        self.hops: list[Hop] = []
        self.counts: list[tuple[object, ...]] = []
        self.failures: list[str] = []
        self.peak = 0.0


def run(given: argparse.Namespace, work: Path, began: float) -> Found:
    """Start everything, run all acts, and remove everything."""
    found, cache = Found(), work / "cache"
    here = with_absolute_paths(Settings()).cache
    if here.is_dir():
        shutil.copytree(here, cache, dirs_exist_ok=True)
    echo("making the models")
    make(work, cache)
    with rig(work / "models", cache) as made:
        right, rolled, local = alone(made, work, not given.no_hop)
        echo("starting the nodes")
        made.start_nodes()
        echo("starting the fronts")
        made.start_fronts(len(NAMES))
        if not given.no_hop:
            echo("measuring the hop")
            found.hops = [hop.with_cluster(measure_hop(made.fronts[0], hop.model, made.processes())) for hop in local]
            for hop in found.hops:
                echo("  " + ", ".join(map(": ".join, zip(Hop.HEAD, hop.row(), strict=True))))
        requests = pictures()
        asks = [Ask(name, requests[name], _versions(name, right, rolled)) for name in NAMES]
        load = Load([front.port for front in made.fronts], asks, given.per_second, CLIENTS)
        load.start()
        try:
            scene = Scene(made, load, right, work / "others")
            play(scene, found, given.only, began)
            for count in [int(part) for part in given.nodes.split(",") if part]:
                found.counts.append(grow(scene, count))
                echo(f"nodes, replicas, …: {found.counts[-1]}")
        finally:
            load.stop()
            if given.keep_logs:
                keep_logs(made, given.keep_logs)
        found.peak = made.peak
    return found


def alone(made: Rig, work: Path, hop: bool) -> tuple[Answers, dict[str, float], list[Hop]]:
    """Return what a server without a cluster answers, including the new network, and how fast."""
    echo("asking a server without a cluster")
    front = made.fronts[0]
    shutil.copytree(work / "others" / NEW, front.folder / "models" / NEW)
    front.start()
    try:
        wait_for("the server without a cluster is ready", lambda: front.ready(len(NAMES) + 1), 180)
        requests = pictures()
        right = answers(front.url(""), requests)
        rolled = answers(front.url(""), {NEW: requests[ROLLED]})[NEW]
        local = [measure_hop(front, name, made.processes()) for name in NAMES] if hop else []
    finally:
        front.stop()
        shutil.rmtree(front.folder / "models" / NEW)
    return right, rolled, [Hop(item.model, item.local, None) for item in local]


def play(scene: Scene, found: Found, only: str | None, began: float) -> None:
    """Run one act after another."""
    for name, act in ACTS:
        if only and only not in name:
            continue
        scene.load.phase = name
        started = time.monotonic()
        try:
            seen = act(scene)
        except Failed as error:
            seen = f"FAILED: {' '.join(str(error).split())[-300:]}"
            found.failures.append(f"{name}: {error}"[:2000])
        scene.rig.measure()
        tally = scene.load.tallies.get(name, Tally())
        found.acts.append((name, seen, tally))
        echo(f"{name} ({time.monotonic() - started:.0f} s): {seen}")
        echo(f"  {tally.sent} sent, {tally.answered} answered, {tally.refused} refused, {tally.lost} lost")
        for reason, count in tally.reasons.most_common(4):
            echo(f"    {count} x {reason}")
        if time.monotonic() - began > MOST_SECONDS:
            found.failures.append("the time was over before all was done")
            break


def report(found: Found, seconds: float) -> str:
    """Return the tables for the document."""
    rows = [
        (
            name,
            f"{t.sent:,}",
            f"{t.answered:,}",
            f"{t.refused:,}",
            f"{t.lost:,}",
            number(t.worst),
            f"{t.slowest:.1f}",
            f"{t.silence:.1f}",
        )
        for name, _, t in found.acts
    ]
    total = [sum(getattr(t, what) for _, _, t in found.acts) for what in ("sent", "answered", "refused", "lost")]
    worst, slowest, silence = (
        max(getattr(t, what) for _, _, t in found.acts) for what in ("worst", "slowest", "silence")
    )
    rows.append(("together", *(f"{item:,}" for item in total), number(worst), f"{slowest:.1f}", f"{silence:.1f}"))
    head = ("", "sent", "answered", "refused", "lost", "largest difference", "slowest (s)", "longest pause (s)")
    text = (
        f"\n{len(os.sched_getaffinity(0))} cores, {seconds:.0f} s in all, at most {found.peak:,.0f} MiB (PSS) with "
        f"all nodes and both fronts, {date.today().isoformat()}.\n\n" + table(head, rows) + "\n"
    )
    text += "".join(f"- {name}: {seen}.\n" for name, seen, _ in found.acts)
    if found.hops:
        rows = [hop.row() for hop in found.hops]
        text += "\n### What the hop costs\n\n" + table(Hop.HEAD, rows)
    if found.counts:
        head = (
            "nodes",
            "replicas",
            "nodes that compute",
            "until all answer (s)",
            "sent",
            "answered",
            "refused",
            "lost",
        )
        text += "\n### With more nodes\n\n" + table(head, [tuple(str(item) for item in row) for row in found.counts])
    return text


def hop_of(found: Found) -> float:
    """Return the core time of the way: of the model whose network takes least, which blurs it least."""
    return min(found.hops, key=lambda hop: hop.local.core).core


def keep_logs(made: Rig, target: Path) -> None:
    """Copy the logs of fronts and nodes."""
    for path in [front.log for front in made.fronts] + [node.log for node in (made.head, *made.nodes)]:
        if path.exists():
            (target / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / path.parent.name)
    for path in sorted(made.folder.glob("n*/ray/session_*/logs")):
        if not path.parent.is_symlink():
            shutil.copytree(path, target / path.parts[-4] / path.parts[-2], ignore=_only_files, dirs_exist_ok=True)


def _only_files(folder: str, names: list[str]) -> list[str]:
    paths = [Path(folder) / name for name in names]
    return [path.name for path in paths if not (path.is_file() or path.is_dir())]


def _versions(name: str, right: Answers, rolled: dict[str, float]) -> tuple[dict[str, float], ...]:
    """Return the right answers before and after the roll."""
    return (right[name], rolled) if name == ROLLED else (right[name],)


if __name__ == "__main__":
    sys.exit(main())
