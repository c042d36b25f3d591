"""The requests of each model over the last 24 hours, minute by minute, in one small file.

The file is a ring of records: a minute in which a model had requests takes one, and when the ring is full the oldest
record is overwritten. One process of the server writes; any process reads. The file outlives the server.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.telemetry.multiprocess import Count, counts
from app.utils.files import file_lock

MINUTES = 24 * 60
RECORD = np.dtype(
    [("minute", "<u4"), ("errors", "<u4"), ("model", "<u8"), ("requests", "<u4"), ("p50", "<f4"), ("p95", "<f4")]
)
RECORDS = 2**16
"""Records of the ring (1.8 MB): 45 models with requests in every minute of 24 hours."""
HEADER = 8
"""Bytes of the number of records that were ever written."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Minute:
    """A minute of a model: its number since 1970, requests, failed requests among them, and latencies in seconds."""

    minute: int
    requests: int
    errors: int
    p50: float
    p95: float


class History:
    """The ring in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, model: str, minute: Minute) -> None:
        """Add a record. Only one process may do this at a time.

        :raises OSError: if the file cannot be written.
        """
        record = np.array(
            [(minute.minute, minute.errors, _key(model), minute.requests, minute.p50, minute.p95)], RECORD
        )
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = int.from_bytes(os.pread(file, HEADER, 0), "little")
            os.pwrite(file, record.tobytes(), HEADER + RECORD.itemsize * (written % RECORDS))
            os.pwrite(file, (written + 1).to_bytes(HEADER, "little"), 0)  # last: a reader finds whole records
        finally:
            os.close(file)

    def read(self, model: str, now: float, minutes: int = MINUTES) -> list[Minute]:
        """Return the minutes of a model that had requests, the oldest first; empty if the file cannot be read.

        :param now: in seconds since 1970.
        """
        return self.read_each([model], now, minutes)[model]

    def read_each(self, models: Iterable[str], now: float, minutes: int = MINUTES) -> dict[str, list[Minute]]:
        """Return the minutes of several models, as :meth:`read`, from one reading of the file."""
        try:
            data = self._path.read_bytes()[HEADER:]
        except OSError:
            data = b""
        records = np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], RECORD)
        recent = records[records["minute"] > now // 60 - minutes]
        recent = recent[np.argsort(recent["minute"], kind="stable")]
        return {model: [_minute(row) for row in recent[recent["model"] == _key(model)]] for model in models}


def record_history(path: Path) -> None:
    """Start a thread that records every minute, for as long as this process lives and holds the lock of the file.

    The workers of a server share the lock: one records, and when it ends another takes over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    threading.Thread(target=_record, args=(path,), name="history", daemon=True).start()


def _record(path: Path) -> None:
    with file_lock(path.with_suffix(".lock")):
        recorder = Recorder(History(path), counts)
        while True:
            time.sleep(60 - time.time() % 60)
            recorder.record(time.time())


class Recorder:
    """The difference between the counts of two minutes, recorded in a history.

    :param read: function that returns the counts by model.
    """

    def __init__(self, history: History, read: Callable[[], Mapping[str, Count]]) -> None:
        self._history = history
        self._read = read
        self._before = read()

    def record(self, now: float) -> None:
        """Record the time since the last call as the minute that has just ended. A full disk loses it.

        :param now: in seconds since 1970.
        """
        after = self._read()
        for model, count in after.items():
            before = self._before.get(model, Count())
            if count.requests <= before.requests:
                continue
            buckets = {edge: total - before.buckets.get(edge, 0.0) for edge, total in count.buckets.items()}
            minute = Minute(
                round(now) // 60 - 1,
                count.requests - before.requests,
                count.errors - before.errors,
                quantile(buckets, 0.5),
                quantile(buckets, 0.95),
            )
            try:
                self._history.append(model, minute)
            except OSError as error:
                log.warning("the history cannot be written: %s", error.strerror)
                break
        self._before = after


def quantile(buckets: Mapping[float, float], share: float) -> float:
    """Return a quantile of a histogram in seconds, by linear interpolation as in Prometheus; 0 if it is empty.

    :param buckets: cumulative counts by upper edge; the last edge is infinite.
    :param share: 0-1.
    """
    edges = sorted(buckets)
    total = buckets[edges[-1]] if edges else 0.0
    if total <= 0:
        return 0.0
    rank, below, lower = share * total, 0.0, 0.0
    for edge in edges:
        if buckets[edge] >= rank:
            if edge == float("inf"):
                return lower
            inside = buckets[edge] - below
            return lower + (edge - lower) * ((rank - below) / inside if inside else 1.0)
        below, lower = buckets[edge], edge
    return lower


def _minute(row: Any) -> Minute:
    numbers = int(row["minute"]), int(row["requests"]), int(row["errors"])
    return Minute(*numbers, float(row["p50"]), float(row["p95"]))


def _key(model: str) -> NDArray[np.uint64]:
    return np.frombuffer(hashlib.blake2b(model.encode(), digest_size=8).digest(), "<u8")[0]  # type: ignore[no-any-return]
