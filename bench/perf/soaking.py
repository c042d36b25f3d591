"""A server under mixed load for a long time: clients, repeated registrations, and regular samples of its resources."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from app.utils.progress import progress
from bench.parity.peer import Peer
from bench.perf.mix import GUEST, Kind, Tally, client
from bench.perf.processes import Held, family, held

SAMPLE_SECONDS = 2.0
REST_SECONDS = 30.0
STILL = 3
"""Looks in a row that must show the same before a server counts as at rest."""
PINGS = 20
"""So that every process of the server gets a request, before which it lets go of what another one unregistered."""
GUEST_SECONDS = 1.0
FLAT = 0.03


@dataclass(frozen=True)
class Sample:
    """The resources of the processes, at a number of seconds after the start."""

    second: float
    held: Held


@dataclass
class Soak:
    """The result. ``before`` and ``after`` are at rest: after the warm-up, and at the end.

    :param warm_seconds: how long the warm-up took.
    """

    warm_seconds: float
    before: Held
    after: Held
    samples: list[Sample]
    tally: Tally
    registrations: int
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return the result as JSON has it."""
        return {
            "warm_seconds": self.warm_seconds,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "samples": [asdict(sample) for sample in self.samples],
            "ended": [[kind, status, count] for (kind, status), count in sorted(self.tally.ended.items())],
            "wrong": self.tally.wrong,
            "what the wrong ones said": self.tally.samples,
            "registrations": self.registrations,
        }


def soak(peer: Peer, choices: Sequence[Kind], guests: Sequence[str], clients: int, seconds: float) -> Soak:
    """Load a server that runs.

    :param guests: archives of its store that are registered in turn.
    :param seconds: in all; the warm-up is a fifth, at most two minutes.
    """
    tally, samples, began = Tally(), [], time.monotonic()
    warm = min(120.0, seconds / 5)
    with progress("soak", round(seconds), "s") as bar:
        # more clients than later, so that every process has all its threads once and for all
        with _loaded(peer, choices, guests, tally, 4 * clients):
            samples += _watch(peer, began, warm, bar)
        before = at_rest(peer)
        with _loaded(peer, choices, guests, tally, clients) as registered:
            samples += _watch(peer, began, seconds - warm, bar)
        after = at_rest(peer)
    return Soak(warm, before, after, samples, tally, registered[0])


@contextmanager
def _loaded(
    peer: Peer, choices: Sequence[Kind], guests: Sequence[str], tally: Tally, clients: int
) -> Iterator[list[int]]:
    """Ask from all clients meanwhile. Gives the number of registrations, which is right afterwards."""
    stop, registered = threading.Event(), [0]
    running = [threading.Thread(target=client, args=(peer.port, choices, tally, stop, seed)) for seed in range(clients)]
    running.append(threading.Thread(target=_come_and_go, args=(peer, guests, tally, stop, registered)))
    for item in running:
        item.start()
    try:
        yield registered
    finally:
        stop.set()
        for item in running:
            item.join()


def _come_and_go(peer: Peer, guests: Sequence[str], tally: Tally, stop: threading.Event, registered: list[int]) -> None:
    """Register a model, leave it for a moment, unregister it; then the next one under the same name."""
    while not stop.is_set():
        archive = guests[registered[0] % len(guests)]
        path = f"/models?url={archive}&model_name={GUEST}&initial_workers=1&synchronous=true"
        response = peer.ask("POST", path, management=True)
        tally.count("register", response.status, (200,), f"{response.reason} {response.body[:200]!r}")
        registered[0] += 1
        stop.wait(GUEST_SECONDS)
        response = peer.ask("DELETE", f"/models/{GUEST}", management=True)
        tally.count("unregister", response.status, (200,), f"{response.reason} {response.body[:200]!r}")


def _watch(peer: Peer, began: float, seconds: float, bar: Any) -> Iterator[Sample]:
    """Sample the resources now and then, for the given number of seconds."""
    ends, last = time.monotonic() + seconds, time.monotonic()
    while (now := time.monotonic()) < ends:
        yield Sample(now - began, look(peer))
        time.sleep(min(SAMPLE_SECONDS, max(0.0, ends - time.monotonic())))
        passed = time.monotonic() - last
        bar.advance(int(passed))
        last += int(passed)


def look(peer: Peer) -> Held:
    """Return the resources of all processes now."""
    assert peer.process
    return held(family(peer.process.pid))


def at_rest(peer: Peer) -> Held:
    """Return the resources once nothing ends or closes any more; a server that never comes to rest is measured as it is
    then.

    It is left alone meanwhile: in pauses it gives back what it has kept for the next pictures.
    """
    for _ in range(PINGS):
        peer.ask("GET", "/ping")
    ends, seen = time.monotonic() + REST_SECONDS, [look(peer)]
    while time.monotonic() < ends and not _still(seen[-STILL:]):
        time.sleep(SAMPLE_SECONDS)
        seen.append(look(peer))
    return seen[-1]


def _still(seen: Sequence[Held]) -> bool:
    return len(seen) == STILL and len({(item.processes, item.threads, item.files) for item in seen}) == 1


def growth(samples: Sequence[Sample], warm_seconds: float) -> float:
    """Return how much memory grew under load after the warm-up: the ratio of the medians of the last and the first
    quarter of the samples, less one. 0.0 if there are too few samples.
    """
    sizes = [sample.held.pss for sample in samples if sample.second >= warm_seconds]
    quarter = len(sizes) // 4
    if not quarter:
        return 0.0
    return statistics.median(sizes[-quarter:]) / statistics.median(sizes[:quarter]) - 1


def checks(found: Soak) -> list[tuple[str, str, bool]]:
    """Return the conditions that had to hold: name, measurement, and whether it holds."""
    load = growth(found.samples, found.warm_seconds)
    rest = found.after.pss / found.before.pss - 1 if found.before.pss else 0.0
    more = {
        name: getattr(found.after, name) - getattr(found.before, name) for name in ("processes", "threads", "files")
    }
    limit = f"at most {FLAT:.0%}"
    return [
        (
            "requests that ended as they may not",
            f"{found.tally.wrong:,} of {found.tally.total:,}",
            not found.tally.wrong,
        ),
        (f"memory under load, last quarter to first ({limit})", f"{load:+.1%}", load <= FLAT),
        (f"memory at rest, end to warm-up ({limit})", f"{rest:+.1%}", rest <= FLAT),
        *((f"{name} gained, at rest", f"{count:+d}", count <= 0) for name, count in more.items()),
    ]
