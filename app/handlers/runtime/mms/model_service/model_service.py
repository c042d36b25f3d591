"""What a service of the server's first versions (0.x) is, and how it answers the requests of later ones (1.x)."""

from __future__ import annotations

import ast
import json
import logging
import os
import time
from typing import Any

from mms.context import Context


class ModelService:
    """A model with its code. Nothing forces a subclass to define every method: archives leave some out.

    :param gpu: number of the GPU; None computes on the CPU.
    """

    def __init__(self, model_name: str, model_dir: str, manifest: dict[str, Any], gpu: int | None = None) -> None:
        self.ctx: Any = None
        self._context: Context | None = None
        self._signature: Any = None

    def initialize(self, context: Context) -> None:
        """Take the context, once, after construction, and read the signature where the service has not."""
        self._context = context
        path = os.path.join(context.system_properties["model_dir"], "signature.json")
        if self._signature is None and os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                self._signature = json.load(file)

    def inference(self, data: list[Any]) -> Any:
        """Answer one request.

        :param data: raw inputs, in the signature's order.
        """
        raise NotImplementedError(f"{type(self).__name__} must define inference")

    def ping(self) -> Any:
        """Say that the service is alive."""
        return None

    def signature(self) -> Any:
        """Return the content of ``signature.json``."""
        return self._signature

    def handle(self, data: list[dict[str, Any]], context: Context) -> list[Any]:
        """Answer a batch of 1.x requests, one after the other."""
        return [_only(self.inference(self._inputs(request))) for request in data]

    def _inputs(self, request: dict[str, Any]) -> list[Any]:
        """Return the raw inputs of a request: the first by its name, ``body`` or ``data``, others by their names."""
        first, *others = (described["data_name"] for described in self._signature["inputs"])
        names = (first, "body", "data")
        found = [next((request[name] for name in names if request.get(name) is not None), None)]
        found += [request[name] for name in others if name in request]
        if self._signature["input_type"] == "application/json":
            return [
                ast.literal_eval(value.decode()) if isinstance(value, bytes | bytearray) else value for value in found
            ]
        return found


class SingleNodeService(ModelService):
    """A service in three steps: preprocess, infer, postprocess."""

    def inference(self, data: list[Any]) -> Any:
        """Answer one request, and log what the steps take."""
        for name, step in (
            ("preprocess", self._preprocess),
            ("inference", self._inference),
            ("postprocess", self._postprocess),
        ):
            started = time.perf_counter()
            data = step(data)
            logging.info("%s time: %.2f", name, 1000 * (time.perf_counter() - started))
        return data

    def _preprocess(self, data: list[Any]) -> Any:
        return data

    def _inference(self, data: Any) -> Any:
        return data

    def _postprocess(self, data: Any) -> Any:
        return data


def _only(result: Any) -> Any:
    """Return the only item of a list, which has one for each output of the network; 1.x sends the item itself."""
    return result[0] if isinstance(result, list) and len(result) == 1 else result
