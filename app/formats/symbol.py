"""What an MXNet checkpoint says of itself: its input, its classes, and whether it gives probabilities.

A checkpoint does not hold the size of the pictures that it was trained on. It follows from the weights where the last
maps are laid out flat before a fully connected layer; where each map is averaged to one value any size passes, and the
usual one is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.errors import ModelFormatError
from app.formats.graph import Graph, Node, read_graph
from app.formats.params import read_params
from app.formats.shapes import DoesNotFit, Shape, Unknown, pools_whole_map, propagate, windows
from app.types import Postprocess, Preprocess, Signature, TensorSpec

SIZES = (224, 227, 299, 32, 28, 64, 96, 112, 128, 150, 160, 192, 256, 331, 48, 100)
"""Sides of square pictures that networks are trained on, the likelier first."""
LARGEST_LAST_MAP = 16
"""A map that is averaged to one value is rarely larger; ImageNet's networks end at 7 to 13."""

DISTRIBUTIONS = ("SoftmaxOutput", "Softmax", "softmax", "SoftmaxActivation", "sigmoid", "LogisticRegressionOutput")
PASSES = ("Flatten", "flatten", "Reshape", "reshape", "BlockGrad", "MakeLoss", "identity", "_copy", "Dropout")
"""Operations that leave the values as they are."""
CONVOLUTIONS = ("Convolution", "Convolution_v1")


@dataclass(frozen=True)
class CheckpointFacts:
    """What could be worked out. ``input_shape`` is (0, C, H, W); 0 stands for any batch.

    ``output_name`` is the output's. Where ``is_distribution`` is false the output is logits.
    """

    input_name: str
    input_shape: tuple[int, ...]
    output_name: str
    classes: int
    is_distribution: bool


def describe_checkpoint(symbol_path: Path, params_path: Path) -> Signature:
    """Write the signature that a checkpoint lacks: raw pixels, softmax over logits.

    Raw pixels are what MMS's vision template gives a network. Where there is no archive there is no answer of MMS's to
    repeat, so they are resampled with care (antialiased), as training pipelines do.

    :raises ModelFormatError: where a file cannot be read, or they do not tell the input.
    """
    shapes = {name: array.shape for name, array in read_params(params_path).items()}
    facts = work_out(read_graph(symbol_path), shapes, symbol_path)
    return Signature(
        inputs=(TensorSpec(facts.input_name, facts.input_shape),),
        outputs=(TensorSpec(facts.output_name, (0, facts.classes)),),
        preprocess=Preprocess(
            color="grey" if facts.input_shape[1] == 1 else "rgb", interpolation="bilinear", antialias=True
        ),
        postprocess=Postprocess(activation="none" if facts.is_distribution else "softmax"),
    )


def work_out(graph: Graph, params: Mapping[str, Shape], path: Path) -> CheckpointFacts:
    """Work out a network's facts from its graph and its parameters' shapes (named as in the ``.params`` file).

    :param path: the symbol's, for messages.
    :raises ModelFormatError: where they do not tell the input's name or shape.
    """
    weights = {name.removeprefix("arg:").removeprefix("aux:"): shape for name, shape in params.items()}
    name = _input_name(graph, weights, path)
    shape, output = _input_and_output(graph, name, weights, path)
    head = graph.nodes[graph.heads[0]]
    return CheckpointFacts(
        input_name=name,
        input_shape=(0, *shape),
        output_name=head.name,
        classes=output,
        is_distribution=_is_distribution(graph, graph.heads[0]),
    )


def free_inputs(graph: Graph, learned: set[str]) -> list[str]:
    """Give the names of what must be fed: arrays that are not learned and are no label of a loss."""
    labels = _labels(graph)
    return [n.name for n in graph.nodes if n.op == "null" and n.name not in learned and n.name not in labels]


def _labels(graph: Graph) -> set[str]:
    """Give the names of the arrays that only training feeds: the second inputs of outputs that are losses too."""
    named = {node.name for node in graph.nodes if node.op == "null" and node.name.endswith("_label")}
    losses = [node for node in graph.nodes if node.op.endswith("Output") or node.op == "Softmax"]
    seconds = [graph.nodes[node.inputs[1]] for node in losses if len(node.inputs) > 1]
    return named | {node.name for node in seconds if node.op == "null"}


