"""How many machines a load takes: arithmetic on the figures of docs/performance.md, and of the hop measured here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bench.perf.document import number, table

RATE = 100_000.0
"""Requests a second that the tables are for."""
CORES = 32
USED = 0.6
"""The part of a machine's cores that is planned for: the rest is for the peak, and for a machine that is lost."""
CORE_HOUR = 0.05
"""Dollars for a core and an hour: an order of magnitude, to be replaced by one's own."""
JPEG_BYTES = 100_000
MODELS: dict[str, tuple[tuple[int, ...], float]] = {
    "smile CNN": ((1, 64, 64), 1.7),
    "SqueezeNet": ((3, 224, 224), 5.0),
    "ResNet-50 v1": ((3, 224, 224), 102.5),
}
"""What the network takes, and the MB of its weights."""
ROW = re.compile(
    r"^\| (?P<model>[^|]+), 8 \| [^|]+ \| (?P<dimple>[\d,.]+) \([^|]+\| [^|]+\| (?P<engine>[\d,.]+) \(", re.MULTILINE
)
"""Columns: Multi Model Server, Dimple, their ratio, the engine alone; each with its least and most in brackets."""
TABLE = re.compile(r"### Requests per second\n(.*?)\n###", re.DOTALL)
MACHINE = re.compile(r"^\| cores \| (\d+) \|", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """Milliseconds of one core that a request takes: for the engine, for HTTP and the picture, and for the hop."""

    model: str
    engine: float
    front: float
    hop: float = 0.0


def costs_of(document: str, hop: float) -> list[Cost]:
    """Read docs/performance.md: eight connections keep all cores busy, so the time is cores over requests a second.

    :param hop: milliseconds of a core that the way to a replica takes; of a machine that was measured.
    :raises ValueError: if the document has no such table.
    """
    cores, found = MACHINE.search(document), TABLE.search(document)
    if not (cores and found):
        raise ValueError("the document has no requests per second: run make bench")
    rows = [match.groupdict() for match in ROW.finditer(found[1])]
    each = [
        (row["model"], *(1000 * int(cores[1]) / float(row[key].replace(",", "")) for key in ("dimple", "engine")))
        for row in rows
    ]
    # a server may be faster than the engine alone, whose rounds are others; then all of its time counts as the engine's
    return [Cost(model, min(engine, dimple), max(0.0, dimple - engine), hop) for model, dimple, engine in each]


@dataclass(frozen=True)
class Need:
    """The resources for a load: machines, network (Gbit/s), dollars per million requests."""

    fronts: int
    nodes: int
    gigabits_in: float
    gigabits_hop: float
    dollars: float


def whole(cost: Cost, rate: float = RATE) -> Need:
    """Return what a load takes if every machine is a whole server, behind a balancer."""
    spent = cost.engine + cost.front
    return Need(_machines(spent, rate), 0, _gigabits(JPEG_BYTES, rate), 0.0, _dollars(spent))


def cluster(cost: Cost, rate: float = RATE) -> Need:
    """Return what a load takes with fronts and nodes, and the tensor (float32) on its way between them."""
    shape, _ = MODELS[cost.model]
    front, spent = cost.front + cost.hop, cost.engine + cost.front + cost.hop
    return Need(
        _machines(front, rate),
        _machines(cost.engine, rate),
        _gigabits(JPEG_BYTES, rate),
        _gigabits(4 * math.prod(shape), rate),
        _dollars(spent),
    )


def _machines(milliseconds: float, rate: float) -> int:
    return math.ceil(rate * milliseconds / 1000 / USED / CORES)


def _gigabits(size: int, rate: float) -> float:
    return 8 * size * rate / 1e9


def _dollars(milliseconds: float) -> float:
    """Return the dollars for a million requests, in core-hours of which a part is used."""
    return 1e6 * milliseconds / 1000 / 3600 / USED * CORE_HOUR


def report(document: str, hop: float) -> str:
    """Return the tables for docs/scaling.md."""
    costs = [cost for cost in costs_of(document, hop) if cost.model in MODELS]
    rows = [(cost.model, number(cost.engine), number(cost.front), number(cost.hop)) for cost in costs]
    text = table(("one request, in ms of a core", "engine", "HTTP and picture", "the hop"), rows) + "\n"
    rows = [
        (
            cost.model,
            f"{whole(cost).fronts:,}",
            f"{cluster(cost).fronts:,} + {cluster(cost).nodes:,}",
            f"{whole(cost).gigabits_in:,.0f}",
            f"{cluster(cost).gigabits_hop:,.0f}",
            f"{whole(cost).dollars:.2f}",
            f"{cluster(cost).dollars:.2f}",
        )
        for cost in costs
    ]
    head = (
        f"{RATE:,.0f} requests/s",
        "whole servers",
        "fronts + nodes",
        "pictures in (Gbit/s)",
        "tensors between (Gbit/s)",
        "whole servers ($/million)",
        "cluster ($/million)",
    )
    return text + table(head, rows)
