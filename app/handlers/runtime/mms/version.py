"""The version of Multi Model Server that this package stands in for."""

from __future__ import annotations

__version__ = "1.1.11"
