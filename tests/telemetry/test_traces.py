"""Traces sent to a collector, which reads them as the protocol's own definition has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.errors import SettingError
from app.settings import ROOT, Settings
from app.telemetry.tracing import trace_endpoint
from tests.helpers import wait_until
from tests.telemetry.conftest import Collector, Watched

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # of W3C Trace Context's own example


def texts(span: Span) -> dict[str, str | int]:
    return {attribute.key: attribute.value.string_value or attribute.value.int_value for attribute in span.attributes}


def test_a_trace_is_continued_with_a_span_for_each_stage(
    watched: Watched, collector: Collector, portrait: Path
) -> None:
    header = f"00-{TRACE}-{PARENT}-01"
    watched.ask("POST", "/predict/smile", portrait.read_bytes(), traceparent=header, X_Request_Id="traced")

    def of_trace() -> dict[str, Span]:
        found = {span.name: span for span in collector.spans() if span.trace_id.hex() == TRACE}
        return found if "POST /predict/<model>" in found else {}

    spans = wait_until(of_trace, 0.05)
    names = [span.name for span in collector.spans() if span.trace_id.hex() == TRACE]
    assert len(names) == len(set(names)), "the worker that read only its head has left a span of its own"
    request = spans.pop("POST /predict/<model>")
    assert request.parent_span_id.hex() == PARENT
    assert request.kind == Span.SPAN_KIND_SERVER
    span_attributes = texts(request)
    assert (span_attributes["http.route"], span_attributes["http.response.status_code"]) == ("/predict/<model>", 200)
    assert (span_attributes["dimple.model"], span_attributes["dimple.request_id"]) == ("smile", "traced")
    assert set(spans) == {"decode", "faces", "preprocess", "queue", "infer"}
    for item in spans.values():
        assert item.parent_span_id == request.span_id
        assert request.start_time_unix_nano <= item.start_time_unix_nano <= item.end_time_unix_nano
        assert item.end_time_unix_nano <= request.end_time_unix_nano
    begun = [spans[name].start_time_unix_nano for name in ("decode", "faces", "preprocess", "queue", "infer")]
    assert begun == sorted(begun)
    assert collector.service_names() == {"dimple"}


def test_an_unsampled_trace_is_not_exported(watched: Watched, collector: Collector) -> None:
    other = "1" * 32
    watched.ask("GET", "/healthz", traceparent=f"00-{other}-{PARENT}-00")
    watched.ask("GET", "/healthz", traceparent=f"00-{'2' * 32}-{PARENT}-01")
    wait_until(lambda: [span for span in collector.spans() if span.trace_id.hex() == "2" * 32], 0.05)
    assert not [span for span in collector.spans() if span.trace_id.hex() == other]


@pytest.mark.parametrize(
    ("setting", "environ", "expected"),
    [
        ("", {}, ""),
        ("http://a:4318", {}, "http://a:4318/v1/traces"),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4318/"}, "http://b:4318/v1/traces"),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/traces"}, "https://c/traces"),
        ("http://a", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b"}, "http://a/v1/traces"),
        ("http://a", {"OTEL_SDK_DISABLED": "true"}, ""),
        ("http://a", {"OTEL_TRACES_EXPORTER": "none"}, ""),
    ],
)
def test_the_collector_is_taken_from_the_setting_or_the_standard_variables(
    setting: str, environ: dict[str, str], expected: str
) -> None:
    assert trace_endpoint(Settings(trace_endpoint=setting), environ) == expected


def test_an_invalid_collector_address_is_refused() -> None:
    with pytest.raises(SettingError, match=r"DIMPLE_TRACE_ENDPOINT.*collector:4317"):
        trace_endpoint(Settings(trace_endpoint="collector:4317"), {})


def test_missing_packages_are_an_error_that_says_how_to_install_them(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"  # as if it were not installed
        "from app import create_app\n"
        "from app.errors import SettingError\n"
        "try:\n    create_app()\nexcept SettingError as error:\n    print(error)\n"
    )
    environ = {name: text for name, text in os.environ.items() if not name.startswith(("DIMPLE_", "OTEL_"))}
    environ |= {"DIMPLE_INSTANCE_DIR": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environ
    )
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in done.stdout
    assert "pip install -r requirements-otel.txt" in done.stdout
