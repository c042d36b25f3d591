"""One metric, and how it is written."""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from mms.metrics.dimension import Dimension
from mms.metrics.unit import Units

MetricUnit = Units()


class Metric:
    """A value with a name, a unit and dimensions. A unit that is not one of :class:`Units` stays as it is."""

    def __init__(
        self,
        name: str,
        value: Any,
        unit: str | None,
        dimensions: Sequence[Dimension],
        request_id: str | None = None,
        metric_method: str | None = None,
    ) -> None:
        self.name = name
        self.value = value
        self.unit = MetricUnit.units.get(unit, unit)
        self.dimensions = dimensions
        self.request_id = request_id
        self.metric_method = metric_method

    def update(self, value: Any) -> None:
        """Add to a counter; replace any other value."""
        self.value = self.value + value if self.metric_method == "counter" else value

    def __str__(self) -> str:
        dimensions = ",".join(map(str, self.dimensions))
        line = f"{self.name}.{self.unit}:{self.value}|#{dimensions}|#hostname:{socket.gethostname()},{int(time.time())}"
        return f"{line},{self.request_id}" if self.request_id else line

    def to_dict(self) -> OrderedDict[str, Any]:
        """Return the metric as JSON has it, with its dimensions as objects."""
        return OrderedDict(
            MetricName=self.name,
            Value=self.value,
            Unit=self.unit,
            Dimensions=self.dimensions,
            Timestamp=int(time.time()),
            HostName=socket.gethostname(),
            RequestId=self.request_id,
        )
