"""The log of a server with log_style=json."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest

from tests.telemetry.conftest import Watched

RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_a_request_is_logged_as_one_object_with_its_response(watched: Watched, portrait: Path) -> None:
    answer = watched.ask("POST", "/predict/smile?top=1", portrait.read_bytes(), X_Request_Id="a1:b2/c3")
    assert answer.headers["X-Request-Id"] == "a1:b2/c3"
    line = watched.line_of("a1:b2/c3")
    assert re.fullmatch(RFC3339, line.pop("time"))
    assert 0 < line.pop("milliseconds") < 60_000
    assert line.pop("process") in watched.pids()
    assert line == {
        "level": "info",
        "logger": "gunicorn.access",
        "message": "POST /predict/smile?top=1 200",
        "request_id": "a1:b2/c3",
        "model": "smile",
        "route": "/predict/<model>",
        "method": "POST",
        "path": "/predict/smile?top=1",
        "status": 200,
        "client": "127.0.0.1",
    }


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", 'a"b', "a\tb", "<b>", "a{b}", "ä".encode().decode("latin-1")])
def test_an_invalid_request_id_is_replaced(watched: Watched, sent: str) -> None:
    given = watched.ask("GET", "/healthz", X_Request_Id=sent).headers["X-Request-Id"]
    assert uuid.UUID(given).version == 4
    assert watched.line_of(given)["route"] == "/healthz"


def test_an_id_may_have_128_characters(watched: Watched) -> None:
    assert watched.ask("GET", "/healthz", X_Request_Id="x" * 128).headers["X-Request-Id"] == "x" * 128


@pytest.mark.parametrize(
    ("path", "management", "status"),
    [
        ("/", False, 200),
        ("/ping", False, 200),
        ("/nowhere", False, 404),
        ("/predictions/nobody", False, 404),
        ("/static/page.css", False, 200),
        ("/models", True, 200),
        ("/metrics", True, 200),
        ("/manage/state", True, 200),
        ("/predict/", True, 404),
    ],
)
def test_every_response_has_the_request_id(watched: Watched, path: str, management: bool, status: int) -> None:
    answer = watched.ask("GET", path, management=management, X_Request_Id="mine")
    assert (answer.status, answer.headers.get_all("X-Request-Id")) == (status, ["mine"])


def test_a_handler_gets_the_same_request_id(watched: Watched) -> None:
    octets = {"Content_Type": "application/octet-stream"}
    answer = watched.ask("POST", "/predictions/echo", b"x", X_Request_Id="the-same", **octets)
    assert answer.text == "the-same"  # type: ignore[attr-defined]


def test_a_line_of_the_application_names_the_request(watched: Watched) -> None:
    body = watched.ask("POST", "/models?url=smile&model_name=grin", management=True, X_Request_Id="of-management")
    assert body.status == 200
    line = watched.line_of("of-management", logger="app.serving.registry")
    assert line["message"] == "model grin registered from smile"
    assert watched.ask("DELETE", "/models/grin", management=True, X_Request_Id="afterwards").status == 200
    messages = [line["message"] for line in watched.lines() if line.get("request_id") == "afterwards"]
    assert "Model grin unregistered." in messages


@pytest.mark.parametrize("path", ["/%0a%7B%22level%22:%22forged%22%7D", "/predict/a%0d%0ab%e2%80%a8c%00", "/%22%5c"])
def test_every_log_line_is_a_json_object(watched: Watched, path: str) -> None:
    given = watched.ask("POST", path).headers["X-Request-Id"]
    assert watched.line_of(given)["path"] == path
    for line in watched.log.read_bytes().split(b"\n"):
        if line:
            fields = json.loads(line)
            assert set(fields) >= {"time", "level", "logger", "message"}
            assert fields["level"] in ("debug", "info", "warning", "error", "critical")
            assert line.isascii()
