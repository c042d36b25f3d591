"""The measurements, as they are stored in ``performance.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.utils.files import atomic_write

MMS, DIMPLE, TUTORIAL, ENGINE = "mms", "dimple", "tutorial", "engine"
BENTOML, LITSERVE = "bentoml", "litserve"
PEERS = (BENTOML, LITSERVE)
SERVERS = (MMS, DIMPLE, *PEERS, TUTORIAL, ENGINE)


@dataclass(frozen=True)
class Cell:
    """One load on one network of one server.

    :param round: counted from 0.
    :param connections: clients at a time; threads if there is no HTTP.
    :param per_second: answered requests.
    :param p50: milliseconds; ``p99`` likewise.
    :param lost: requests without an answer.
    :param refused: requests answered with another status than 200.
    """

    round: int
    server: str
    model: str
    connections: int
    per_second: float
    p50: float
    p99: float
    complete: int
    lost: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Run:
    """One server from its start to its end.

    :param start_seconds: from the command to the moment when every network has answered once.
    :param pss: proportional set size of all its processes after the load, MiB: shared pages are counted once.
    :param rss: resident set size, MiB: shared pages are counted in every process.
    """

    round: int
    server: str
    start_seconds: float
    pss: float
    rss: float
    processes: int


@dataclass(frozen=True)
class Step:
    """The time of the mean request of Dimple in milliseconds by step. ``http`` is the rest of the client's waiting
    time, which the ``timing_ms`` of the answer does not report.
    """

    model: str
    connections: int
    milliseconds: Mapping[str, float]


@dataclass
class Record:
    """All results. ``agreement`` is the largest difference of a probability between the two servers, by network."""

    machine: dict[str, str]
    options: dict[str, Any]
    origins: dict[str, str]
    cells: list[Cell] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    profile: list[Step] = field(default_factory=list)
    agreement: dict[str, float] = field(default_factory=dict)


def write_record(record: Record, path: Path) -> None:
    """Write the record as JSON; the file appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(asdict(record), indent=1) + "\n")


def read_record(path: Path) -> Record:
    """Read what :func:`write_record` wrote."""
    document = json.loads(path.read_text())
    kinds = {"cells": Cell, "runs": Run, "profile": Step}
    made = {key: [kinds[key](**item) for item in value] if key in kinds else value for key, value in document.items()}
    return Record(**made)
