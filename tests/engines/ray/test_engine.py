"""What the cluster cannot do is answered as what a server itself cannot do."""

from __future__ import annotations

import pytest
from flask import Flask

from app.engines.ray.client import RequestFailed
from app.engines.ray.engine import _as_error, _last_error
from app.engines.ray.spec import Kind
from app.errors import ClusterUnavailable, ModelFormatError, NoReplica, QueueFull, QueueTimeout
from app.web.errors import error_body, mms_error_response


@pytest.mark.parametrize(
    ("kind", "error", "status"),
    [
        ("none", NoReplica, 503),
        ("lost", ClusterUnavailable, 503),
        ("full", QueueFull, 503),
        ("late", QueueTimeout, 503),
        ("wrong", ModelFormatError, 500),
    ],
)
def test_every_reason_has_its_status(kind: Kind, error: type[Exception], status: int, app: Flask) -> None:
    found = _as_error("net", RequestFailed(kind, "the reason"))
    assert type(found) is error
    assert error_body(found).code == status
    if status == 503:
        with app.test_request_context("/predictions/net"):
            answer = mms_error_response(found)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_of_a_stack_trace_of_rays_only_our_own_words_are_told() -> None:
    said = (
        "The deployment failed to start 2 times in a row.\n"
        "Traceback (most recent call last):\n"
        '  File "replica.py", line 1, in initialize\n'
        "app.errors.ModelFormatError: /models/net fails its self-test: of selftest.jpg …\n"
    )
    assert _last_error(said) == "/models/net fails its self-test: of selftest.jpg …"


def test_what_has_none_is_told_by_its_end() -> None:
    assert _last_error("first\n\nsecond\nthird\nfourth\n") == "second third fourth"
