"""Dimple under a mixed load for a long time: ``make soak``.

All networks, good and bad pictures, models that are registered and unregistered. No request may be lost, memory must
stay flat, and at rest the server must hold no more threads and files than after the warm-up. The exit status is 1
if something of that does not hold. The result goes to ``docs/performance.md``, figures to ``instance/bench/soak.json``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.training.evaluation.plots import keep_config_in, new_figure, write_png  # noqa: E402
from app.utils.files import atomic_write  # noqa: E402
from app.utils.progress import echo  # noqa: E402
from app.utils.system import cpu_count, default_worker_count  # noqa: E402
from bench.parity.machine import Missing, mms_python  # noqa: E402
from bench.parity.peer import NotReady  # noqa: E402
from bench.parity.servers import dimple  # noqa: E402
from bench.parity.setups import Setup  # noqa: E402
from bench.perf.document import SOAK, table, write_between  # noqa: E402
from bench.perf.mix import kinds  # noqa: E402
from bench.perf.soaking import Soak, checks, soak  # noqa: E402
from bench.perf.starting import start  # noqa: E402
from bench.perf.subjects import NAMES, make_subjects, pack  # noqa: E402

CLIENTS = 8
HANDLED = "noop-v1.0"
"""Of bench/parity/models: a model with code of its own, which comes with a process."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="of load, the warm-up's fifth included")
    parser.add_argument("--models", default=",".join(NAMES), help="which of them; default: all of %(default)s")
    parser.add_argument("--models-from", type=Path, help="folder that has squeezenet_v1.0, to take its real weights")
    parser.add_argument("--bench-dir", type=Path, default=ROOT / "instance" / "bench", help="for the figures")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of performance.md")
    parser.add_argument("--keep", action="store_true", help="keep the server's folder, with its log")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    keep_config_in(given.bench_dir.resolve() / "matplotlib")
    try:
        found = measure(given)
    except (Missing, NotReady) as error:
        echo(str(error))
        return 2
    _write_json(found, given.bench_dir / "soak.json")
    (given.docs / "performance").mkdir(exist_ok=True)
    draw(found, given.docs / "performance" / "soak.png")
    write_between(given.docs / "performance.md", SOAK, report(found, given.minutes))
    for sample in found.tally.samples:
        echo(f"wrong: {sample}")
    for what, measured, holds in checks(found):
        echo(f"{'ok' if holds else 'NOT OK'}: {what}: {measured}")
    return 0 if all(holds for _, _, holds in checks(found)) else 1


def measure(given: argparse.Namespace) -> Soak:
    """Start Dimple, load it, and stop it."""
    python = mms_python(given.bench_dir.resolve() / "mms-venv")  # its MXNet writes the networks
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        echo("making the networks and their archives")
        models_from = given.models_from.resolve() if given.models_from else None
        subjects = make_subjects(folder / "models", given.models.split(","), python, ROOT, models_from)
        home = folder / "d"
        home.mkdir()
        load_models = [pack(subject, home / "store", python, ROOT, "dimple") for subject in subjects]
        shutil.copytree(ROOT / "bench" / "parity" / "models" / HANDLED, home / "store" / HANDLED)
        config = {"load_models": ",".join(load_models), "default_workers_per_model": str(cpu_count())}
        peer = dimple(ROOT, home, Setup("soak", (), config), default_worker_count())
        try:
            echo("starting Dimple")
            start(peer, subjects)
            guests = [load_models[0].partition("=")[2], HANDLED]
            return soak(peer, kinds(subjects), guests, CLIENTS, given.minutes * 60)
        finally:
            peer.stop()
    finally:
        if given.keep:
            echo(f"the server's folder is {folder / 'd'}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def report(found: Soak, minutes: float) -> str:
    """Return the tables for the document."""
    rows = [(what, measured, "yes" if holds else "**no**") for what, measured, holds in checks(found)]
    ended = [(kind, str(status), f"{count:,}") for (kind, status), count in sorted(found.tally.ended.items())]
    at_rest = f"at rest {found.before.pss:,.0f} MiB (PSS) before and {found.after.pss:,.0f} MiB after"
    return (
        f"\n{minutes:g} minutes, {CLIENTS} clients, {found.registrations:,} registrations, {date.today().isoformat()}; "
        f"{at_rest}, in {found.after.processes} processes with {found.after.threads} threads.\n\n"
        + table(("", "measured", "holds"), rows)
        + "\n![memory, threads and open files](performance/soak.png)\n\n"
        + table(("request", "status", "answers"), ended)
        + "\n"
    )


def draw(found: Soak, path: Path) -> None:
    """Draw memory, threads and open files over time."""
    figure = new_figure(7, 5)
    minutes = [sample.second / 60 for sample in found.samples]
    lines: tuple[tuple[str, list[Any]], ...] = (
        ("memory, PSS (MiB)", [sample.held.pss for sample in found.samples]),
        ("threads", [sample.held.threads for sample in found.samples]),
        ("open files", [sample.held.files for sample in found.samples]),
    )
    panels = figure.subplots(3, 1, sharex=True)
    for panel, (label, values) in zip(panels, lines, strict=True):
        panel.axvspan(0, found.warm_seconds / 60, color="#eeeeee")
        panel.plot(minutes, values, color="#0072B2", linewidth=1)
        panel.set_ylabel(label)
        panel.set_ylim(0, 1.15 * max(values, default=1))
        panel.grid(color="#d9d9d9", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_title("Mixed load; grey: the warm-up, with four times as many clients", fontsize=9)
    panels[-1].set_xlabel("minutes")
    write_png(figure, path)


def _write_json(found: Soak, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(found.document(), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
