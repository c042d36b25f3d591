from __future__ import annotations

from tests.kinds.table import table

__all__ = ["table"]
