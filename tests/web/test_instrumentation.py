"""The id of a request."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from app import create_app
from app.settings import Settings


@pytest.mark.parametrize("style", ["gunicorn", "json", "mms"])
@pytest.mark.parametrize("path", ["/ping", "/healthz", "/", "/nowhere"])
def test_the_request_id_of_the_client_is_used_except_in_the_mms_style(style: str, path: str, tmp_path: Path) -> None:
    client = create_app(Settings(log_style=style, instance_dir=tmp_path)).test_client()
    first, second = (client.get(path, headers={"X-Request-Id": "mine"}).headers.getlist("x-request-id") for _ in "ab")
    if style != "mms":
        assert first == second == ["mine"]
        return
    # Multi Model Server gives each a random UUID
    assert {uuid.UUID(item).version for item in (*first, *second)} == {4}
    assert first != second
