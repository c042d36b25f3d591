"""A real server of two processes with its metrics, its log and its traces."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.settings import ROOT
from tests.conftest import Server
from tests.helpers import wait_until

SECONDS = 60
HANDLER = """
import os
import time

def handle(data, context):
    if data is None:
        return None
    body = bytes(data[0]["body"])
    if body == b"die":
        os._exit(3)
    if body == b"sleep":
        time.sleep(600)
    return [context.get_request_id(0)]
"""


class Collector(ThreadingHTTPServer):
    """A collector that takes traces as the specification of OTLP/HTTP has it, and stores the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.requests: list[ExportTraceServiceRequest] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def spans(self) -> list[Span]:
        found = [group for request in list(self.requests) for group in request.resource_spans]
        return [span for group in found for scope in group.scope_spans for span in scope.spans]

    def service_names(self) -> set[str]:
        found = [group.resource for request in list(self.requests) for group in request.resource_spans]
        return {
            attribute.value.string_value
            for each in found
            for attribute in each.attributes
            if attribute.key == "service.name"
        }


class _Taker(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Watched(Server):
    """A server, and its telemetry."""

    def ask(self, method: str, path: str, body: bytes = b"", management: bool = False, **headers: str) -> HTTPResponse:
        """Send a request over a connection of its own; the answer's body is in ``answer.text``."""
        port = self.management_port if management else self.port
        connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            answer.text = answer.read().decode()  # type: ignore[attr-defined]
            return answer
        finally:
            connection.close()

    def metrics(self) -> dict[str, Metric]:
        """Return a scrape, read by Prometheus's own parser."""
        answer = self.ask("GET", "/metrics", management=True)
        assert answer.status == 200
        return {family.name: family for family in text_string_to_metric_families(answer.text)}  # type: ignore[attr-defined]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of a sample's values over the labels that are not given."""
        found = [sample for family in self.metrics().values() for sample in family.samples if sample.name == name]
        return sum(item.value for item in found if labels.items() <= item.labels.items())

    def pids(self, kind: str = "server") -> list[int]:
        """Return the numbers of its processes."""
        samples = self.metrics()["dimple_process_resident_memory_bytes"].samples
        return [int(sample.labels["pid"]) for sample in samples if sample.labels["kind"] == kind]

    def lines(self) -> list[dict[str, Any]]:
        """Return the log."""
        return [json.loads(line) for line in self.log.read_bytes().split(b"\n") if line]

    def line_of(self, request_id: str, logger: str = "gunicorn.access") -> dict[str, Any]:
        """Return the log's line about a request. It is written after the answer."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines() if (line.get("request_id"), line["logger"]) == (request_id, logger)]

        line: dict[str, Any] = wait_until(found, 0.05)[0]
        return line


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector
        collector.shutdown()


@pytest.fixture(scope="package")
def watched(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    shutil.copytree(ROOT / "models" / "smile", folder / "models" / "smile")
    (folder / "models" / "echo" / "MAR-INF").mkdir(parents=True)
    manifest = {"runtime": "python", "model": {"modelName": "echo", "handler": "service:handle"}}
    (folder / "models" / "echo" / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    (folder / "models" / "echo" / "service.py").write_text(HANDLER)
    (folder / "instance").mkdir()
    settings = {
        "log_style": "json",
        "metrics_at": "both",
        "shipped_models": "false",
        "default_workers_per_model": 1,
        "trace_endpoint": f"http://127.0.0.1:{collector.server_port}",
    }
    lines = [f"DIMPLE_{name.upper()}={value}" for name, value in settings.items()]
    (folder / "instance" / "settings.env").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        server = Watched(folder / "models", folder)
    try:
        server.wait_until_ready()
        wait_until(lambda: server.value("dimple_workers") == 2, 0.05)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def portrait() -> Path:
    return ROOT / "static" / "astronaut.jpg"
