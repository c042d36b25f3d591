"""The measurement of Dimple against a real Multi Model Server: ``make bench``.

Both serve the same checkpoints on the same cores, one after the other, in rounds; ``ab -k`` asks. Beside them: a
tutorial's kind of server, and Dimple's engine without HTTP. Everything goes to ``instance/bench/performance.json``, and
as tables and plots to ``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.training.evaluation.plots import keep_config_in  # noqa: E402
from app.utils.progress import echo  # noqa: E402
from bench.parity.machine import JAVA, Missing, mms_python, need, peers_python  # noqa: E402
from bench.parity.peer import NotReady  # noqa: E402
from bench.perf.document import BENCH, performance, write_between  # noqa: E402
from bench.perf.figures import goals  # noqa: E402
from bench.perf.host import describe  # noqa: E402
from bench.perf.plots import draw  # noqa: E402
from bench.perf.records import Record, read_record, write_record  # noqa: E402
from bench.perf.rounds import Bench, run  # noqa: E402
from bench.perf.subjects import NAMES, make_subjects  # noqa: E402

AB = "Install it: apt-get install apache2-utils"
ROUNDS, SECONDS = 3, 10.0
QUICK_ROUNDS, QUICK_SECONDS = 2, 3.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"how often every server is measured; default {ROUNDS}")
    parser.add_argument("--seconds", type=float, help=f"of every cell of the table; default {SECONDS:g}")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of {QUICK_SECONDS:g} seconds a cell"
    )
    parser.add_argument("--models", default=",".join(NAMES), help="which of them; default: all of %(default)s")
    parser.add_argument("--models-from", type=Path, help="folder that has squeezenet_v1.0, to take its real weights")
    parser.add_argument("--from-json", action="store_true", help="measure nothing; write the document anew")
    parser.add_argument("--bench-dir", type=Path, default=ROOT / "instance" / "bench", help="for MMS and the figures")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of performance.md")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    store = given.bench_dir.resolve() / "performance.json"
    keep_config_in(given.bench_dir.resolve() / "matplotlib")
    try:
        if not given.from_json:
            write_record(measure(given), store)
        record = read_record(store)
    except (Missing, NotReady) as error:
        echo(str(error))
        return 2
    except FileNotFoundError:
        echo(f"there is no {store} yet: measure first, without --from-json")
        return 2
    write_between(given.docs / "performance.md", BENCH, performance(record))
    draw(record, given.docs / "performance")
    missed = [f"{goal.model} {goal.what}".strip() for goal in goals(record) if goal.reached is False]
    echo(f"{given.docs / 'performance.md'} is written; not reached: {', '.join(missed) or 'nothing'}")
    return 0


def measure(given: argparse.Namespace) -> Record:
    """Run all rounds.

    :raises Missing: if something is not installed.
    :raises NotReady: if a server does not start.
    """
    need("java", JAVA)
    ab = need("ab", AB)
    names = [name for name in given.models.split(",") if name]
    if unknown := [name for name in names if name not in NAMES]:
        raise Missing(f"there is no model {unknown[0]}; there are {', '.join(NAMES)}")
    python = mms_python(given.bench_dir.resolve() / "mms-venv")
    peers = peers_python(given.bench_dir.resolve() / "peers-venv")
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    seconds = given.seconds or (QUICK_SECONDS if given.quick else SECONDS)
    folder = Path(tempfile.mkdtemp(prefix="perf-"))
    try:
        echo("making the networks and their archives")
        models_from = given.models_from.resolve() if given.models_from else None
        subjects = make_subjects(folder / "models", names, python, ROOT, models_from)
        options = {"rounds": rounds, "seconds": seconds, "date": date.today().isoformat()}
        record = Record(describe(), options, {subject.name: subject.origin for subject in subjects})
        bench = Bench(folder, ROOT, python, peers, ab, subjects, seconds, record)
        bench.make_homes()
        run(bench, rounds)
        return record
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
