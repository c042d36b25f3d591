"""Small networks of MXNet with random weights, and model folders made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from app.engines.mxnet.compat import prepare
from app.formats.folder import ModelFolder, open_model_folder
from app.formats.mxnet_params import write_params
from app.formats.signature import write_signature
from app.types import Postprocess, Preprocess, Signature, TensorSpec

prepare()
import mxnet as mx  # noqa: E402

SHAPE = (0, 3, 8, 8)


def convolution(data: Any = None, filters: int = 4, name: str = "conv", **options: Any) -> Any:
    data = mx.sym.var("data") if data is None else data
    return mx.sym.Convolution(data, **{"kernel": (3, 3), "num_filter": filters, "name": name, **options})


def dense(data: Any) -> Any:
    return mx.sym.FullyConnected(data, num_hidden=5, name="fc")


def classifier(maps: Any) -> Any:
    return mx.sym.softmax(dense(mx.sym.Flatten(maps)), name="softmax")


def random_params(symbol: Any, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> dict[str, Any]:
    """Return weights under which neither maps nor outputs grow with the number of a layer's inputs."""
    draw = np.random.default_rng(seed)
    arguments, _outputs, states = symbol.infer_shape(data=(1, *shape[1:]))
    named = zip(symbol.list_arguments(), arguments, strict=True)
    params = {
        f"arg:{name}": draw.normal(0, 1.5 / np.sqrt(np.prod(size[1:])), size).astype(np.float32)
        for name, size in named
        if not name.endswith(("data", "label"))
    }
    named = zip(symbol.list_auxiliary_states(), states, strict=True)
    return params | {f"aux:{name}": draw.uniform(0.5, 2, size).astype(np.float32) for name, size in named}


def write_checkpoint(folder: Path, symbol: Any, seed: int = 0) -> None:
    symbol.save(str(folder / "net-symbol.json"))
    write_params(folder / "net-0000.params", random_params(symbol, seed))


def write_description(folder: Path, shape: tuple[int, ...] = SHAPE, **preprocess: Any) -> None:
    signature = Signature(
        inputs=(TensorSpec("data", shape),),
        outputs=(TensorSpec("softmax", (0, 5)),),
        preprocess=Preprocess(**{"scale": 1 / 255, **preprocess}),
        postprocess=Postprocess(),
    )
    write_signature(signature, folder / "signature.json")


def model_folder(folder: Path, symbol: Any, seed: int = 0) -> ModelFolder:
    """Return a model folder with a checkpoint, whose outputs are probabilities."""
    folder.mkdir(exist_ok=True)
    write_checkpoint(folder, symbol, seed)
    write_description(folder)
    return open_model_folder(folder)


def pictures(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 1) -> Any:
    return np.random.default_rng(seed).uniform(0, 1, (count, *shape[1:])).astype(np.float32)
