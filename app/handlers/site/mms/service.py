"""A loaded handler with its context, the error that it may raise, and the metrics that it leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from mms.context import Context
from mms.metrics.metric import Metric
from mms.version import __version__

PREDICTION_METRIC = "PredictionTime"

EntryPoint = Callable[[Any, Context], Any]


class Service:
    """A handler's entry point and the context that it is called with."""

    def __init__(
        self,
        model_name: str,
        model_dir: str,
        manifest: dict[str, Any] | None,
        entry_point: EntryPoint,
        gpu: int | None,
        batch_size: int,
    ) -> None:
        self._context = Context(model_name, model_dir, manifest, batch_size, gpu, __version__)
        self._entry_point = entry_point
        self.load_warning = ""

    @property
    def context(self) -> Context:
        """What the handler is told."""
        return self._context

    def handle(self, data: list[dict[str, Any]] | None) -> Any:
        """Call the handler.

        :param data: a batch, one dictionary a request; None when the model loads.
        """
        return self._entry_point(data, self._context)


class PredictionException(Exception):
    """What a handler raises to choose the status code and the message of the error itself."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"


def emit_metrics(metrics: Iterable[Metric] | None) -> None:
    """Hand metrics to the server: one line each on standard output, which the server sorts from other output."""
    for metric in metrics or ():
        # the handler may have left a line unfinished; the server skips empty ones
        print(f"\n[METRICS]{metric}", file=sys.stdout, flush=True)
