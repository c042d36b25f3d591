"""Input and output of an MXNet checkpoint, inferred from its graph and its parameters' shapes.

A checkpoint does not record the size of its training pictures. If the last maps are flattened before a fully connected
layer, the size follows from the weights. If each map is averaged to one value, any size passes, and the usual one is
chosen. Graphs of all MXNet versions since 0.8 are read alike: only names differ in what matters here (``Softmax`` is
0.8's name for ``SoftmaxOutput``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from app.errors import ModelFormatError
from app.formats.mxnet_graph import Graph, Node
from app.formats.mxnet_params import bare_name, missing_params
from app.formats.mxnet_shapes import Shape, ShapeMismatch, UnknownShape, infer_shapes, pools_whole_map, windows

SIZES = (224, 227, 299, 32, 28, 64, 96, 112, 128, 150, 160, 192, 256, 331, 48, 100)
"""Usual sides of square training pictures, the likeliest first."""
ALL_SIZES = range(8, 641)
"""Sides that are tried if the weights fit none of the usual ones."""
MOST_STEPS = 150_000
"""Limit on the operations evaluated for these sides, about 2 s: all sides for 240 operations, fewer for more."""
LARGEST_LAST_MAP = 16
"""The usual largest side of a map that is averaged to one value; ImageNet's networks end at 7 to 13."""

Kind = Literal["distribution", "logits", "features"]
KINDS: tuple[Kind, ...] = ("distribution", "logits", "features")
"""Kinds of outputs, the preferred kind first."""
DISTRIBUTIONS = ("SoftmaxOutput", "Softmax", "softmax", "SoftmaxActivation", "sigmoid", "LogisticRegressionOutput")
REGRESSIONS = ("LinearRegressionOutput", "MAERegressionOutput")
NORMALISATIONS = ("BatchNorm", "BatchNorm_v1", "L2Normalization", "InstanceNorm", "LayerNorm")
LAYERS = ("Convolution", "Convolution_v1", "FullyConnected", "dot")
SHAPES_ALONE = ("Flatten", "flatten", "Reshape", "reshape", "squeeze", "expand_dims", "transpose")
PASSES = (*SHAPES_ALONE, "BlockGrad", "MakeLoss", "identity", "_copy", "Dropout", "clip", "Cast")
"""Operations that do not change probabilities."""
ACTIVATIONS = ("Activation", "LeakyReLU", "relu", "elemwise_mul", "_mul")
CONVOLUTIONS = ("Convolution", "Convolution_v1")

Fit = tuple[Shape, list[Shape | None]]
"""An input shape (C, H, W) that passes, and the shape that it gives every node."""


@dataclass(frozen=True)
class CheckpointFacts:
    """Input and output of a network. ``input_shape`` is (0, C, H, W); 0 stands for any batch.

    ``output_name`` is the node that computes the row of ``classes`` values. ``kind`` is ``distribution`` if the graph
    ends in a distribution there, ``features`` if it ends in a normalisation, a regression or pooled maps, else
    ``logits``. ``others`` names the graph's other outputs.
    """

    input_name: str
    input_shape: tuple[int, ...]
    output_name: str
    classes: int
    kind: Kind
    others: tuple[str, ...] = ()


def describe_checkpoint(
    graph: Graph,
    params: Mapping[str, Shape],
    path: Path,
    params_path: Path | None = None,
    size: tuple[int, int] | None = None,
    output: str = "",
) -> CheckpointFacts:
    """Infer a network's facts from its graph and its parameters' shapes (named as in the ``.params`` file).

    Of several outputs a distribution over classes is preferred, then logits.

    :param size: height and width of the input, if they are known.
    :param output: the name of the output to use, if it is known.
    :raises ModelFormatError: if the input's name or shape does not follow from them, or no output is a row of classes.
    """
    heads = _heads(graph, output, path)
    kinds = {head: _kind(graph, head) for head in heads}
    refusals: list[ModelFormatError] = []
    for head in sorted(heads, key=lambda head: KINDS.index(kinds[head])):
        try:
            shape, classes, name = _of_head(cut(graph, head), params, path, params_path or path, size)
        except ModelFormatError as refusal:
            refusals.append(refusal)
            continue
        others = tuple(graph.nodes[other].name for other in heads if other != head)
        return CheckpointFacts(name, (0, *shape), graph.nodes[head].name, classes, kinds[head], others)
    raise refusals[0]


