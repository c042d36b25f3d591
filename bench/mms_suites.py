"""Multi Model Server's own test suites, run on Dimple: ``make mms-suites MMS=checkout``.

Its Python unit tests are run on the package ``mms`` that Dimple gives archives, its three Postman collections each on a
server of its own. A test that fails, but for those that ``NOT_OURS`` names, makes the exit status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.utils.progress import echo  # noqa: E402
from bench.parity.machine import Missing, need  # noqa: E402
from bench.parity.peer import NotReady, Peer  # noqa: E402
from bench.parity.servers import dimple  # noqa: E402
from bench.parity.setups import Setup  # noqa: E402
from bench.parity.standins import make_archives, read_expected, web_server  # noqa: E402

NODE = "Install it: apt-get install nodejs npm"
NEWMAN = "newman@6.2.1"
UNIT_PACKAGES = ("pytest==9.2.0", "mock==5.2.0", "pytest-mock==3.17.0")
ZOO = "https://s3.amazonaws.com/model-server/"
NOT_OURS = {
    "test_model_service_worker": "the worker that MMS's front end starts; Dimple's is another, and no archive sees it",
    "test_beckend_metric.test_metrics": "metrics are printed, not logged: a handler that turns logging off keeps them",
    "test_worker_service.TestEmitMetrics.test_emit_metrics": "as before",
    "test_service.TestService.test_gluon_model_service": "fetches a network from the internet",
}
"""Unit tests that cannot pass, by module, class and name, and why. docs/migrating.md says the same."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mms", type=Path, help="checkout of github.com/awslabs/multi-model-server")
    parser.add_argument("--bench-dir", type=Path, default=ROOT / "instance" / "bench", help="for what is installed")
    parser.add_argument("--only", choices=("unit", "management", "inference", "https"), help="only this suite")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    checkout, is_selected = given.mms.resolve(), lambda name: given.only in (None, name)
    try:
        if not (checkout / "test" / "postman").is_dir():
            raise Missing(f"{checkout} is no checkout of Multi Model Server: git clone its repository, and name it")
        failed = unit_tests(checkout, given.bench_dir.resolve()) if is_selected("unit") else 0
        if given.only != "unit":
            newman = install_newman(given.bench_dir.resolve() / "newman")
            with tempfile.TemporaryDirectory(prefix="suites-") as folder:
                failed += postman(checkout, newman, Path(folder), is_selected)
    except (Missing, NotReady) as error:
        echo(str(error))
        return 2
    return 1 if failed else 0


def unit_tests(checkout: Path, bench_dir: Path) -> int:
    """Run MMS's unit tests on Dimple's package ``mms``, in an environment that has what they import.

    :returns: how many failed that should pass, or passed that are said to fail.
    """
    python, report = _environment(bench_dir / "suites-venv"), bench_dir / "unit-tests.xml"
    report.unlink(missing_ok=True)
    site = ROOT / "app" / "handlers" / "runtime"
    command = [str(python), "-c", "from dimple_child.patches import install; install(); import pytest; pytest.main()"]
    with tempfile.TemporaryDirectory(prefix="suites-") as folder:
        place = Path(folder, "mms", "tests", "unit_tests")  # not in the checkout, whose own package would be found
        shutil.copytree(checkout / "mms" / "tests" / "unit_tests", place)
        shutil.copy(checkout / "mms" / "version.py", Path(folder, "mms"))
        options = ("-q", "--tb=no", "-Wignore", "--continue-on-collection-errors", f"--junit-xml={report}", str(place))
        environ = {**os.environ, "PYTEST_ADDOPTS": shlex.join(options)}
        environ["PYTHONPATH"] = os.pathsep.join([str(site), str(site / "mms"), str(place)])
        subprocess.run(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL)
    if not report.is_file():
        raise Missing(f"the unit tests did not run: {shlex.join(command)}")
    return _judge(report)


def _environment(folder: Path) -> Path:
    """Return an environment with what the tests need, on top of Dimple's packages."""
    python, mark = folder / "bin" / "python", folder / "packages.txt"
    packages = "\n".join(UNIT_PACKAGES)
    if not mark.exists() or mark.read_text() != packages:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *UNIT_PACKAGES], check=True)
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        found = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
        (Path(found.stdout.strip()) / "dimple.pth").write_text(sysconfig.get_path("purelib") + "\n")
        mark.write_text(packages)
    return python


