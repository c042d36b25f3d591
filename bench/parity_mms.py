"""The comparison of Dimple with a real Multi Model Server, request by request: ``make parity``.

Both get the same archives and, one after the other, the same configurations. What they answer differently must be
declared in ``bench/parity/differences.json``; what is not, or is declared and does not show, makes the exit status 1.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.utils.progress import echo  # noqa: E402
from bench.parity.check import Check  # noqa: E402
from bench.parity.checks.archives import NETS, of_archives  # noqa: E402
from bench.parity.known import judge, read_known  # noqa: E402
from bench.parity.machine import JAVA, Missing, mms_python, need  # noqa: E402
from bench.parity.peer import NotReady, Peer  # noqa: E402
from bench.parity.report import exit_status, print_report, write_report  # noqa: E402
from bench.parity.run import Result, not_run, run  # noqa: E402
from bench.parity.servers import dimple, dimple_by_environment, mms  # noqa: E402
from bench.parity.setups import SETUPS, Setup, hide, reveal  # noqa: E402
from bench.parity.store import SQUEEZENET, make_store, pictures  # noqa: E402
from bench.parity.tables import write_table  # noqa: E402

DOCUMENT = ROOT / "docs" / "migrating.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench-dir", type=Path, default=ROOT / "instance" / "bench", help="for MMS and the report")
    parser.add_argument(
        "--models-from", type=Path, help="folder with squeezenet_v1.0/ and images/, to compare real weights"
    )
    parser.add_argument("--dimple", type=Path, default=ROOT, help="the checkout of Dimple that is compared")
    parser.add_argument(
        "--by", choices=("command", "environment"), help="start Dimple by its multi-model-server, or by gunicorn"
    )
    parser.add_argument("--workers", type=int, default=2, help="server processes of Dimple")
    parser.add_argument(
        "--setup", action="append", choices=[item.name for item in SETUPS], help="only this configuration"
    )
    parser.add_argument(
        "--only", help="only checks whose id starts with this; what is declared and gone is then no failure"
    )
    parser.add_argument("--write", action="store_true", help="only write the table of docs/migrating.md")
    parser.add_argument("--keep", action="store_true", help="keep the servers' folders, with their logs")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    if given.write:
        changed = write_table(DOCUMENT, read_known())
        echo(f"{DOCUMENT} {'is written' if changed else 'was up to date'}")
        return 0
    try:
        need("java", JAVA)
        python = mms_python(given.bench_dir.resolve() / "mms-venv")
        results = compare(given, python)
    except Missing as error:
        echo(str(error))
        return 2
    ran = [result.check.id for result in results if by(given) == "command"]  # by environment, not all can show
    verdict = judge((d for result in results for d in result.differences), read_known(), ran)
    print_report(results, verdict)
    echo(f"the whole report: {write_report(given.bench_dir / 'parity.json', results, verdict)}")
    return exit_status(results, verdict)


def by(given: argparse.Namespace) -> str:
    """Return how Dimple is started: by its command if the checkout has it."""
    return given.by or ("command" if (given.dimple / "bin" / "multi-model-server").exists() else "environment")


def compare(given: argparse.Namespace, python: Path) -> list[Result]:
    """Run every selected configuration."""
    results = []
    # short, because the names of the servers' sockets are in it
    with _folder(given.keep) as folder:
        if given.keep:
            echo(f"the servers' folders are under {folder}")
        echo("making the archives")
        archives = Path(folder) / "archives" / "store"
        archives.parent.mkdir()
        make_store(archives, python, given.dimple, given.models_from)
        for setup in SETUPS:
            if given.setup and setup.name not in given.setup:
                continue
            if by(given) == "environment" and not setup.by_environment:
                echo(f"{setup.name} is left out: Dimple's environment variables cannot say it")
                continue
            try:
                results += compare_under(setup, given, python, Path(folder), archives)
            except NotReady as error:
                results.append(not_run(setup.name, error))
    return results


@contextlib.contextmanager
def _folder(keep: bool) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="parity-")
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def compare_under(setup: Setup, given: argparse.Namespace, python: Path, folder: Path, archives: Path) -> list[Result]:
    """Start both servers with one configuration, and send them every check that belongs to it."""
    homes = [folder / setup.name / kind for kind in ("m", "d")]
    for home in homes:
        home.mkdir(parents=True)
        shutil.copytree(archives, home / "store")
    peers = [mms(python, homes[0], setup), _dimple(setup, given, homes[1])]
    hidden = by(given) == "environment"
    selected = [*setup.checks, *(_of_archives(given) if setup.archives else ())]
    selected = [item for item in selected if item.id.startswith(given.only or "")]
    try:
        for peer in peers:
            if hidden:
                hide(peer)
            echo(f"{setup.name}: starting {peer.kind}")
            peer.start()
            if hidden:
                reveal(peer)
        return run(selected, peers[0], peers[1], setup.name)
    finally:
        for peer in peers:
            peer.stop()


def _of_archives(given: argparse.Namespace) -> list[Check]:
    nets = [*NETS, *([SQUEEZENET] if given.models_from else [])]
    return of_archives(pictures(given.dimple, given.models_from), nets)


def _dimple(setup: Setup, given: argparse.Namespace, home: Path) -> Peer:
    if by(given) == "command":
        return dimple(given.dimple, home, setup, setup.processes or given.workers)
    return dimple_by_environment(given.dimple, home, setup, setup.processes or given.workers)


if __name__ == "__main__":
    sys.exit(main())
