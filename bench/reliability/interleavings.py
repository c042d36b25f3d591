"""Clients that change and query the same few names at once, in random order, while processes are killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench.reliability.fault import Row
from bench.reliability.histories import DEADLINE, Call, Op, mistakes
from bench.reliability.models import picture, write_archive, write_colour, write_handled, write_heavy
from bench.reliability.served import Served

STORE = "store"
VERSIONS = 4
NAMES = 4
CLIENTS = 16
WEIGHTS = {Op.PREDICT: 60, Op.DESCRIBE: 6, Op.REGISTER: 12, Op.REPLACE: 6, Op.SCALE: 8, Op.UNREGISTER: 10}
PAUSES = (0.5, 2.5)
"""Seconds between two processes that are killed, at least and at most."""
REST_SECONDS = 60


@dataclass
class Outcome:
    """The result.

    :param counts: of calls by operation and status.
    :param kills: processes that were killed: ``backend``, ``worker``.
    :param mistakes: what must not be; empty if all was well.
    :param back: seconds until a backend process that was killed had another, each.
    """

    counts: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    mistakes: list[str] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    slowest: float = 0.0

    def row(self, name: str) -> Row:
        """Return the result for the table."""

        def count(*statuses: str) -> int:
            return sum(number for what, number in self.counts.items() if what.endswith(statuses))

        notes = [f"{number} times a {what} was killed" for what, number in sorted(self.kills.items())]
        return Row(
            name,
            sent=self.counts.total(),
            answered=count("200", "202", "404", "409"),
            refused=count("503"),
            cut=count(" 0"),
            lost=len(self.mistakes),
            recovery=max(self.back, default=0.0),
            slowest=self.slowest,
            notes=tuple(notes),
            samples=tuple(self.mistakes[:5]),
        )


def write_versions(models: Path, count: int = VERSIONS) -> list[str]:
    """Write archives of networks, fast and slow, and of models with code, whose answers tell their version.

    :param models: the server's models folder.
    :param count: number of versions of each kind.
    :returns: the versions; each is an archive ``store/VERSION.mar``.
    """
    store, work = models / STORE, models.parent / "versions"
    store.mkdir(parents=True)
    versions = []
    for kind, write in (("fast", write_colour), ("slow", write_heavy), ("code", write_handled)):
        for number in range(count):
            version = f"{kind}{number}"
            folder = write(work / version)
            if kind == "code":
                code = f"def handle(data, context):\n    return data and ['{version}'] * len(data)\n"
                (folder / "service.py").write_text(code)
            else:
                (folder / "synset.txt").write_text("".join(f"{colour}-{version}\n" for colour in ("r", "g", "b")))
            write_archive(folder, store / f"{version}.mar", version)
            versions.append(version)
    shutil.rmtree(work)
    return versions


class Interleaving:
    """The clients. The same seed makes the same calls, in an order that the machine decides.

    :param calls: of each client.
    :param kill: whether processes are killed meanwhile.
    """

    def __init__(self, served: Served, versions: Sequence[str], seed: int, calls: int, kill: bool) -> None:
        self._served = served
        self._versions = versions
        self._seed = seed
        self._calls = calls
        self._kill = kill
        self._made: list[Call] = []
        self._done = threading.Event()

    def run(self) -> Outcome:
        """Make all calls, unregister everything, and return the mistakes."""
        outcome = Outcome()
        before = self._at_rest()
        with ThreadPoolExecutor(CLIENTS + 1) as threads:
            killing = threads.submit(self._kill_now_and_then, outcome) if self._kill else None
            for client in [threads.submit(self._client, number) for number in range(CLIENTS)]:
                client.result()
            self._done.set()
            if killing is not None:
                killing.result()
        self._served.wait(self._served.is_whole)
        self._end_all()
        outcome.counts = Counter(f"{item.op} {item.status}" for item in self._made)
        outcome.mistakes += mistakes(self._made)
        outcome.slowest = max(item.ended - item.begun for item in self._made)
        outcome.mistakes += self._left(before)
        return outcome

    def _client(self, number: int) -> None:
        draw = random.Random(self._seed * 1000 + number)
        for _ in range(self._calls):
            (op,) = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
            name = f"guest{draw.randrange(NAMES)}"
            self._made.append(self._call(op, name, draw.choice(self._versions), draw.randrange(3)))

    def _call(self, op: Op, name: str, version: str, workers: int) -> Call:
        begun = time.monotonic()
        try:
            status, body = self._ask(op, name, version, workers)
        except (OSError, http.client.HTTPException):
            status, body = 0, b""
        ended = time.monotonic()
        if op is Op.PREDICT:
            version = _version_of(body) if status == 200 else ""
        return Call(op, name, begun, ended, status, version, body[:200].decode(errors="replace"))

    def _ask(self, op: Op, name: str, version: str, workers: int) -> tuple[int, bytes]:
        match op:
            case Op.PREDICT:
                return self._http("POST", f"/predictions/{name}", picture("red"))
            case Op.DESCRIBE:
                return self._http("GET", f"/models/{name}")
            case Op.REGISTER | Op.REPLACE:
                path = f"/models?url={STORE}/{version}.mar&model_name={name}&initial_workers=1&synchronous=true"
                return self._http("POST", path + ("&replace=true" if op is Op.REPLACE else ""))
            case Op.SCALE:
                return self._http("PUT", f"/models/{name}?min_worker={workers}&synchronous={str(workers > 1).lower()}")
            case Op.UNREGISTER:
                return self._http("DELETE", f"/models/{name}")

    def _http(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        return self._served.ask(method, path, body, management="/models" in path, seconds=2 * DEADLINE)[:2]

    def _kill_now_and_then(self, outcome: Outcome) -> None:
        draw = random.Random(self._seed)
        while not self._done.wait(draw.uniform(*PAUSES)):
            what = draw.choice(("backend", "worker"))
            those = self._served.engines() if what == "backend" else self._served.serving()
            if not those:
                continue
            one = draw.choice(those)
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
                outcome.kills[what] += 1
            if what == "backend":
                outcome.back.append(self._seconds_until_another(one))

    def _seconds_until_another(self, before: int) -> float:
        """Return how long it takes until the models that are there can be described again."""
        began = time.monotonic()
        self._served.wait(lambda: self._served.engines() not in ([], [before]) and self._is_listed())
        return time.monotonic() - began

    def _is_listed(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._http("GET", "/models")[0] == 200
        return False

    def _end_all(self) -> None:
        """Unregister what is left; all workers must agree about it first."""
        seen = {self._listed() for _ in range(4 * int(self._served.environ["DIMPLE_WORKERS"]))}
        if len(seen) > 1:
            self._made.append(Call(Op.DESCRIBE, "(list)", 0.0, 0.0, 418, text=f"workers disagree: {seen}"))
        for name in (f"guest{number}" for number in range(NAMES)):
            self._made.append(self._call(Op.PREDICT, name, "", 0))
            self._made.append(self._call(Op.UNREGISTER, name, "", 0))
            self._made.append(self._call(Op.PREDICT, name, "", 0))

    def _listed(self) -> tuple[str, ...]:
        document = json.loads(self._http("GET", "/models")[1])
        return tuple(sorted(item["modelName"] for item in document["models"]))

    def _at_rest(self) -> tuple[int, set[str]]:
        """Return the number of handler processes, and the stored files."""
        files = {path.name for path in self._served.instance.iterdir()}
        return len(_handlers(self._served)), files

    def _left(self, before: tuple[int, set[str]]) -> list[str]:
        """Return what is left of unregistered models."""
        deadline = time.monotonic() + REST_SECONDS
        while (now := self._at_rest())[0] > before[0] and time.monotonic() < deadline:
            time.sleep(0.2)
        left = [f"{now[0] - before[0]} handler processes are left"] if now[0] > before[0] else []
        extra = {name for name in now[1] - before[1] if name.startswith((".", "registry.json.corrupt"))}
        return left + [f"{name} is left in the instance folder" for name in sorted(extra)]


def _handlers(served: Served) -> list[int]:
    """Return the processes that run models' code."""
    found = []
    for handler in served.handlers():
        with contextlib.suppress(OSError):
            if b"handlers/runtime\0" in Path(f"/proc/{handler}/cmdline").read_bytes():
                found.append(handler)
    return found


def _version_of(body: bytes) -> str:
    """Return the version that an answer tells."""
    try:
        document = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
    return str(document[0]["class"]).partition("-")[2]