def cut(graph: Graph, head: int) -> Graph:
    """Return the part of a graph that computes one of its nodes, with that node as the only output."""
    needed = sorted(graph.needed_by(head))
    places = {number: place for place, number in enumerate(needed)}
    nodes = (graph.nodes[number] for number in needed)
    moved = tuple(replace(node, inputs=tuple(places[number] for number in node.inputs)) for node in nodes)
    return Graph(moved, (places[head],))


def _of_head(
    graph: Graph, params: Mapping[str, Shape], path: Path, params_path: Path, size: tuple[int, int] | None
) -> tuple[Shape, int, str]:
    """Return the input's shape (C, H, W), the number of classes and the input's name, for a graph with one output."""
    weights = {bare_name(name): shape for name, shape in params.items()}
    name = _input_name(graph, weights, params, path, params_path)
    shape, shapes = _input(graph, name, weights, path, size)
    row = shapes[graph.heads[0]]
    if not row or row[0] < 1 or any(axis != 1 for axis in row[1:]):
        head = graph.nodes[graph.heads[0]].name
        raise ModelFormatError(
            f"{path} is not a classifier: its output {head} has the shape {row} for one picture, not one row of classes"
        )
    return shape, row[0], name


def _heads(graph: Graph, output: str, path: Path) -> tuple[int, ...]:
    """Return the numbers of the candidate outputs: the output with a given name, or all.

    :raises ModelFormatError: if there is no output of that name.
    """
    heads = tuple(dict.fromkeys(graph.heads))
    named = tuple(head for head in heads if output.removesuffix("_output") == graph.nodes[head].name)
    if output and not named:
        names = ", ".join(graph.nodes[head].name for head in heads)
        raise ModelFormatError(f"{path} has no output {output!r}; it has {names}")
    return named or heads


def free_inputs(graph: Graph, learned: set[str]) -> list[str]:
    """Return the names of the arrays to feed for the first output: neither learned nor labels of a loss."""
    labels, needed = _labels(graph), graph.needed_by(graph.heads[0])
    return [
        node.name
        for number, node in enumerate(graph.nodes)
        if node.op == "null" and number in needed and node.name not in learned and node.name not in labels
    ]


def _labels(graph: Graph) -> set[str]:
    """Return the names of the arrays that only training feeds: labels, which are the second inputs of losses."""
    named = {node.name for node in graph.nodes if node.op == "null" and node.name.endswith("_label")}
    losses = [node for node in graph.nodes if node.op.endswith("Output") or node.op == "Softmax"]
    seconds = [graph.nodes[node.inputs[1]] for node in losses if len(node.inputs) > 1]
    return named | {node.name for node in seconds if node.op == "null"}


def _input_name(
    graph: Graph, weights: Mapping[str, Shape], params: Mapping[str, Shape], path: Path, params_path: Path
) -> str:
    free = free_inputs(graph, set(weights))
    if not free:
        raise ModelFormatError(f"{path} has no input: every array in it is among the parameters")
    picture = free[0] if len(free) == 1 else _picture(graph, free)
    if picture is None:
        listed = ", ".join(free[:4]) + (", …" if len(free) > 4 else "")
        raise ModelFormatError(
            f"{path} needs {len(free)} arrays that its parameters do not hold: {listed}. "
            "One of them may be the picture; the others belong into the .params file, named as in the symbol"
        )
    if missing := [name for name in free if name != picture]:
        raise missing_params(graph, missing, params, path, params_path)
    return picture


def _picture(graph: Graph, free: list[str]) -> str | None:
    """Return the array that is the picture: the only unlearned array that is an operation's first input."""
    firsts = {graph.nodes[node.inputs[0]].name for node in graph.nodes if node.inputs}
    candidates = [name for name in free if name in firsts]
    return candidates[0] if len(candidates) == 1 else None


def _input(graph: Graph, name: str, weights: Mapping[str, Shape], path: Path, size: tuple[int, int] | None) -> Fit:
    """Return the input's shape (C, H, W), and the shape that it gives every node."""
    hint = f"Write a signature.json beside {path.name} that gives the shape of the input {name!r}"
    try:
        chosen = _choose(graph, _fitting(graph, name, weights, size))
    except UnknownShape as reason:
        raise ModelFormatError(f"{path} does not tell the size of its pictures: {reason}. {hint}") from None
    if chosen is None and size is not None:
        why = _why(graph, name, weights, size)
        raise ModelFormatError(f"{path} does not take pictures of {size[0]} x {size[1]}: {why}")
    if chosen is None:
        why = _why(graph, name, weights, (SIZES[0], SIZES[0]))
        raise ModelFormatError(f"{path} does not tell the size of its pictures: no square size fits; {why}. {hint}")
    return chosen


