"""0.x services that compute with MXNet."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mxnet as mx

from mms.model_service.model_service import ModelService, SingleNodeService

__all__ = ["GluonImperativeBaseService", "MXNetBaseService", "ModelService", "SingleNodeService", "check_input_shape"]


def check_input_shape(inputs: Iterable[Any], signature: dict[str, Any]) -> None:
    """Compare inputs with the signature. The batch's size is free, and so is any size that the signature gives as 0.

    :raises AssertionError: where an input is no NDArray or has another shape.
    """
    for array, described in zip(inputs, signature["inputs"], strict=False):
        name, expected = described["data_name"], described["data_shape"]
        if not isinstance(array, mx.nd.NDArray):
            raise AssertionError(f"Each input must be an NDArray; {name} is a {type(array).__name__}.")
        fits = all(size in (0, given) for size, given in zip(expected[1:], array.shape[1:], strict=False))
        if len(array.shape) != len(expected) or not fits:
            raise AssertionError(f"Input {name} has the shape {array.shape}; the signature says {tuple(expected)}.")


class _Described(SingleNodeService):
    """A service with ``signature.json`` and, where the archive has it, ``synset.txt``."""

    labels: list[str]

    def __init__(self, model_name: str, model_dir: str, manifest: dict[str, Any], gpu: int | None = None) -> None:
        super().__init__(model_name, model_dir, manifest, gpu)
        self.model_name = model_name
        self.ctx = mx.cpu() if gpu is None else mx.gpu(int(gpu))
        self.param_filename = manifest["Model"].get("Parameters")
        path = Path(model_dir, manifest["Model"]["Signature"])
        if not path.is_file():
            raise RuntimeError(f"There is no signature file {path}.")
        self._signature = json.loads(path.read_text(encoding="utf-8"))
        synset = Path(model_dir, "synset.txt")
        if synset.is_file():
            with synset.open(encoding="utf-8") as lines:
                self.labels = [line.strip() for line in lines]

    def ping(self) -> Any:
        """MXNet's version."""
        return mx.__version__

    @property
    def signature(self) -> Any:  # a method in ModelService, an attribute here: 0.x has both
        """Return the content of ``signature.json``."""
        return self._signature


class MXNetBaseService(_Described):
    """A checkpoint (symbol and parameters), loaded and bound for one picture at a time."""

    def __init__(self, model_name: str, model_dir: str, manifest: dict[str, Any], gpu: int | None = None) -> None:
        super().__init__(model_name, model_dir, manifest, gpu)
        inputs = self._signature["inputs"]
        for described in inputs:
            described["data_shape"] = [1, *(size or 1 for size in described["data_shape"][1:])]
        prefix = str(manifest["Model"]["Symbol"]).removesuffix("-symbol.json")
        symbol, arguments, states = mx.model.load_checkpoint(str(Path(model_dir, prefix)), self._epoch())
        names = [described["data_name"] for described in inputs]
        self.mx_model = mx.mod.Module(symbol=symbol, context=self.ctx, data_names=names, label_names=None)
        self.mx_model.bind(
            for_training=False, data_shapes=[(one["data_name"], tuple(one["data_shape"])) for one in inputs]
        )
        self.mx_model.set_params(arguments, states, allow_missing=True, allow_extra=True)

    def _epoch(self) -> int:
        """Return the number in the parameters' file name, after the model's name; 0 if it does not fit."""
        digits = str(self.param_filename)[len(self.model_name) + 1 :].removesuffix(".params")
        try:
            return int(digits)
        except ValueError:
            logging.info("No epoch in the name %s; taking epoch 0", self.param_filename)
            return 0

    def _preprocess(self, data: list[Any]) -> Any:
        return [mx.nd.array(one) for one in data]

    def _inference(self, data: Any) -> Any:
        inputs = list(data)
        check_input_shape(inputs, self.signature)
        self.mx_model.forward(mx.io.DataBatch([one.as_in_context(self.ctx) for one in inputs]), is_train=False)
        outputs = self.mx_model.get_outputs()
        for output in outputs:
            output.wait_to_read()  # MXNet computes later; an error belongs here
        return outputs

    def _postprocess(self, data: Any) -> Any:
        return [str(one.asnumpy().tolist()) for one in data]


class GluonImperativeBaseService(_Described):
    """A Gluon network, which the subclass builds; its parameters are loaded here.

    :param net: the network.
    """

    def __init__(
        self, model_name: str, model_dir: str, manifest: dict[str, Any], net: Any = None, gpu: int | None = None
    ) -> None:
        super().__init__(model_name, model_dir, manifest, gpu)
        self.net = net
        if net is None or not self.param_filename:
            logging.info("There are no parameters to load")
            return
        try:
            net.load_parameters(str(Path(model_dir, self.param_filename)), ctx=self.ctx)
        except Exception:  # services that load the parameters themselves rely on this
            logging.warning("The parameters in %s were not loaded", self.param_filename, exc_info=True)

    def _preprocess(self, data: list[Any]) -> Any:
        return None

    def _inference(self, data: Any) -> Any:
        check_input_shape(data, self.signature)

    def _postprocess(self, data: Any) -> Any:
        return None
