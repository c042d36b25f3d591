"""MXNet's operations that move values: shapes, slices, copies; and its reductions."""

from __future__ import annotations

import math

import numpy as np

from app.engines.onnx_export.operators import Call, Result, features, operator, place
from app.engines.onnx_export.writer import Shape, Tensor

# shapes


@operator("Flatten flatten")
def _flatten(call: Call) -> Result:
    return call.graph.reshape(call.x, features(call.x))


@operator("Reshape reshape")
def _reshape(call: Call) -> Result:
    target = call.node.numbers("shape", ())
    if not target:
        return call.graph.reshape(call.x, _older_target(call))
    if call.node.flag("reverse"):
        shape = target_shape(call.x.shape[::-1], target[::-1])[::-1]
    else:
        shape = target_shape(call.x.shape, target)
    return call.graph.reshape(call.x, shape)


def _older_target(call: Call) -> Shape:
    """Return the shape of a ``Reshape`` of MXNet before 0.9: a size of 0 stands for the rest."""
    target = list(call.node.numbers("target_shape", ()))
    if not target:
        raise ValueError("it does not say the new shape")
    first = 0
    if call.node.flag("keep_highest"):
        target[0], first = call.x.shape[0], 1
    if target[first:].count(0) == 1:
        rest = target.index(0, first)
        target[rest] = 1
        target[rest] = math.prod(call.x.shape) // math.prod(target)
    return tuple(target)


def target_shape(shape: Shape, target: Shape) -> Shape:
    """Return the shape that MXNet's special sizes stand for.

    0 copies an axis, -1 is the rest, -2 copies all remaining axes, -3 joins two axes, and -4 splits one into the two
    sizes that follow, of which one may be -1.

    :raises ValueError: if they do not fit the shape.
    """
    made: list[int] = []
    source, position = 0, 0
    while position < len(target):
        size = target[position]
        if size in (0, -3, -4) and source + (size == -3) >= len(shape):
            raise ValueError(f"{shape} cannot be laid out as {target}: it has too few axes")
        if size == 0:
            made.append(shape[source])
        elif size == -2:
            made += shape[source:]
            source = len(shape)
        elif size == -3:
            made.append(shape[source] * shape[source + 1])
            source += 1
        elif size == -4:
            parts = list(target[position + 1 : position + 3])
            if len(parts) != 2 or parts.count(-1) > 1:
                raise ValueError(f"{target} does not say how to split an axis")
            if -1 in parts:
                parts[parts.index(-1)] = shape[source] // -math.prod(parts)
            made += parts
            position += 2
        else:
            made.append(size)
        source += 1
        position += 1
    if made.count(-1) == 1:
        rest = -math.prod(made)
        made[made.index(-1)] = math.prod(shape) // rest if rest else 0
    return tuple(made)


@operator("reshape_like")
def _reshape_like(call: Call) -> Result:
    if any(call.node.numbers(f"{side}_{end}", ()) for side in ("lhs", "rhs") for end in ("begin", "end")):
        raise call.refusal("of a part of the axes")
    return call.graph.reshape(call.x, call.input(1).shape)


@operator("transpose")
def _transpose(call: Call) -> Result:
    rank = len(call.x.shape)
    axes = [place(axis, rank) for axis in call.node.numbers("axes", tuple(range(rank - 1, -1, -1)))]
    if sorted(axes) != list(range(rank)):
        raise ValueError(f"{axes} is no order of the axes of {call.x.shape}")
    return call.graph.transpose(call.x, axes)


@operator("SwapAxis swapaxes")
def _swap(call: Call) -> Result:
    return call.graph.swap(call.x, call.axis("dim1", 0), call.axis("dim2", 0))


@operator("expand_dims")
def _expand(call: Call) -> Result:
    position = place(call.node.number("axis", 0), len(call.x.shape) + 1)
    return call.graph.reshape(call.x, (*call.x.shape[:position], 1, *call.x.shape[position:]))


@operator("squeeze")
def _squeeze(call: Call) -> Result:
    """Write a shape without axes of 1; without stated axes the batch stays, which is rarely 1."""
    shape = call.x.shape
    stated = call.node.numbers("axis", ())
    axes = {place(axis, len(shape)) for axis in stated} or {n for n, size in enumerate(shape) if n and size == 1}
    if any(shape[axis] != 1 for axis in axes):
        raise ValueError(f"the axes {sorted(axes)} of {shape} are not all of the size 1")
    return call.graph.reshape(call.x, [size for axis, size in enumerate(shape) if axis not in axes] or (1,))


