"""The body: a classifier's network up to what its last fully connected layer looks at."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.engines.base import Engine
from app.engines.mxnet_engine import MxnetEngine
from app.errors import ModelFormatError
from app.formats.folder import Checkpoint, open_model_folder
from app.formats.graph import Graph, read_graph
from app.formats.infer_signature import infer_folder
from app.types import Signature

CONNECTED = "FullyConnected"


@dataclass(frozen=True)
class Body:
    """A network without its head.

    ``document`` is its ``*-symbol.json``, whose only output are the features; ``features`` is that output,
    [node, output]. ``head`` is the name of the layer that was cut off. ``checkpoint`` and ``signature`` are the whole
    network's.
    """

    name: str
    version: str
    document: dict[str, Any]
    features: tuple[int, int]
    head: str
    checkpoint: Checkpoint
    signature: Signature


def cut_body(folder: Path) -> Body:
    """Cut the last fully connected layer, and all that follows it, off a model's network.

    :raises ModelFormatError: where the folder is no model, or its network does not end in such a layer.
    """
    model = open_model_folder(folder)
    if model.checkpoint is None:
        raise ModelFormatError(f"{folder} has no MXNet checkpoint. {_advice(folder)}")
    graph = read_graph(model.checkpoint.symbol)
    last = _last_connected(graph)
    if last is None:
        raise ModelFormatError(f"{model.checkpoint.symbol} has no {CONNECTED} layer to replace. {_advice(folder)}")
    document, features = _cut(json.loads(model.checkpoint.symbol.read_bytes()), graph, last)
    return Body(
        name=model.name,
        version=model.version,
        document=document,
        features=features,
        head=graph.nodes[last].name,
        checkpoint=model.checkpoint,
        signature=infer_folder(model).signature,
    )


def open_body(body: Body) -> Engine:
    """Load a body, which gives the features (N, F) of pictures.

    :raises ModelFormatError: where its parameters do not fit it.
    """
    first = body.signature.inputs[0]
    with tempfile.TemporaryDirectory(prefix="dimple-") as folder:
        symbol = Path(folder) / "body-symbol.json"
        symbol.write_text(json.dumps(body.document), encoding="utf-8")
        return MxnetEngine.load(symbol, body.checkpoint.params, first.name, first.shape)


def learned(body: Body) -> set[str]:
    """The names of the body's arrays, its input among them, as they are in its symbol."""
    return {node["name"] for node in body.document["nodes"] if node["op"] == "null"}


def _advice(folder: Path) -> str:
    return f"Move {folder} away: Dimple makes its own at the next start."


def _last_connected(graph: Graph) -> int | None:
    reached = graph.needed_by(graph.heads[0])
    return max((number for number in reached if graph.nodes[number].op == CONNECTED), default=None)


def _cut(document: dict[str, Any], graph: Graph, connected: int) -> tuple[dict[str, Any], tuple[int, int]]:
    """Keep the nodes that the layer's first input needs, as they are written, and count them anew."""
    source, output = (*document["nodes"][connected]["inputs"][0], 0)[:2]
    kept = sorted(graph.needed_by(source))
    numbers = {old: new for new, old in enumerate(kept)}
    nodes = []
    for old in kept:
        node = document["nodes"][old]
        nodes.append({**node, "inputs": [[numbers[entry[0]], *entry[1:]] for entry in node["inputs"]]})
    features = (numbers[source], output)
    return {**_described(document), **outline(nodes, features)}, features


def outline(nodes: list[dict[str, Any]], output: tuple[int, int]) -> dict[str, Any]:
    """The parts of a ``*-symbol.json`` that follow from its nodes and its output."""
    arrays = [number for number, node in enumerate(nodes) if node["op"] == "null"]
    return {"nodes": nodes, "arg_nodes": arrays, "heads": [[*output, 0]]}


def _described(document: dict[str, Any]) -> dict[str, Any]:
    """What else is to be kept: MXNet's version, by which old files are told from new ones."""
    return {"attrs": document["attrs"]} if "attrs" in document else {}
