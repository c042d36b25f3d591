"""Log lines as JSON: one object a line, whatever the message holds."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from app.request_id import current

FIELDS = "fields"
"""What a record carries beside its message, as ``extra={FIELDS: {…}}``."""


class JsonFormatter(logging.Formatter):
    """``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, ``process``, ``request_id`` where a request is
    being answered, the record's own fields, and ``exception`` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record. Line ends, quotes and control characters in it are escaped, as JSON has it, and so is all
        that is not ASCII: some readers take more than ``\\n`` for the end of a line."""
        told: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if request_id := current.get():
            told["request_id"] = request_id
        told.update(getattr(record, FIELDS, {}))
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def rfc3339(seconds: float) -> str:
    """A moment as RFC 3339 writes it, in UTC with milliseconds: ``2024-04-23T11:03:33.657Z``."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
