"""The figures of the report: ratios of the same round, their spread, and the goals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from bench.perf.records import DIMPLE, ENGINE, MMS, PEERS, Cell, Record, Run
from bench.perf.subjects import INT8, PHOTOGRAPH, RESNET, ROWS, SMILE, SQUEEZENET


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread | None:
    """Return median, minimum and maximum; None for an empty list."""
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def ratios(ours: dict[int, float], theirs: dict[int, float]) -> list[float]:
    """Return one ratio for every round that has both figures: other rounds had other neighbours on the machine."""
    return [ours[number] / theirs[number] for number in sorted(ours) if theirs.get(number)]


def by_round(
    record: Record, server: str, model: str, connections: int, figure: Callable[[Cell], float]
) -> dict[int, float]:
    """Return a figure of the same cell in every round."""
    key = (server, model, connections)
    return {cell.round: figure(cell) for cell in record.cells if (cell.server, cell.model, cell.connections) == key}


def of_runs(record: Record, server: str, figure: Callable[[Run], float]) -> dict[int, float]:
    """Return a figure of the same server in every round."""
    return {run.round: figure(run) for run in record.runs if run.server == server}


per_second, p50, p99 = attrgetter("per_second"), attrgetter("p50"), attrgetter("p99")
pss, rss, start_seconds = attrgetter("pss"), attrgetter("rss"), attrgetter("start_seconds")
"""Figures of a cell, and of a run."""


@dataclass(frozen=True)
class Goal:
    """A goal: a ratio to MMS (or to the engine alone) of at most, or at least, ``limit``."""

    model: str
    what: str
    limit: float
    at_least: bool
    measured: Spread | None

    @property
    def reached(self) -> bool | None:
        """Return whether the median reaches the goal; None if it was not measured."""
        if self.measured is None:
            return None
        return self.measured.median >= self.limit if self.at_least else self.measured.median <= self.limit


LIMITS = {
    SMILE: (0.30, 4.0, 0.35),
    SQUEEZENET: (0.50, 1.7, 0.60),
    RESNET: (0.50, 1.2, 0.90),
    PHOTOGRAPH: (0.15, 6.0, 0.20),
    INT8: (0.30, 2.1, 0.50),
}
"""Of the latency at 1 connection, the requests a second at 8, and the 99th percentile at 8."""
MEMORY, START, OF_ENGINE = 0.45, 0.40, 0.93


def goals(record: Record) -> list[Goal]:
    """Return every goal, with its measurement."""
    found = [goal for model in ROWS if _has(record, model) for goal in _of_model(record, model)]
    for what, limit, figure in (
        ("resident memory (PSS)", MEMORY, pss),
        ("start to first answers", START, start_seconds),
    ):
        measured = spread(ratios(of_runs(record, DIMPLE, figure), of_runs(record, MMS, figure)))
        found.append(Goal("", what, limit, False, measured))
    for model in (SQUEEZENET, RESNET):
        for peer in PEERS:
            for connections in (8, 100):
                measured = to(record, peer, model, connections, per_second)
                if measured:
                    found.append(Goal(model, f"requests/s at {connections}, to {peer}'s", 1.0, True, measured))
    if _has(record, RESNET):
        found.append(
            Goal(RESNET, "requests/s at 8, to the engine alone", OF_ENGINE, True, of_engine(record, RESNET, 8))
        )
    return found


def _of_model(record: Record, model: str) -> list[Goal]:
    latency, rate, tail = LIMITS[model]
    return [
        Goal(model, "p50 at 1 connection", latency, False, to_mms(record, model, 1, p50)),
        Goal(model, "requests/s at 8", rate, True, to_mms(record, model, 8, per_second)),
        Goal(model, "p99 at 8", tail, False, to_mms(record, model, 8, p99)),
        Goal(model, "p99 at 100", 1.0, False, to_mms(record, model, 100, p99)),
        Goal(model, "lost or refused at 100", 0.0, False, spread(list(lost(record, model, 100)))),
    ]


def _has(record: Record, model: str) -> bool:
    return any(cell.model == model for cell in record.cells)


def to(record: Record, peer: str, model: str, connections: int, figure: Callable[[Cell], float]) -> Spread | None:
    """Return Dimple's figure as a part of another server's."""
    ours, theirs = (by_round(record, server, model, connections, figure) for server in (DIMPLE, peer))
    return spread(ratios(ours, theirs))


def to_mms(record: Record, model: str, connections: int, figure: Callable[[Cell], float]) -> Spread | None:
    """Return Dimple's figure as a part of MMS's."""
    return to(record, MMS, model, connections, figure)


def of_engine(record: Record, model: str, connections: int) -> Spread | None:
    """Return Dimple's requests a second as a part of what its engine answers without HTTP."""
    return to(record, ENGINE, model, connections, per_second)


def lost(record: Record, model: str, connections: int, server: str = DIMPLE) -> list[float]:
    """Return the number of requests that were not answered with 200, by round."""
    return list(by_round(record, server, model, connections, lambda item: item.lost + item.refused).values())
