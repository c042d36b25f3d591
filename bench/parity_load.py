"""Dimple and a real Multi Model Server under the same load: ``make parity-load``.

100 clients at a time must all be answered, each on one connection; 200 are answered or refused as ``job_queue_size``
says. The exit status is 1 if Dimple fails a request, or refuses one that its queue should take.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.utils.progress import echo  # noqa: E402
from bench.parity.load import Load, run_ab  # noqa: E402
from bench.parity.machine import JAVA, Missing, mms_python, need  # noqa: E402
from bench.parity.peer import NotReady, Peer  # noqa: E402
from bench.parity.servers import dimple, mms  # noqa: E402
from bench.parity.setups import Setup  # noqa: E402
from bench.parity.store import make_store, pictures  # noqa: E402
from bench.parity.tables import columns  # noqa: E402

AB = "Install it: apt-get install apache2-utils"
MODELS = {"tiny32": "theirs-tiny32.mar", "tiny_legacy": "tiny_legacy.model"}
"""One that brings its own code, and one that Dimple computes in the server itself."""
QUEUES = {100: (100, 200), 1000: (200,)}
"""``job_queue_size`` -> how many clients at a time."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench-dir", type=Path, default=ROOT / "instance" / "bench", help="for MMS and the report")
    parser.add_argument("--dimple", type=Path, default=ROOT, help="the checkout of Dimple that is compared")
    parser.add_argument("--requests", type=int, default=10_000, help="requests of each run")
    parser.add_argument("--workers", type=int, default=2, help="server processes of Dimple, and workers of MMS")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    try:
        need("java", JAVA)
        ab = need("ab", AB)
        python = mms_python(given.bench_dir.resolve() / "mms-venv")
        found = measure(given, python, ab)
    except (Missing, NotReady) as error:
        echo(str(error))
        return 2
    report = given.bench_dir / "parity-load.json"
    report.write_text(json.dumps([{**key, **asdict(load)} for key, load in found], indent=1))
    print(columns(_rows(found)))
    echo(f"the report: {report}")
    wrong = [reason for key, load in found for reason in mistakes(key, load)]
    for reason in wrong:
        echo(reason)
    return 1 if wrong else 0


def measure(given: argparse.Namespace, python: Path, ab: str) -> list[tuple[dict[str, str | int], Load]]:
    """Run every load against each server, one server at a time, as they would compete for the cores."""
    found = []
    folder = Path(tempfile.mkdtemp(prefix="parity-"))
    try:
        archives = folder / "archives" / "store"
        archives.parent.mkdir()
        make_store(archives, python, given.dimple, None)
        picture = folder / "picture.jpg"
        picture.write_bytes(pictures(given.dimple, None)["portrait.grey.jpg"])
        for size, crowds in QUEUES.items():
            setup = Setup("load", (), {"job_queue_size": str(size)})
            for kind in ("mms", "dimple"):
                home = folder / f"{kind[0]}{size}"
                home.mkdir()
                shutil.copytree(archives, home / "store")
                peer = mms(python, home, setup) if kind == "mms" else dimple(given.dimple, home, setup, given.workers)
                found += _under_load(peer, given, ab, picture, size, crowds)
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _under_load(
    peer: Peer, given: argparse.Namespace, ab: str, picture: Path, size: int, crowds: tuple[int, ...]
) -> list[tuple[dict[str, str | int], Load]]:
    found = []
    try:
        peer.start()
        for name, url in MODELS.items():
            # Dimple has one worker in each server process
            workers = given.workers if peer.kind == "mms" else 1
            peer.ask("POST", f"/models?url={url}&initial_workers={workers}", management=True)
            for clients in crowds:
                echo(f"{peer.kind}: {name}, job_queue_size {size}, {clients} clients")
                load = run_ab(ab, f"http://127.0.0.1:{peer.port}/predictions/{name}", picture, given.requests, clients)
                key: dict[str, str | int] = {"server": peer.kind, "model": name, "queue": size, "clients": clients}
                found.append((key, load))
            peer.ask("DELETE", f"/models/{name}", management=True)
    finally:
        peer.stop()
    return found


def mistakes(key: dict[str, str | int], load: Load) -> list[str]:
    """Return what Dimple did wrong: fail, refuse a request that fits into the queue, or close a connection that it
    answers.
    """
    if key["server"] != "dimple":
        return []
    where = f"Dimple, {key['model']}, job_queue_size {key['queue']}, {key['clients']} clients"
    wrong = [f"{where}: {load.failed} requests failed"] if load.failed else []
    if load.broke_off:
        return [f"{where}: broke off after {load.complete} requests: {load.broke_off}"]
    if int(key["clients"]) <= int(key["queue"]):
        if load.refused:
            wrong.append(f"{where}: {load.refused} of {load.complete} were refused, though all fit into the queue")
        if load.kept_alive < load.complete:
            wrong.append(f"{where}: {load.complete - load.kept_alive} were answered on a connection that was closed")
    return wrong


def _rows(found: list[tuple[dict[str, str | int], Load]]) -> list[list[str]]:
    head = [
        "server",
        "model",
        "queue",
        "clients",
        "200",
        "refused",
        "failed",
        "kept alive",
        "per second",
        "p50 ms",
        "p99 ms",
        "",
    ]
    rows = [
        [*map(str, key.values()), f"{load.answered:,}", f"{load.refused:,}", f"{load.failed:,}", f"{load.kept_alive:,}",
         f"{load.per_second:,.0f}", f"{load.p50:,}", f"{load.p99:,}", load.broke_off]
        for key, load in sorted(found, key=lambda item: (item[0]["model"], item[0]["queue"], item[0]["clients"]))
    ]  # fmt: skip
    return [head, *rows]


if __name__ == "__main__":
    sys.exit(main())
