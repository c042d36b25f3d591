"""The measurement: every round starts each server in turn, puts it under every load, and stops it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.engines.cache import MODEL
from app.engines.conversion_process import entry_of
from app.formats.folder import open_model_folder
from app.utils.progress import echo
from app.utils.system import cpu_count, default_worker_count
from bench.parity.machine import Missing
from bench.parity.peer import START_SECONDS, NotReady, Peer
from bench.parity.servers import dimple, mms
from bench.parity.setups import Setup
from bench.perf import profile
from bench.perf.client import Body, cell, multipart
from bench.perf.int8 import int8_of
from bench.perf.processes import family, held
from bench.perf.records import DIMPLE, ENGINE, LITSERVE, MMS, PEERS, TUTORIAL, Cell, Record, Run
from bench.perf.starting import JPEG, spawn, start, wait_for
from bench.perf.subjects import INT8, PHOTOGRAPH, RESNET, SMILE, Subject, pack
from bench.ports import free_ports

HERE = Path(__file__).parent
SERVICES = HERE / "peers"
CONNECTIONS = (1, 8, 100)
THREADS = (1, 8)
REST_SECONDS = 3.0
"""After the load, before memory is taken: for Java and for us."""


@dataclass
class Bench:
    """The state that all rounds share.

    :param folder: for the servers' homes; a short path, because the names of sockets are in it.
    :param seconds: of one cell.
    """

    folder: Path
    checkout: Path
    mms_python: Path
    peers_python: Path
    ab: str
    subjects: Sequence[Subject]
    seconds: float
    record: Record
    homes: dict[str, Path] = field(default_factory=dict)
    int8: Subject | None = None

    def make_homes(self) -> None:
        """Make a home for each server with its store, and the list of models to load."""
        for kind in (MMS, DIMPLE):
            home = self.homes[kind] = self.folder / kind[0]
            home.mkdir()
            load_models = [
                pack(subject, home / "store", self.mms_python, self.checkout, kind) for subject in self.subjects
            ]
            (home / "load").write_text(",".join(load_models))
        home = self.homes[INT8] = self.folder / "i"
        self.int8 = int8_of(self.subjects, home / "store", home / "instance" / "cache")
        if self.int8:
            (home / "load").write_text(f"{INT8}={INT8}")
            self.record.origins[INT8] = self.int8.origin

    def peer(self, kind: str) -> Peer:
        """Return a server that is not started yet, with all configured alike.

        :param kind: ``mms``, ``dimple``, or the quantized network's name for Dimple with nothing but that.
        """
        home = self.homes[kind]
        config = {"load_models": (home / "load").read_text(), "default_workers_per_model": str(cpu_count())}
        setup = Setup("performance", (), config)
        if kind == MMS:
            return mms(self.mms_python, home, setup)
        return dimple(self.checkout, home, setup, default_worker_count())

    @property
    def cache(self) -> Path:
        return self.homes[DIMPLE] / "instance" / "cache"


def run(bench: Bench, rounds: int) -> None:
    """Measure everything, into the bench's record."""
    echo("a first start of either server, so that nothing is converted or compiled in a measured one")
    answers = {kind: _first_start(bench, kind) for kind in (MMS, DIMPLE)}
    bench.record.agreement |= agreement(answers[MMS], answers[DIMPLE])
    bench.record.agreement.pop(PHOTOGRAPH, None)  # the two servers cut the face differently
    echo("largest difference of a probability: " + str(bench.record.agreement))
    for number in range(rounds):
        for kind in (MMS, DIMPLE):
            echo(f"round {number + 1} of {rounds}: {kind}")
            _one_server(bench, kind, number, last=number == rounds - 1)
        if bench.int8:
            echo(f"round {number + 1} of {rounds}: {bench.int8.title}")
            _int8(bench, bench.int8, number)
        for subject in bench.subjects:
            if subject.name in (SMILE, PHOTOGRAPH):
                echo(f"round {number + 1} of {rounds}: the tutorial's server, {subject.title}")
                _tutorial(bench, subject, number)
        for kind in PEERS:
            for subject in bench.subjects:
                if subject.name != PHOTOGRAPH:
                    echo(f"round {number + 1} of {rounds}: {kind}, {subject.title}")
                    _service(bench, kind, subject, number)
        echo(f"round {number + 1} of {rounds}: the engine alone")
        _engine(bench, number)


def _first_start(bench: Bench, kind: str) -> dict[str, dict[str, float]]:
    peer = bench.peer(kind)
    try:
        peer.start()
        answers = {}
        for subject in bench.subjects:
            response = peer.ask("POST", f"/predictions/{subject.name}", subject.picture.read_bytes(), JPEG)
            if response.status != 200:
                raise NotReady(
                    f"{kind} answers {response.status} for {subject.name}: {response.body[:500]!r}; see {peer.log}"
                )
            answers[subject.name] = {row["class"]: row["probability"] for row in response.document()}
        return answers
    finally:
        peer.stop()


