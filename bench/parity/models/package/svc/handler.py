"""Answers that it is the package's."""

from __future__ import annotations

from typing import Any


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[str]:
    """Answer every request alike."""
    return ["of the package"] * len(data or ())
