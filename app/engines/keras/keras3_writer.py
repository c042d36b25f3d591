"""Writing of Keras models as ``.keras`` files, which Keras 3 opens; :mod:`app.formats.keras_archive` has the format."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from app.engines.keras.explicit_padding import explicit_padding
from app.engines.keras.graph import Array, Net, Sides
from app.engines.keras.keras2_to_keras3 import Keras3Writer
from app.engines.keras.network import compute_graph, turned, with_all_weights
from app.errors import ModelFormatError
from app.formats.archive.pack import zip_info
from app.formats.keras_archive import CONFIG, METADATA, WEIGHTS
from app.formats.keras_file import H5Model
from app.formats.keras_graph import Leaf, read_graph
from app.formats.keras_weights import NORMALIZATIONS, assign_weights

VERSION = "3.0.0"
"""The oldest Keras that opens the files."""


def write_keras3(model: H5Model, path: Path, input_shape: tuple[int, ...] | None = None, output: str = "") -> None:
    """Write a model as a ``.keras`` file.

    :param input_shape: shape of the input with the batch axis, for sizes that the file leaves open.
    :param output: the name of the output to use if there are several.
    :raises ModelFormatError: if a layer cannot be expressed in Keras 3, or the weights do not fit the layers.
    """
    over_mxnet = model.backend == "mxnet"
    config = with_all_weights(model.config) if over_mxnet else model.config
    graph = read_graph(config, output)
    _refuse_older(model, graph.root.leaves())
    arrays: Mapping[Leaf, Mapping[str, Array]] = assign_weights(graph.root, model.groups)
    if over_mxnet:
        arrays = {leaf: turned(leaf, roles) for leaf, roles in arrays.items()}
    padding: dict[Leaf, Sides] = {}
    if over_mxnet or model.theano:
        net = Net(model.keras_version, theano=model.theano, mxnet=over_mxnet)
        padding = explicit_padding(net, graph, compute_graph(net, graph, arrays, input_shape)[1])
    if over_mxnet:
        arrays = {leaf: _over_tensorflow(leaf, roles) for leaf, roles in arrays.items()}
    writer = Keras3Writer(arrays, padding)
    described = writer.model(config, graph.root, graph.input_shape)
    parts = {
        METADATA: json.dumps({"keras_version": VERSION}).encode(),
        CONFIG: json.dumps(described).encode(),
        WEIGHTS: _stored(writer.groups),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zip_info(name, zipfile.ZIP_STORED), content)


def _over_tensorflow(leaf: Leaf, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return a layer's arrays without the scale that Keras-MXNet ignores."""
    if leaf.class_name in NORMALIZATIONS:
        return {**arrays, "gamma": np.ones_like(arrays["gamma"])}
    return arrays


def _refuse_older(model: H5Model, leaves: Any) -> None:
    net = Net(model.keras_version)
    for leaf in leaves:
        method = leaf.config.get("interpolation") or "nearest"
        if leaf.class_name == "UpSampling2D" and method != "nearest" and net.before(2, 4):
            raise ModelFormatError(
                f"its layer {leaf.name} has the interpolation {method!r} of Keras {model.keras_version}, which Keras 3 "
                "does not have. Export it with --to onnx"
            )


def _stored(groups: Mapping[str, list[Array]]) -> bytes:
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for path, arrays in groups.items():
            group = file.require_group(path)
            for number, array in enumerate(arrays):
                group.create_dataset(str(number), data=array)
    return content.getvalue()
