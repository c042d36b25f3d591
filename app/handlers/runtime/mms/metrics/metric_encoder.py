"""Metrics as JSON."""

from __future__ import annotations

import json
from typing import Any

from mms.metrics.dimension import Dimension
from mms.metrics.metric import Metric


class MetricEncoder(json.JSONEncoder):
    """Write metrics and their dimensions as the objects that their ``to_dict`` returns."""

    def default(self, o: Any) -> Any:
        """Return what JSON can write in the place of an object.

        :raises TypeError: if it is neither a metric nor a dimension.
        """
        return o.to_dict() if isinstance(o, Metric | Dimension) else super().default(o)
