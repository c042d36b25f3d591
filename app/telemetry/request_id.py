"""The id of a request in the logs: the client's own if it is valid, else a new one."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

HEADER = "X-Request-Id"
FIT = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""Pattern of a valid id, without characters that could end a line, close a quote or act as mark-up."""
ENVIRON_KEY = "dimple.facts"
"""Key of the WSGI environment for the application's data for the access log: a dictionary of texts."""

current: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this thread answers; empty between requests."""


def request_id_of(header: str | None) -> str:
    """Return the id of a request with the header value ``header``."""
    return header if header and FIT.fullmatch(header) else str(uuid.uuid4())
