"""Shapes of all arrays of a graph for a given input, inferred without MXNet.

Shapes here are without the batch axis: (C, H, W) for maps, (F,) for rows of features. The operations are those of image
classifiers, in NCHW.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from app.formats.mxnet_graph import Graph, Node

Shape = tuple[int, ...]

LOSSES = (
    "SoftmaxOutput LogisticRegressionOutput LinearRegressionOutput MAERegressionOutput SVMOutput MakeLoss make_loss"
)
NORMALIZATIONS = "BatchNorm BatchNorm_v1 CuDNNBatchNorm InstanceNorm LayerNorm LRN L2Normalization"
ACTIVATIONS = (
    "Activation LeakyReLU relu sigmoid hard_sigmoid tanh softsign clip Softmax SoftmaxActivation softmax log_softmax"
)
ARITHMETIC = (
    "add_n ElementWiseSum elemwise_add elemwise_sub elemwise_mul elemwise_div _Plus _Minus _Mul _Div _plus _minus _mul "
    "_div _add _sub _maximum _minimum square sqrt rsqrt exp log abs negative"
)
COPIES = "Dropout Cast BlockGrad identity _copy Copy"
KEEPS = frozenset(" ".join((LOSSES, NORMALIZATIONS, ACTIVATIONS, ARITHMETIC, COPIES)).split())
"""Operations whose output has the shape of their first input, or of their inputs broadcast against each other."""


class ShapeMismatch(Exception):
    """A conflict of the input's size with a weight or another branch."""


class UnknownShape(Exception):
    """An operation whose output shape cannot be inferred here."""


def infer_shapes(graph: Graph, data: str, shape: Shape, weights: Mapping[str, Shape]) -> list[Shape | None]:
    """Return every node's shape; None for learned arrays and labels.

    :param shape: the input's shape, (C, H, W).
    :param weights: the learned arrays' full shapes.
    :raises ShapeMismatch: if an input of that shape does not fit the graph.
    :raises UnknownShape: if the graph has an operation that is unknown here.
    """
    shapes: list[Shape | None] = []
    for node in graph.nodes:
        if node.op == "null":
            shapes.append(shape if node.name == data else None)
        else:
            inputs = [known for number in node.inputs if (known := shapes[number]) is not None]
            weight = next((weights[graph.nodes[i].name] for i in node.inputs if graph.nodes[i].name in weights), None)
            shapes.append(_output(node, inputs, weight) if inputs else None)
    return shapes


def pools_whole_map(node: Node) -> bool:
    """Return whether an operation reduces each map to one value, whatever the map's size."""
    if node.op in ("Pooling", "Pooling_v1"):
        return node.flag("global_pool")
    return node.op == "mean" and sorted(node.numbers("axis", ())) == [2, 3]


def _output(node: Node, inputs: list[Shape], weight: Shape | None) -> Shape:
    first = inputs[0]
    if node.op in ("Convolution", "Convolution_v1"):
        return _convolve(node, first, weight)
    if node.op == "FullyConnected":
        return _connect(node, first, weight)
    if pools_whole_map(node):
        keeps_axes = node.op != "mean" or node.flag("keepdims")
        return (first[0], 1, 1) if keeps_axes else (first[0],)
    if node.op in ("Pooling", "Pooling_v1"):
        return _pool(node, first)
    if node.op in ("Flatten", "flatten"):
        return (math.prod(first),)
    if node.op in ("Reshape", "reshape"):
        return _reshape(node, first)
    if node.op == "transpose":
        return _transpose(node, first)
    if node.op == "dot":
        return _multiply(node, first, weight)
    if node.op in ("Concat", "concat"):
        return _concatenate(node, inputs)
    if node.op in ("Pad", "pad"):
        return _pad(node, first)
    if node.op in KEEPS or node.op.startswith("broadcast_") or node.op.lower().endswith("scalar"):
        return _broadcast(node, inputs)
    raise UnknownShape(f"{node.name} is an operation {node.op}")


@dataclass(frozen=True)
class Window:
    """The window of a convolution or a pooling along one side of its maps."""

    size: int
    kernel: int
    stride: int
    pad: int
    dilate: int

    def slack(self) -> int:
        """Return the number of pixels that the window can move from its first place; negative if it does not fit."""
        return self.size + 2 * self.pad - (self.dilate * (self.kernel - 1) + 1)


def windows(node: Node, shape: Shape) -> list[Window]:
    """Return an operation's windows on maps (C, H, W): vertical and horizontal.

    :raises ShapeMismatch: if the shape is not that of maps.
    :raises UnknownShape: if the operation is not one on maps in NCHW.
    """
    if len(shape) != 3:
        raise ShapeMismatch(f"{node.name} needs maps, not {shape}")
    defaults = {"kernel": 1, "stride": 1, "pad": 0, "dilate": 1}
    sides = [node.numbers(key, (default, default)) for key, default in defaults.items()]
    least = (1, 1, 0, 1)
    regular = all(len(pair) == 2 and min(pair) >= low for pair, low in zip(sides, least, strict=True))
    if not regular or node.text("layout", "NCHW") not in ("NCHW", "None"):
        raise UnknownShape(f"{node.name} does not work on maps laid out as NCHW")
    return [Window(shape[1 + axis], *(pair[axis] for pair in sides)) for axis in (0, 1)]