def _judge(report: Path) -> int:
    cases: dict[str, bool] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = ".".join(part for part in (case.get("classname"), case.get("name")) if part).rpartition("unit_tests.")[2]
        cases[name.removeprefix("model_service.")] = case.find("failure") is None and case.find("error") is None
    known = {name for name in cases if any(name.startswith(item) for item in NOT_OURS)}
    failed = sorted(name for name, passed in cases.items() if not passed)
    wrong = sorted(set(failed) - known)
    echo(f"unit tests: {len(cases) - len(failed)} passed; failed: {', '.join(failed)}")
    for name in wrong:
        echo(f"  should pass: {name}")
    return len(wrong)


def install_newman(folder: Path) -> Path:
    """Return Postman's runner, which is installed if it is missing."""
    npm = need("npm", NODE)
    program = folder / "node_modules" / ".bin" / "newman"
    if not program.exists():
        echo(f"installing {NEWMAN} into {folder}, once")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([npm, "install", "--silent", "--prefix", str(folder), NEWMAN], check=True)
    return program


def postman(checkout: Path, newman: Path, folder: Path, is_selected: Callable[[str], bool]) -> int:
    """Run the collections, each on a server of its own.

    :returns: how many assertions failed.
    """
    tests, failed = checkout / "test" / "postman", 0
    zoo = folder / "zoo" / "model_archive_1.0"
    zoo.mkdir(parents=True)
    echo("making the archives")
    make_archives(zoo, checkout, read_expected(tests / "inference_data.json"))
    with web_server(zoo.parent) as url:
        for source in tests.glob("*.json"):
            (folder / source.name).write_text(source.read_text().replace(ZOO, f"{url}/"))
        for suite in ("management", "inference", "https"):
            if is_selected(suite):
                with started(folder, checkout, suite) as peer:
                    failed += collection(suite, newman, folder, checkout, peer)
    return failed


@contextmanager
def started(folder: Path, checkout: Path, suite: str) -> Iterator[Peer]:
    """Yield a server, with MMS's own key for HTTPS."""
    home = folder / suite
    (home / "store").mkdir(parents=True)
    keys = {"certificate_file": "certs.pem", "private_key_file": "key.pem"}
    resources = {key: str(checkout / "test" / "resources" / file) for key, file in keys.items()}
    tls = suite == "https"
    peer = dimple(ROOT, home, Setup(suite, (), resources if tls else {}, tls=tls), 1)
    peer.start()
    try:
        yield peer
    finally:
        peer.stop()


def collection(suite: str, newman: Path, folder: Path, checkout: Path, peer: Peer) -> int:
    """Run one collection.

    :returns: how many of its assertions failed.
    """
    name = {"https": "https_test_collection"}.get(suite, f"{suite}_api_test_collection")
    ports = {"pred-port": peer.port, "mgmt-port": peer.management_port}
    ports |= {f"sec-{key}": port for key, port in ports.items()}
    report = folder / f"{suite}.json"
    command = [str(newman), "run", str(folder / f"{name}.json"), "--insecure", "--reporters", "json"]
    command += ["--reporter-json-export", str(report), "--env-var", "hostname=127.0.0.1", "--env-var", "protocol=http"]
    for key, port in ports.items():
        command += ["--env-var", f"{key}={port}"]
    if suite == "inference":
        command += ["--iteration-data", str(folder / "inference_data.json")]
    subprocess.run(command, cwd=checkout, stdout=subprocess.DEVNULL)
    if not report.is_file():
        raise Missing(f"newman did not run: {' '.join(command)}")
    return _report_failures(suite, json.loads(report.read_text())["run"])


def _report_failures(suite: str, run: Mapping[str, Any]) -> int:
    counted = run["stats"]["assertions"]
    echo(f"{suite}: {counted['total'] - counted['failed']} of {counted['total']} assertions")
    for failure in run["failures"]:
        echo(f"  {failure['source'].get('name', '')}: {failure['error'].get('test', '')} {failure['error']['message']}")
    return int(counted["failed"])


if __name__ == "__main__":
    sys.exit(main())