@operator("depth_to_space space_to_depth")
def _blocks(call: Call) -> Result:
    count, channels, height, width = call.x.shape
    block = call.node.number("block_size", 1)
    if call.node.op == "depth_to_space":
        shape = count, channels // block**2, height * block, width * block
        return call.graph.write("DepthToSpace", [call.x], shape, blocksize=block, mode="DCR")
    shape = count, channels * block**2, height // block, width // block
    return call.graph.write("SpaceToDepth", [call.x], shape, blocksize=block)


# parts


@operator("Concat concat")
def _concat(call: Call) -> Result:
    return call.graph.concat(call.inputs, call.axis("dim", 1))


@operator("stack")
def _stack(call: Call) -> Result:
    position = place(call.node.number("axis", 0), len(call.x.shape) + 1)
    parts = [call.graph.reshape(x, (*x.shape[:position], 1, *x.shape[position:])) for x in call.inputs]
    return call.graph.concat(parts, position)


@operator("SliceChannel split")
def _split(call: Call) -> Result:
    axis, count = call.axis("axis", 1), call.node.number("num_outputs", 1)
    if count < 1 or call.x.shape[axis] % count:
        raise ValueError(f"{call.x.shape} cannot be split into {count} equal parts along the axis {axis}")
    return _parts(call, axis, [number * call.x.shape[axis] // count for number in range(count)])


@operator("_split_v2")
def _split_at(call: Call) -> Result:
    axis, sections = call.axis("axis", 1), call.node.number("sections", 0)
    size = call.x.shape[axis]
    if sections:
        return _parts(call, axis, [number * size // sections for number in range(sections)])
    return _parts(call, axis, sorted({0, *call.node.numbers("indices", (0,))}))


def _parts(call: Call, axis: int, starts: list[int]) -> list[Tensor]:
    parts = [
        call.graph.slice(call.x, axis, start, stop)
        for start, stop in zip(starts, [*starts[1:], call.x.shape[axis]], strict=True)
    ]
    if not call.node.flag("squeeze_axis"):
        return parts
    return [call.graph.reshape(part, [*part.shape[:axis], *part.shape[axis + 1 :]]) for part in parts]


@operator("slice crop")
def _slice(call: Call) -> Result:
    x = call.x
    begin, end, step = (call.node.bounds(key) for key in ("begin", "end", "step"))
    for axis, start in enumerate(begin):
        stop = end[axis] if axis < len(end) else None
        x = call.graph.slice(x, axis, start, stop, step[axis] if axis < len(step) else None)
    return x


@operator("slice_axis")
def _slice_axis(call: Call) -> Result:
    begin, end = call.node.bounds("begin") or (None,), call.node.bounds("end") or (None,)
    return call.graph.slice(call.x, call.axis("axis", 0), begin[0], end[0])


@operator("slice_like")
def _slice_like(call: Call) -> Result:
    x, like = call.x, call.input(1).shape
    axes = [place(axis, len(x.shape)) for axis in call.node.numbers("axes", tuple(range(min(len(x.shape), len(like)))))]
    for axis in axes:
        x = call.graph.slice(x, axis, 0, like[axis])
    return x


@operator("Crop")
def _crop(call: Call) -> Result:
    """Write the cut of maps to the size that is stated, or to that of the second input."""
    sizes = call.input(1).shape[2:] if len(call.inputs) > 1 else call.sides("h_w", 0, 2)
    starts = call.sides("offset", 0, 2)
    x = call.x
    if call.node.flag("center_crop"):
        starts = tuple((side - size) // 2 for side, size in zip(x.shape[2:], sizes, strict=True))
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True), 2):
        if start + size > x.shape[axis]:
            raise ValueError(f"{x.shape} cannot be cut to {tuple(sizes)} from {starts}")
        x = call.graph.slice(x, axis, start, start + size)
    return x


@operator("reverse flip")
def _reverse(call: Call) -> Result:
    x = call.x
    for axis in call.node.numbers("axis", ()):
        x = call.graph.slice(x, place(axis, len(x.shape)), None, None, -1)
    return x


@operator("Pad pad")
def _pad(call: Call) -> Result:
    widths = call.node.numbers("pad_width", ())
    if len(widths) != 2 * len(call.x.shape):
        raise ValueError(f"its pad_width {widths} does not fit {call.x.shape}")
    mode = call.check_option("mode", "constant", "edge", "reflect")
    sides = list(zip(widths[::2], widths[1::2], strict=True))
    return call.graph.pad(call.x, sides, mode, call.node.real("constant_value", 0.0))


# copies


def _expanded(call: Call, shape: Shape) -> Tensor:
    if np.broadcast_shapes(call.x.shape, shape) != shape:
        raise ValueError(f"{call.x.shape} cannot be broadcast to {shape}")
    if shape == call.x.shape:
        return call.x
    return call.graph.write("Expand", [call.x, call.graph.constant(np.array(shape, np.int64))], shape)


@operator("broadcast_to")
def _broadcast_to(call: Call) -> Result:
    target = call.node.numbers("shape", ())
    if len(target) != len(call.x.shape):
        raise ValueError(f"{call.x.shape} cannot be broadcast to {target}")
    return _expanded(call, tuple(size or own for size, own in zip(target, call.x.shape, strict=True)))


@operator("broadcast_like")
def _broadcast_like(call: Call) -> Result:
    if call.node.numbers("lhs_axes", ()) or call.node.numbers("rhs_axes", ()):
        raise call.refusal("of a part of the axes")
    return _expanded(call, call.input(1).shape)


@operator("broadcast_axis broadcast_axes")
def _broadcast_axis(call: Call) -> Result:
    shape = list(call.x.shape)
    for axis, size in zip(call.node.numbers("axis", ()), call.node.numbers("size", ()), strict=True):
        shape[axis] = size
    return _expanded(call, tuple(shape))


@operator("tile")
def _tile(call: Call) -> Result:
    reps = call.node.numbers("reps", (1,))
    rank = max(len(reps), len(call.x.shape))
    x = call.graph.reshape(call.x, (*[1] * (rank - len(call.x.shape)), *call.x.shape))
    counts = [1] * (rank - len(reps)) + list(reps)
    shape = [size * count for size, count in zip(x.shape, counts, strict=True)]
    return call.graph.write("Tile", [x, call.graph.constant(np.array(counts, np.int64))], shape)


@operator("repeat")
def _repeat(call: Call) -> Result:
    """Write the repetition of every element along an axis."""
    if not call.node.numbers("axis", ()):
        raise call.refusal("without an axis")
    axis, count = call.axis("axis", 0), call.node.number("repeats", 1)
    shape = call.x.shape
    x = call.graph.reshape(call.x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    counts = [count if number == axis + 1 else 1 for number in range(len(x.shape))]
    sizes = (*shape[: axis + 1], count, *shape[axis + 1 :])
    tiled = call.graph.write("Tile", [x, call.graph.constant(np.array(counts, np.int64))], sizes)
    return call.graph.reshape(tiled, (*shape[:axis], shape[axis] * count, *shape[axis + 1 :]))


@operator("_zeros _zeros_without_dtype _ones _full")
def _filled(call: Call) -> Result:
    shape = call.node.numbers("shape", ())
    if not shape or min(shape) < 1:
        raise call.refusal(f"of the shape {shape}")
    value = {"_ones": 1.0, "_full": call.node.real("value", 0.0)}.get(call.node.op, 0.0)
    return call.graph.constant(np.full(shape, value))


# reductions

REDUCTIONS = {
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "sum_axis": "ReduceSum",
    "nansum": "ReduceSum",
    "max": "ReduceMax",
    "max_axis": "ReduceMax",
    "min": "ReduceMin",
    "min_axis": "ReduceMin",
    "prod": "ReduceProd",
    "nanprod": "ReduceProd",
}


@operator(" ".join(REDUCTIONS))
def _reduction(call: Call) -> Result:
    return _without(call, call.graph.reduce(REDUCTIONS[call.node.op], call.x, _axes(call)))


@operator("norm")
def _norm(call: Call) -> Result:
    graph, axes = call.graph, _axes(call)
    if call.node.number("ord", 2) == 1:
        return _without(call, graph.reduce("ReduceSum", graph.unary("Abs", call.x), axes))
    squares = graph.reduce("ReduceSum", graph.binary("Mul", call.x, call.x), axes)
    return _without(call, graph.unary("Sqrt", squares))


def _axes(call: Call) -> list[int]:
    """Return the axes of a reduction; none means all."""
    rank = len(call.x.shape)
    axes = sorted({place(axis, rank) for axis in call.node.numbers("axis", ())})
    if call.node.flag("exclude"):
        axes = [axis for axis in range(rank) if axis not in axes]
    return axes or list(range(rank))


def _without(call: Call, reduced: Tensor) -> Tensor:
    """Remove the axes that were reduced, unless they are to stay."""
    if call.node.flag("keepdims"):
        return reduced
    axes = _axes(call)
    shape = [size for axis, size in enumerate(reduced.shape) if axis not in axes]
    return call.graph.reshape(reduced, shape or (1,))
