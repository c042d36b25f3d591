"""Rows of the table of models, and the charts of a model's last 24 hours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.serving.custom_model import CustomModel
from app.serving.loader import Entry
from app.serving.management import describe
from app.serving.serializers import entry_document
from app.telemetry.history import MINUTES, History, Minute, quantile
from app.telemetry.multiprocess import Count, counts
from app.web.pages.about import folder_bytes, public_text
from app.web.request import services

SPARK_MINUTES = 60
DAY_STEP = 10
"""Minutes in a step of the charts of 24 hours."""


def model_rows(entries: Sequence[Entry] | None = None) -> list[dict[str, Any]]:
    """Return a row for each of some models, by default for every model."""
    entries = services().registry.entries() if entries is None else entries
    counted = counts()
    history = _history().read_each([entry.name for entry in entries], time.time(), SPARK_MINUTES)
    return [_row(entry, counted.get(entry.name, Count()), history[entry.name]) for entry in entries]


def _row(entry: Entry, counted: Count, history: list[Minute]) -> dict[str, Any]:
    """Return a model's facts, counts, latencies in seconds and requests of the last hour, without server paths."""
    document = entry_document(entry)
    if "reason" in document:
        document["reason"] = public_text(document["reason"])
    workers = describe(entry)["workers"]
    numbers = {key: getattr(counted, key) for key in ("requests", "errors", "inside", "seconds")}
    return {
        **{key: value for key, value in document.items() if key not in ("labels", "input")},
        "url": entry.registration.url,
        "min_workers": entry.registration.min_workers,
        "workers": [worker["status"] for worker in workers],
        "counts": numbers,
        "p50": quantile(counted.buckets, 0.5),
        "p95": quantile(counted.buckets, 0.95),
        "bytes": _bytes(entry, workers),
        "recent": _per_minute(history, SPARK_MINUTES),
    }


def _bytes(entry: Entry, workers: list[dict[str, Any]]) -> int:
    """Return the memory of a model's own processes, or else the size of its network."""
    if isinstance(entry.model, CustomModel):
        return sum(worker["memoryUsage"] for worker in workers)
    return folder_bytes(Path(entry.registration.path))


def _history() -> History:
    return History(services().settings.instance_dir / "history.ring")


def _per_minute(history: list[Minute], minutes: int) -> list[int]:
    """Return the requests of each of the last minutes, the oldest first."""
    requests, last = [0] * minutes, int(time.time() // 60) - 1
    for item in history:
        if 0 <= last - item.minute < minutes:
            requests[minutes - 1 - (last - item.minute)] += item.requests
    return requests


def last_day(name: str) -> dict[str, Any]:
    """Return the last 24 hours of a model as charts: requests, failures and latencies in steps of ten minutes."""
    steps = MINUTES // DAY_STEP
    now = int(time.time() // 60)
    rows = [[0.0] * steps for _ in range(4)]
    total = errors = 0
    for item in _history().read(name, time.time()):
        place = steps - 1 - (now - 1 - item.minute) // DAY_STEP
        if not 0 <= place < steps:
            continue
        total, errors = total + item.requests, errors + item.errors
        rows[0][place] += item.requests
        rows[1][place] += item.errors
        rows[2][place] = max(rows[2][place], item.p50 * 1000)
        rows[3][place] = max(rows[3][place], item.p95 * 1000)
    titles = ("Requests in 10 minutes", "Errors in 10 minutes", "Median latency, ms", "95th percentile, ms")
    return {
        "requests": total,
        "errors": errors,
        "charts": [
            {"title": title, "most": max(row), "points": sparkline(row)}
            for title, row in zip(titles, rows, strict=True)
        ],
    }


def sparkline(values: Sequence[float]) -> str:
    """Return the points of a line in a box of 100 x 30, the first value at the left; the largest is at the top."""
    most = max(values, default=0) or 1
    width = 100 / max(1, len(values) - 1)
    return " ".join(f"{place * width:.1f},{29 - 28 * value / most:.1f}" for place, value in enumerate(values))
