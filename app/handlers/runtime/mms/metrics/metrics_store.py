"""The metrics of one batch."""

from __future__ import annotations

from typing import Any

from mms.metrics.dimension import Dimension
from mms.metrics.metric import Metric


class MetricsStore:
    """Collects metrics. One of the same name, unit, request and dimensions is replaced; a counter is added to.

    :param request_ids: the batch's request ids by their index; a metric without an index belongs to all of them.
    """

    def __init__(self, request_ids: Any, model_name: str) -> None:
        self.store: list[Metric] = []
        self.request_ids = request_ids
        self.model_name = model_name
        self.cache: dict[str, Metric] = {}

    def add_counter(self, name: str, value: Any, idx: int | None = None, dimensions: Any = None) -> None:
        """Add to a counter."""
        self._put(name, value, self._ids(idx), "count", dimensions, "counter")

    def add_time(self, name: str, value: Any, idx: int | None = None, unit: str = "ms", dimensions: Any = None) -> None:
        """Set a time, in ``ms`` or ``s``.

        :raises ValueError: where the unit is another.
        """
        if unit not in ("ms", "s"):
            raise ValueError("the unit for a timed metric should be one of ['ms', 's']")
        self._put(name, value, self._ids(idx), unit, dimensions)

    def add_size(self, name: str, value: Any, idx: int | None = None, unit: str = "MB", dimensions: Any = None) -> None:
        """Set a size, in ``MB``, ``kB``, ``GB`` or ``B``.

        :raises ValueError: where the unit is another.
        """
        if unit not in ("MB", "kB", "GB", "B"):
            raise ValueError("The unit for size based metric is one of ['MB','kB', 'GB', 'B']")
        self._put(name, value, self._ids(idx), unit, dimensions)

    def add_percent(self, name: str, value: Any, idx: int | None = None, dimensions: Any = None) -> None:
        """Set a percentage."""
        self._put(name, value, self._ids(idx), "percent", dimensions)

    def add_error(self, name: str, value: Any, dimensions: Any = None) -> None:
        """Set an error, which belongs to no request."""
        self._put(name, value, None, "", dimensions)

    def add_metric(
        self, name: str, value: Any, idx: int | None = None, unit: str | None = None, dimensions: Any = None
    ) -> None:
        """Set a metric of any unit."""
        self._put(name, value, self._ids(idx), unit, dimensions)

    def _ids(self, idx: int | None) -> Any:
        """Return the id of one request, or the ids of all, joined by commas."""
        if not isinstance(self.request_ids, dict):
            return self.request_ids
        return self.request_ids.get(idx) or ",".join(self.request_ids.values())

    def _put(
        self, name: str, value: Any, request: Any, unit: str | None, dimensions: Any, method: str | None = None
    ) -> None:
        if not (dimensions is None or isinstance(dimensions, list)):
            raise ValueError("Please provide a list of dimensions")
        model = [Dimension("ModelName", self.model_name), Dimension("Level", "Model")]
        every = [*(dimensions or []), *([Dimension("Level", "Error")] if request is None else model)]
        key = "-".join([name, str(unit), str(request), *map(str, every)])
        if key in self.cache:
            self.cache[key].update(value)
        else:
            self.cache[key] = Metric(name, value, unit, every, request, method)
            self.store.append(self.cache[key])
