"""The id by which a request is found again in the logs: the client's own where it sends a fit one, else a new one."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

HEADER = "X-Request-Id"
FIT = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""Nothing that could end a line, close a quote or be mark-up where an id is shown."""
ENVIRON_KEY = "dimple.facts"
"""Where a request's environment tells the access log what the application knows of it: a dictionary of texts."""

current: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that this thread answers; empty between requests."""


def request_id_of(header: str | None) -> str:
    """Return the id of a request whose client has sent ``header``."""
    return header if header and FIT.fullmatch(header) else str(uuid.uuid4())
