"""Archives made for the tests, and requests for them."""

from __future__ import annotations

import os
import select
import textwrap
from collections.abc import Mapping
from pathlib import Path

from app.handlers.types import Field, HandlerRequest

DEADLINE = 60.0
"""Seconds after which a test gives up; never waited for where all is well."""


def archive(folder: Path, files: Mapping[str, str]) -> Path:
    """Write an unpacked archive of text files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def request(
    body: bytes = b"",
    content_type: str = "application/octet-stream",
    headers: Mapping[str, str] | None = None,
    request_id: str = "r0",
) -> HandlerRequest:
    """Return a request with a raw body."""
    return HandlerRequest(request_id, (Field("body", content_type, body, True),), headers or {})


def wait_for_end(pid: int) -> bool:
    """Wait until a process has ended, whether it is a child or not; return whether it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], DEADLINE)[0])
    finally:
        os.close(descriptor)