def agreement(one: Mapping[str, Mapping[str, float]], other: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the largest difference of a probability, by network; classes in only one of the reports are left out."""
    return {
        name: max(
            (abs(found - other[name][label]) for label, found in row.items() if label in other[name]), default=1.0
        )
        for name, row in one.items()
    }


def _one_server(bench: Bench, kind: str, number: int, last: bool) -> None:
    peer = bench.peer(kind)
    try:
        seconds = start(peer, bench.subjects)
        for subject in bench.subjects:
            bench.record.cells += _cells(bench, _url(peer, subject), subject, (number, kind))
        assert peer.process
        time.sleep(REST_SECONDS)
        has = held(family(peer.process.pid))
        bench.record.runs.append(Run(number, kind, seconds, has.pss, has.rss, has.processes))
        echo(f"  {kind}: first answers after {seconds:.1f} s, {has.pss:.0f} MiB (PSS) in {has.processes} processes")
        if kind == DIMPLE and last:
            bench.record.profile += profile.steps(peer.port, bench.subjects, bench.seconds)
    finally:
        peer.stop()


def _int8(bench: Bench, subject: Subject, number: int) -> None:
    """Measure the quantized network, and put the measurement of MMS for the other one beside it."""
    peer = bench.peer(INT8)
    try:
        start(peer, [subject])
        bench.record.cells += _cells(bench, _url(peer, subject), subject, (number, DIMPLE))
    finally:
        peer.stop()
    theirs = [cell for cell in bench.record.cells if (cell.round, cell.server, cell.model) == (number, MMS, RESNET)]
    bench.record.cells += [replace(their, model=INT8) for their in theirs]


def _url(peer: Peer, subject: Subject) -> str:
    return f"http://127.0.0.1:{peer.port}/predictions/{subject.name}"


def _cells(bench: Bench, url: str, one: Subject, key: tuple[int, str], body: Body | None = None) -> list[Cell]:
    """Measure one network under every load, after a little of the middle one to warm up.

    :param body: of the requests; None sends the picture as it is.
    """
    number, kind = key
    body = body or Body(one.picture)
    cell(bench.ab, (number, kind, one.name, 8), url, body, min(2.0, bench.seconds / 2))
    found: list[Cell] = []
    for connections in CONNECTIONS:
        rate = found[-1].per_second if found else 0.0
        made = cell(bench.ab, (number, kind, one.name, connections), url, body, bench.seconds, rate)
        found.append(made)
        tell(made)
    return found


def tell(one: Cell) -> None:
    """Print the last measurement."""
    wrong = f", {one.lost} LOST" if one.lost else ""
    wrong += f", {one.refused} refused" if one.refused else ""
    echo(f"  {one.server}: {one.model}, {one.connections}: {one.per_second:.1f}/s, "
        f"p50 {one.p50:.2f} ms, p99 {one.p99:.2f} ms, {one.complete} requests{wrong}")  # fmt: skip


def _tutorial(bench: Bench, subject: Subject, number: int) -> None:
    """Start the tutorial's kind of server on the same pictures, measure, and stop it."""
    home = bench.folder / "t"
    home.mkdir(exist_ok=True)
    (port,) = free_ports(1)
    command = [sys.executable, str(HERE / "tutorial_server.py"), str(port), str(subject.source / f"{subject.name}.h5")]
    command += ["faces"] if subject.name == PHOTOGRAPH else []
    peer = Peer(TUTORIAL, home, port, port, command, _quiet_home(home))
    try:
        began = time.monotonic()
        spawn(peer)
        wait_for(peer, "/predict", subject.picture.read_bytes(), began + START_SECONDS)
        seconds = time.monotonic() - began
        bench.record.cells += _cells(bench, f"http://127.0.0.1:{port}/predict", subject, (number, TUTORIAL))
        assert peer.process
        time.sleep(REST_SECONDS)
        has = held(family(peer.process.pid))
        if subject.name == SMILE:
            bench.record.runs.append(Run(number, TUTORIAL, seconds, has.pss, has.rss, has.processes))
    finally:
        peer.stop()


def _service(bench: Bench, kind: str, subject: Subject, number: int) -> None:
    """Start a peer's service of one network, measure, and stop it. The service takes a form."""
    home = bench.folder / kind
    home.mkdir(exist_ok=True)
    (port,) = free_ports(1)
    entry = entry_of(open_model_folder(subject.source), "auto", bench.cache)
    workers = str(cpu_count())
    environ = _quiet_home(home) | {"NETWORK": str(entry.path / MODEL), "WORKERS": workers, "PYTHONPATH": str(SERVICES)}
    if kind == LITSERVE:
        command = [str(bench.peers_python), str(SERVICES / "litserve_service.py"), str(port), workers]
    else:
        environ |= {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
        command = [str(bench.peers_python.parent / "bentoml"), "serve", "bentoml_service:Classifier"]
        command += ["--working-dir", str(SERVICES), "--host", "127.0.0.1", "--port", str(port)]
    peer = Peer(kind, home, port, port, command, environ)
    form = multipart(subject.picture, home / "form")
    headers = {"Content-Type": form.content_type}
    try:
        spawn(peer)
        wait_for(peer, "/predict", form.path.read_bytes(), time.monotonic() + START_SECONDS, headers)
        bench.record.cells += _cells(bench, f"http://127.0.0.1:{port}/predict", subject, (number, kind), form)
    finally:
        peer.stop()


def _quiet_home(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home)}


def _engine(bench: Bench, number: int) -> None:
    models = [
        f"{subject.name}={subject.source}={subject.picture}" for subject in bench.subjects if subject.name != PHOTOGRAPH
    ]
    if not models:
        return
    crowds = ",".join(map(str, THREADS))
    command = [sys.executable, str(HERE / "engine_only.py"), str(bench.seconds), str(bench.cache), crowds, *models]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"the engine alone failed:\n{done.stderr[-2000:]}")
    for line in done.stdout.splitlines():
        row = json.loads(line)
        if row.pop("kind") != "openvino":
            echo(f"  the engine of {row['model']} is not openvino: the comparison with Dimple's HTTP means little")
        found = Cell(round=number, server=ENGINE, **row)
        bench.record.cells.append(found)
        tell(found)
