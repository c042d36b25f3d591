"""A loaded handler with its context, the error that it may raise, and the metrics that it leaves."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from mms.context import Context, RequestProcessor
from mms.metrics.metric import Metric
from mms.metrics.metrics_store import MetricsStore
from mms.protocol.otf_message_handler import create_predict_response
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
        """Return the description of the model and its requests that the handler gets."""
        return self._context

    def handle(self, data: list[dict[str, Any]] | None) -> Any:
        """Call the handler.

        :param data: a batch, one dictionary a request; None when the model loads.
        """
        return self._entry_point(data, self._context)

    @staticmethod
    def retrieve_data_for_inference(
        batch: list[dict[str, Any]] | None,
    ) -> tuple[list[RequestProcessor], list[dict[str, Any]], dict[int, str]]:
        """Take a batch apart, as :func:`mms.protocol.otf_message_handler.retrieve_msg` returns it.

        :returns: for each request its headers and its data by name, and the ids of the requests by their index.
        :raises ValueError: if there is no batch.
        """
        if batch is None:
            raise ValueError("Received invalid inputs")
        processors, data = [], []
        for request in batch:
            parameters = request["parameters"]
            headers: dict[str, Any] = {one["name"]: {"content-type": one["contentType"]} for one in parameters}
            headers |= {one["name"].decode(): one["value"].decode() for one in request.get("headers") or ()}
            processors.append(RequestProcessor(headers))
            data.append({one["name"]: one["value"] for one in parameters})
        return processors, data, {index: request["requestId"].decode() for index, request in enumerate(batch)}

    def predict(self, batch: list[dict[str, Any]] | None) -> bytearray:
        """Answer a batch of the front end, as Multi Model Server's worker does.

        :returns: the message to the front end; a failure is one, too.
        """
        processors, data, ids = self.retrieve_data_for_inference(batch)
        self.context.request_ids, self.context.request_processor = ids, processors
        self.context.metrics = metrics = MetricsStore(ids, self.context.model_name)
        started = time.perf_counter()
        try:
            results = checked(self.handle(data), len(data))
        except PredictionException as error:
            return create_predict_response(None, ids, error.message, error.error_code)
        except MemoryError:
            return create_predict_response(None, ids, "Out of resources", 507)
        except Exception:
            logging.exception("The handler failed")
            return create_predict_response(None, ids, "Prediction failed", 503)
        metrics.add_time(PREDICTION_METRIC, round(1000 * (time.perf_counter() - started), 2))
        return create_predict_response(results, ids, "Prediction success", 200, self.context)


class PredictionException(Exception):
    """What a handler raises to choose the status code and the message of the error itself."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"


def checked(results: Any, count: int) -> list[Any]:
    """Return what a handler has returned.

    :param count: how many requests it was given.
    :raises PredictionException: 503, if it is no list of as many results.
    """
    if not isinstance(results, list):
        logging.warning("The handler returned %s, not a list", type(results).__name__)
        raise PredictionException("Invalid model predict output", 503)
    if len(results) != count:
        logging.warning("The handler returned %d answers to %d requests", len(results), count)
        raise PredictionException("number of batch response mismatched", 503)
    return results


def emit_metrics(metrics: Iterable[Metric] | None) -> None:
    """Hand metrics to the server: one line each on standard output, which the server sorts from other output."""
    for metric in metrics or ():
        # the handler may have left a line unfinished; the server skips empty ones
        print(f"\n[METRICS]{metric}", file=sys.stdout, flush=True)