def _fitting(graph: Graph, name: str, weights: Mapping[str, Shape], size: tuple[int, int] | None) -> list[Fit]:
    """Return the input shapes that pass the network, of ``size`` or a usual size, or else only the roundest other."""
    usual = _candidates(graph, name, weights) if size is None else [(_channels(graph, weights), *size)]
    fits = [fit for shape in usual if (fit := _try(graph, name, shape, weights))]
    if fits or len(usual) == 1:
        return fits
    sides = sorted(ALL_SIZES, key=lambda side: (-(side & -side), side))  # sides with many factors of 2 go first
    sides = sides[: MOST_STEPS // sum(node.op != "null" for node in graph.nodes)]
    return next(([fit] for side in sides if (fit := _try(graph, name, (usual[0][0], side, side), weights))), [])


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
        raise UnknownShape("it does not begin with a convolution of a picture")
    channels = shape[1] * node.number("num_group", 1)
    if channels < 1:
        raise UnknownShape(f"{node.name} takes pictures of {channels} channels")
    return channels


def _first_convolution(graph: Graph) -> Node | None:
    return next((node for node in graph.nodes if node.op in CONVOLUTIONS), None)


def _try(graph: Graph, name: str, shape: Shape, weights: Mapping[str, Shape]) -> Fit | None:
    try:
        return shape, infer_shapes(graph, name, shape, weights)
    except ShapeMismatch:
        return None


def _why(graph: Graph, name: str, weights: Mapping[str, Shape], size: tuple[int, int]) -> str:
    """Return the reason why pictures of a size do not fit, naming the operation that refuses them if there is one."""
    try:
        infer_shapes(graph, name, (_channels(graph, weights), *size), weights)
    except ShapeMismatch as reason:
        return f"at {size[0]} x {size[1]} {reason}"
    except UnknownShape as reason:
        return str(reason)
    return "any passes, but none leaves maps at its end that are as small as usual"


def _choose(graph: Graph, fitting: list[Fit]) -> Fit | None:
    """Choose among the sizes that pass.

    If the last maps are averaged, every size passes. The first choice is then a size whose last map equals the
    pooling's window, which many authors write although it has no effect. The second is a size whose first convolution
    leaves out no pixels at the edge and whose last map is small. Otherwise the weights determine the size, and a size
    without left-out pixels only goes first.
    """
    pooled = next((node for node in reversed(graph.nodes) if pools_whole_map(node) and node.inputs), None)
    even = [fit for fit in fitting if _fits_exactly(graph, fit[1])]
    if pooled is None or len(fitting) == 1:
        return next(iter(even or fitting), None)
    before = pooled.inputs[0]
    window = pooled.numbers("kernel", (1, 1))
    exact = [fit for fit in fitting if max(window) > 1 and (fit[1][before] or ())[1:] == window]
    if exact:  # several sizes may end alike; the one that is divisible by the window is meant
        whole = [fit for fit in exact if not fit[0][1] % max(window)]
        return next((fit for fit in [*whole, *exact] if fit in even), exact[0])
    small = [fit for fit in even if max((fit[1][before] or (0,))[1:], default=0) <= LARGEST_LAST_MAP]
    return next(iter(small), None)


def _fits_exactly(graph: Graph, shapes: list[Shape | None]) -> bool:
    """Return whether the first convolution's windows cover its whole input, apart from its own padding."""
    node = _first_convolution(graph)
    maps = shapes[node.inputs[0]] if node is not None and node.inputs else None
    if node is None or maps is None:
        return True
    return all(look.slack() % look.stride <= look.pad for look in windows(node, maps))


def _kind(graph: Graph, number: int) -> Kind:
    node = graph.nodes[_behind_all(graph, number, PASSES)]
    if node.op in DISTRIBUTIONS or (node.op == "Activation" and node.text("act_type", "") == "sigmoid"):
        return "distribution"
    if node.op in NORMALISATIONS or node.op in REGRESSIONS:
        return "features"
    if pools_whole_map(node) and node.inputs:
        source = graph.nodes[_behind_all(graph, node.inputs[0], (*PASSES, *ACTIVATIONS))]
        is_map_of_a_layer = source.op in LAYERS or source.op == "broadcast_add" or source.op == "null"
        return "logits" if is_map_of_a_layer else "features"
    return "logits"


def _behind_all(graph: Graph, number: int, passed: tuple[str, ...]) -> int:
    """Return the number of the nearest node, back along first inputs, whose operation is not in ``passed``."""
    while graph.nodes[number].op in passed and graph.nodes[number].inputs:
        number = graph.nodes[number].inputs[0]
    return number
