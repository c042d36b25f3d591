"""The metrics of a server of several processes."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from tests.helpers import wait_until
from tests.telemetry.conftest import Watched


def test_requests_are_counted_by_model_route_and_code(watched: Watched, portrait: Path) -> None:
    def counts() -> Counter[tuple[str, str, str]]:
        samples = watched.metrics()["dimple_requests"].samples
        return Counter({(s.labels["model"], s.labels["route"], s.labels["code"]): int(s.value) for s in samples})

    before = counts()
    for _ in range(3):
        assert watched.ask("POST", "/predict/smile", portrait.read_bytes()).status == 200
    watched.ask("PUT", "/predictions/smile", portrait.read_bytes())
    watched.ask("POST", "/predict/smile", b"no picture")
    watched.ask("POST", "/predict/nobody-knows-me")
    watched.ask("GET", "/predict/smile")
    watched.ask("GET", "/some/path/of/a/scanner")
    rule = "/predict/<model>"
    assert counts() - before == {
        ("smile", rule, "200"): 3,
        ("smile", "/predictions/<model>", "200"): 1,
        ("smile", rule, "415"): 1,
        ("other", rule, "404"): 1,
        ("", rule, "200"): 1,  # a description needs no model
        ("", "other", "404"): 1,
        ("", "/metrics", "200"): 1,  # the first scrape
    }


def test_the_stages_of_a_request_sum_to_at_most_its_duration(watched: Watched, portrait: Path) -> None:
    def sums() -> dict[str, float]:
        found = watched.metrics()
        stages = found["dimple_stage_duration_seconds"].samples
        seen = {s.labels["stage"]: s.value for s in stages if s.name.endswith("_sum") and s.labels["model"] == "smile"}
        requests = found["dimple_request_duration_seconds"].samples
        own = [s for s in requests if s.labels["model"] == "smile"]
        whole = {"request": sum(s.value for s in own if s.name.endswith("_sum"))}
        return seen | whole | {"count": sum(s.value for s in own if s.name.endswith("_count"))}

    watched.ask("POST", "/predict/smile", portrait.read_bytes())
    before = sums()
    watched.ask("POST", "/predict/smile", portrait.read_bytes())
    grown = {name: value - before[name] for name, value in sums().items()}
    assert grown["count"] == 1
    assert set(grown) == {"decode", "faces", "preprocess", "queue", "infer", "request", "count"}
    stages = [grown[name] for name in ("decode", "faces", "preprocess", "queue", "infer")]
    assert all(0 <= stage < grown["request"] for stage in stages)
    assert 0.5 * grown["request"] < sum(stages) <= grown["request"]


def test_histograms_are_valid_for_prometheus(watched: Watched, portrait: Path) -> None:
    watched.ask("POST", "/predict/smile", portrait.read_bytes())
    for name, family in watched.metrics().items():
        if family.type != "histogram":
            continue
        series: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                key = frozenset((label, text) for label, text in sample.labels.items() if label != "le")
                series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        counts = {
            frozenset(sample.labels.items()): sample.value
            for sample in family.samples
            if sample.name.endswith("_count")
        }
        assert series.keys() == counts.keys(), name
        for key, buckets in series.items():
            values = [value for _, value in sorted(buckets)]
            assert values == sorted(values), name
            assert values[-1] == counts[key], name


def test_the_gauges_of_a_killed_process_are_dropped_and_its_counters_kept(watched: Watched, portrait: Path) -> None:
    for _ in range(4):
        watched.ask("POST", "/predict/smile", portrait.read_bytes())

    def sleep() -> None:
        with suppress(OSError):
            watched.ask("POST", "/predictions/echo", b"sleep", Content_Type="application/octet-stream")

    sleeping = threading.Thread(target=sleep, daemon=True)
    sleeping.start()
    wait_until(lambda: watched.value("dimple_requests_in_flight", model="echo") == 1, 0.05)
    before, starts = watched.value("dimple_requests_total", model="smile"), watched.value("dimple_worker_starts_total")
    seconds = watched.value("dimple_stage_duration_seconds_sum", model="smile")
    # one after the other, until the process that answered the request has ended
    for killed, pid in enumerate(watched.pids(), 1):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(pid), 0.05)  # noqa: B023
        wait_until(lambda: watched.value("dimple_worker_starts_total") == starts + killed, 0.05)  # noqa: B023
        assert watched.value("dimple_workers") == 2
        assert pid not in watched.pids()
        if watched.value("dimple_requests_in_flight", model="echo") == 0:
            break
    else:
        raise AssertionError("what a killed process was answering, it answers still")
    assert watched.value("dimple_requests_total", model="smile") == before
    assert watched.value("dimple_stage_duration_seconds_sum", model="smile") == pytest.approx(seconds)
    watched.ask("POST", "/predict/smile", portrait.read_bytes())
    assert watched.value("dimple_requests_total", model="smile") == before + 1
    (folder,) = (watched.log.parent / "instance" / "metrics").iterdir()
    wait_until(lambda: watched.value("dimple_workers") == 2 and len(list(folder.glob("*.db"))) == 3 * 3 + 2, 0.05)
    sleeping.join(10)
    # no client waits for its answer any more, but the handler still sleeps: later tests need another one
    (handler,) = watched.pids("handler")
    os.kill(handler, signal.SIGKILL)
    wait_until(lambda: watched.pids("handler") not in ([], [handler]), 0.05)


def test_restarts_and_memory_of_handlers_are_metrics(watched: Watched) -> None:
    before = watched.value("dimple_handler_restarts_total", model="echo")
    wait_until(lambda: len(watched.pids("handler")) == 1, 0.05)
    octets = {"Content_Type": "application/octet-stream"}
    assert watched.ask("POST", "/predictions/echo", b"die", **octets).status == 500
    wait_until(lambda: watched.value("dimple_handler_restarts_total", model="echo") == before + 1, 0.05)
    for name in ("dimple_process_resident_memory_bytes", "dimple_process_proportional_memory_bytes"):
        samples = watched.metrics()[name].samples
        assert {sample.labels["model"] for sample in samples if sample.labels["kind"] == "handler"} <= {"echo"}
        assert all(sample.value > 2**20 for sample in samples)
    pid = watched.pids()[0]
    memory = watched.value("dimple_process_resident_memory_bytes", pid=str(pid))
    assert memory == pytest.approx(psutil.Process(pid).memory_info().rss, rel=0.2)


def test_models_and_their_loading_times_are_metrics(watched: Watched) -> None:
    assert watched.value("dimple_model_up", model="smile", engine="openvino") == 1
    wait_until(lambda: watched.value("dimple_model_up", model="echo", engine="handler") == 1, 0.05)
    starts = watched.value("dimple_worker_starts_total")
    assert watched.value("dimple_worker_start_duration_seconds_count") == starts
    assert watched.value("dimple_model_load_duration_seconds_count", model="smile") == starts
    loading = watched.value("dimple_model_load_duration_seconds_sum")
    assert 0 < loading <= watched.value("dimple_worker_start_duration_seconds_sum")


def test_openmetrics_is_served_on_request(watched: Watched) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    answer = watched.ask("GET", "/metrics", management=True, Accept=accept)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    text = answer.text  # type: ignore[attr-defined]
    assert text.endswith("# EOF\n")
    names = {family.name for family in openmetrics(text)}
    assert names == set(watched.metrics())


def test_metrics_are_served_at_the_configured_ports_to_get_and_head(watched: Watched) -> None:
    assert watched.ask("GET", "/metrics").status == 200
    head = watched.ask("HEAD", "/metrics", management=True)
    assert (head.status, head.text) == (200, "")  # type: ignore[attr-defined]
    assert head.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert watched.ask(method, "/metrics").status == 405
