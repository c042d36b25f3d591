"""The id by which a request is found again in the logs: the client's own where it sends a fit one, else a new one."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

HEADER = "X-Request-Id"
FIT = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""Nothing that could end a line, close a quote or be mark-up where an id is shown."""
FACTS = "dimple.facts"
"""Where a request's environment tells the access log what the application knows of it: a dictionary of texts."""

current: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that this thread answers; empty between requests."""


def request_id_of(told: str | None) -> str:
    """The id of a request whose client has sent ``told``."""
    return told if told and FIT.fullmatch(told) else str(uuid.uuid4())
