"""Dimensions of metrics."""

from __future__ import annotations

from typing import Any


class Dimension:
    """A property that distinguishes metrics of one name, such as ``Level:Model``."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value

    def __str__(self) -> str:
        return f"{self.name}:{self.value}"

    def to_dict(self) -> dict[str, Any]:
        """Return the dimension as JSON has it."""
        return {"Name": self.name, "Value": self.value}