def _input_name(graph: Graph, weights: Mapping[str, Shape], path: Path) -> str:
    free = free_inputs(graph, set(weights))
    if len(free) == 1:
        return free[0]
    if not free:
        raise ModelFormatError(f"{path} has no input: every array in it is among the parameters")
    listed = ", ".join(free[:4]) + (", …" if len(free) > 4 else "")
    raise ModelFormatError(
        f"{path} needs {len(free)} arrays that its parameters do not hold: {listed}. "
        "One of them may be the picture; the others belong into the .params file, named as in the symbol"
    )


def _input_and_output(graph: Graph, name: str, weights: Mapping[str, Shape], path: Path) -> tuple[Shape, int]:
    """Find the input's shape (C, H, W) and the number of classes that comes of it."""
    hint = f"Write a signature.json beside {path.name} that gives the shape of the input {name!r}"
    try:
        candidates = _candidates(graph, name, weights)
        fitting = [(shape, found) for shape in candidates if (found := _try(graph, name, shape, weights)) is not None]
    except Unknown as reason:
        raise ModelFormatError(f"{path} does not tell the size of its pictures: {reason}. {hint}") from None
    chosen = _choose(graph, fitting)
    if chosen is None:
        raise ModelFormatError(f"{path} does not tell the size of its pictures: no usual size fits. {hint}")
    shape, shapes = chosen
    output = shapes[graph.heads[0]]
    if output is None or any(size != 1 for size in output[1:]):
        raise ModelFormatError(f"{path} is no classifier: its output {graph.nodes[graph.heads[0]].name} is {output}")
    return shape, output[0]


Fit = tuple[Shape, list[Shape | None]]


def _candidates(graph: Graph, name: str, weights: Mapping[str, Shape]) -> list[Shape]:
    data = next(node for node in graph.nodes if node.op == "null" and node.name == name)
    written = data.numbers("__shape__", ())[1:]
    if len(written) == 3 and min(written) > 0:
        return [written]
    channels = _channels(graph, weights)
    return [(channels, size, size) for size in SIZES]


def _channels(graph: Graph, weights: Mapping[str, Shape]) -> int:
    node = _first_convolution(graph)
    shape = weights.get(graph.nodes[node.inputs[1]].name) if node is not None and len(node.inputs) > 1 else None
    if node is None or shape is None or len(shape) != 4:
        raise Unknown("it does not begin with a convolution of a picture")
    return shape[1] * node.number("num_group", 1)


def _first_convolution(graph: Graph) -> Node | None:
    return next((node for node in graph.nodes if node.op in CONVOLUTIONS), None)


def _try(graph: Graph, name: str, shape: Shape, weights: Mapping[str, Shape]) -> list[Shape | None] | None:
    try:
        return propagate(graph, name, shape, weights)
    except DoesNotFit:
        return None


def _choose(graph: Graph, fitting: list[Fit]) -> Fit | None:
    """Choose among the sizes that pass.

    Where the last maps are averaged all sizes do: then one whose first convolution leaves no pixels out at the edge
    and whose last map is small. Elsewhere the weights have spoken, and such a size only goes first.
    """
    pooled = next((node for node in reversed(graph.nodes) if pools_whole_map(node)), None)
    even = [fit for fit in fitting if _covers(graph, fit[1])]
    if pooled is None or len(fitting) == 1:
        return next(iter(even or fitting), None)
    before = pooled.inputs[0]
    small = [fit for fit in even if max((fit[1][before] or (0,))[1:], default=0) <= LARGEST_LAST_MAP]
    return next(iter(small), None)


def _covers(graph: Graph, shapes: list[Shape | None]) -> bool:
    """Say whether the first convolution's windows reach over all that it is given, but for its own padding."""
    node = _first_convolution(graph)
    maps = shapes[node.inputs[0]] if node is not None else None
    if node is None or maps is None:
        return True
    return all(look.room() % look.stride <= look.pad for look in windows(node, maps))


def _is_distribution(graph: Graph, number: int) -> bool:
    node = graph.nodes[number]
    while node.op in PASSES and node.inputs:
        node = graph.nodes[node.inputs[0]]
    return node.op in DISTRIBUTIONS or (node.op == "Activation" and node.text("act_type", "") == "sigmoid")