def _convolve(node: Node, shape: Shape, weight: Shape | None) -> Shape:
    looks = windows(node, shape)
    channels = weight[1] * node.number("num_group", 1) if weight is not None and len(weight) == 4 else None
    if channels is not None and channels != shape[0]:
        raise ShapeMismatch(f"{node.name} takes {channels} channels, not {shape[0]}")
    return (node.number("num_filter", 0), *(_output_size(node, look, "valid") for look in looks))


def _pool(node: Node, shape: Shape) -> Shape:
    convention = node.text("pooling_convention", "valid")
    if convention not in ("valid", "full"):
        raise UnknownShape(f"{node.name} pools by the convention {convention}")
    return (shape[0], *(_output_size(node, look, convention) for look in windows(node, shape)))


def _output_size(node: Node, look: Window, convention: str) -> int:
    """Return the number of a window's places; by the convention ``full`` the last may extend beyond the edge."""
    slack = look.slack()
    if slack < 0:
        raise ShapeMismatch(f"{node.name} looks through a window of {look.kernel} at {look.size}")
    return (-(-slack // look.stride) if convention == "full" else slack // look.stride) + 1


def _connect(node: Node, shape: Shape, weight: Shape | None) -> Shape:
    features = math.prod(shape) if node.flag("flatten", True) else shape[-1]
    if weight is not None and weight[1:] != (features,):
        raise ShapeMismatch(f"{node.name} takes {weight[1:]} features, not {features}")
    return (node.number("num_hidden", 0),)


def _reshape(node: Node, shape: Shape) -> Shape:
    target = node.numbers("shape", ())
    if target[:1] not in ((0,), (-1,)) or any(size < -1 for size in target) or target.count(-1) > 1:
        raise UnknownShape(f"{node.name} reshapes to {target}")
    sizes = [shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(target[1:])]
    if -1 in sizes:
        rest = -math.prod(sizes)
        sizes[sizes.index(-1)] = math.prod(shape) // rest if rest else 0
    if not sizes:
        raise UnknownShape(f"{node.name} reshapes to one value")
    if math.prod(sizes) != math.prod(shape):
        raise ShapeMismatch(f"{node.name} reshapes {shape} to {target}")
    return tuple(sizes)


def _transpose(node: Node, shape: Shape) -> Shape:
    axes = node.numbers("axes", tuple(range(len(shape), -1, -1)))
    if sorted(axes) != list(range(len(shape) + 1)) or axes[0] != 0:
        raise UnknownShape(f"{node.name} moves the axes of {shape} by {axes}")
    return tuple(shape[axis - 1] for axis in axes[1:])


def _multiply(node: Node, shape: Shape, weight: Shape | None) -> Shape:
    """Return the shape of a row times a matrix, Keras-MXNet's form of a fully connected layer."""
    if weight is None or len(weight) != 2 or node.flag("transpose_a") or node.flag("transpose_b"):
        raise UnknownShape(f"{node.name} multiplies {shape} by {weight}")
    if weight[0] != shape[-1]:
        raise ShapeMismatch(f"{node.name} takes {weight[0]} features, not {shape[-1]}")
    return (*shape[:-1], weight[1])


def _concatenate(node: Node, inputs: list[Shape]) -> Shape:
    axis = node.number("dim", 1) - 1
    ranks = {len(shape) for shape in inputs}
    if len(ranks) != 1 or not 0 <= axis < len(inputs[0]):
        raise UnknownShape(f"{node.name} joins {inputs} along axis {axis + 1}")
    others = {shape[:axis] + shape[axis + 1 :] for shape in inputs}
    if len(others) != 1:
        raise ShapeMismatch(f"{node.name} joins maps of different sizes: {inputs}")
    joined = sum(shape[axis] for shape in inputs)
    return (*inputs[0][:axis], joined, *inputs[0][axis + 1 :])


def _pad(node: Node, shape: Shape) -> Shape:
    width = node.numbers("pad_width", ())
    if len(width) != 2 * (len(shape) + 1):
        raise UnknownShape(f"{node.name} pads {shape} by {width}")
    return tuple(size + width[2 * axis + 2] + width[2 * axis + 3] for axis, size in enumerate(shape))


def _broadcast(node: Node, inputs: list[Shape]) -> Shape:
    if any(len(shape) != len(inputs[0]) for shape in inputs):
        raise UnknownShape(f"{node.name} combines {inputs}")
    sizes = [{size for size in axis if size != 1} or {1} for axis in zip(*inputs, strict=True)]
    if any(len(axis) != 1 for axis in sizes):
        raise ShapeMismatch(f"{node.name} combines maps of different sizes: {inputs}")
    return tuple(axis.pop() for axis in sizes)
