from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.telemetry import history as module
from app.telemetry.history import MINUTES, RECORD, History, Minute, Recorder, quantile
from app.telemetry.multiprocess import Count

NOW = 1_000_000 * 60.0
INFINITE = float("inf")


def minute(number: int, requests: int = 1) -> Minute:
    return Minute(number, requests, 0, 0.5, 0.75)


def test_minutes_are_read_by_model_in_chronological_order(tmp_path: Path) -> None:
    ring = History(tmp_path / "history.ring")
    assert ring.read("smile", NOW) == []
    ring.append("smile", minute(999_999, 7))
    ring.append("dogcat", minute(999_998))
    ring.append("smile", minute(999_990))
    assert ring.read("smile", NOW) == [minute(999_990), minute(999_999, 7)]
    assert ring.read("smile", NOW, 5) == [minute(999_999, 7)]
    assert ring.read("smile", NOW + 60 * MINUTES) == []


def test_the_oldest_records_are_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECORDS", 10)
    ring = History(tmp_path / "history.ring")
    for number in range(25):
        ring.append("smile", minute(999_900 + number))
    assert [item.minute for item in ring.read("smile", NOW)] == list(range(999_915, 999_925))
    assert (tmp_path / "history.ring").stat().st_size == 8 + 10 * RECORD.itemsize


def test_a_truncated_file_is_read_up_to_its_end(tmp_path: Path) -> None:
    ring = History(tmp_path / "history.ring")
    for number in range(3):
        ring.append("smile", minute(999_990 + number))
    path = tmp_path / "history.ring"
    path.write_bytes(path.read_bytes()[:-1])
    assert [item.minute for item in ring.read("smile", NOW)] == [999_990, 999_991]


def test_the_difference_of_two_minutes_is_recorded(tmp_path: Path) -> None:
    counts = {"smile": Count(10, 1, 0, 5.0, {0.1: 10.0, 1.0: 10.0, INFINITE: 10.0})}
    ring = History(tmp_path / "history.ring")
    recorder = Recorder(ring, lambda: dict(counts))
    counts["smile"] = Count(14, 2, 0, 9.0, {0.1: 10.0, 1.0: 14.0, INFINITE: 14.0})
    counts["idle"] = Count()
    recorder.record(NOW)
    recorder.record(NOW + 60)  # nothing more
    (only,) = ring.read("smile", NOW + 120)
    assert (only.minute, only.requests, only.errors) == (999_999, 4, 1)
    assert only.p50 == pytest.approx(0.55)  # four requests between 0.1 and 1 s
    assert ring.read("idle", NOW + 120) == []


def test_quantiles_are_those_of_evenly_spread_values() -> None:
    values = np.linspace(0, 1, 10_001)
    buckets = {edge: float((values <= edge).sum()) for edge in (0.1, 0.25, 0.5, 1.0)} | {INFINITE: 10_001.0}
    for share in (0.05, 0.5, 0.9, 0.95):
        assert quantile(buckets, share) == pytest.approx(np.quantile(values, share), abs=1e-3)
    assert quantile({}, 0.5) == 0
    assert quantile({0.1: 0.0, INFINITE: 0.0}, 0.5) == 0
    assert quantile({0.1: 0.0, INFINITE: 5.0}, 0.5) == 0.1  # beyond the last edge there is no knowing
