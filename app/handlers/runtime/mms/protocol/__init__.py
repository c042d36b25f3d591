"""The messages between Multi Model Server's front end and its workers."""

from __future__ import annotations

from mms.protocol import otf_message_handler

__all__ = ["otf_message_handler"]
