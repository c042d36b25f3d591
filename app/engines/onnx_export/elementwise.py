"""MXNet's arithmetic, element by element, and its activations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from app.engines.onnx_export.operators import Call, Result, operator
from app.engines.onnx_export.writer import Tensor, Writer

Binary = Callable[[Writer, Tensor, Tensor], Tensor]
Unary = Callable[[Writer, Tensor], Tensor]

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
"""Constants of Klambauer et al., 2017, arXiv:1706.02515."""


def _of(op: str) -> Binary:
    return lambda graph, left, right: graph.binary(op, left, right)


def _compare(op: str, negated: bool = False) -> Binary:
    def compare(graph: Writer, left: Tensor, right: Tensor) -> Tensor:
        truth = graph.binary(op, left, right)
        return graph.unary("Cast", graph.unary("Not", truth) if negated else truth, to=1)

    return compare


def _hypotenuse(graph: Writer, left: Tensor, right: Tensor) -> Tensor:
    return graph.unary("Sqrt", graph.binary("Add", *(graph.binary("Mul", side, side) for side in (left, right))))


def _modulo(graph: Writer, left: Tensor, right: Tensor) -> Tensor:
    """Write the remainder that has the divisor's sign, as in Python."""
    whole = graph.unary("Floor", graph.binary("Div", left, right))
    return graph.binary("Sub", left, graph.binary("Mul", whole, right))


BINARY: dict[str, Binary] = {
    "plus": _of("Add"),
    "minus": _of("Sub"),
    "mul": _of("Mul"),
    "div": _of("Div"),
    "mod": _modulo,
    "power": _of("Pow"),
    "maximum": _of("Max"),
    "minimum": _of("Min"),
    "hypot": _hypotenuse,
    "equal": _compare("Equal"),
    "not_equal": _compare("Equal", negated=True),
    "greater": _compare("Greater"),
    "greater_equal": _compare("Less", negated=True),
    "lesser": _compare("Less"),
    "lesser_equal": _compare("Greater", negated=True),
}
"""Operations of two arrays, or of an array and a number, by the word in their names: ``_plus``, ``_plus_scalar``."""
SYNONYMS = {
    "plus": "elemwise_add _add _grad_add broadcast_add",
    "minus": "elemwise_sub _sub broadcast_sub",
    "mul": "elemwise_mul",
    "div": "elemwise_div",
}
NUMBER_FIRST = ("minus", "div", "mod", "power")
"""Operations of a number and an array: ``_rminus_scalar``."""


def _register(word: str, compute: Binary) -> None:
    title = word.title()  # older names: _Not_Equal, _NotEqualScalar
    camel = title.replace("_", "")
    operator(f"_{word} _{title} broadcast_{word} {SYNONYMS.get(word, '')}")(
        lambda call: compute(call.graph, call.x, call.input(1))
    )
    operator(f"_{word}_scalar _{camel}Scalar")(lambda call: compute(call.graph, call.x, _scalar(call)))
    if word in NUMBER_FIRST:
        operator(f"_r{word}_scalar _R{camel}Scalar")(lambda call: compute(call.graph, _scalar(call), call.x))


for _word, _binary in BINARY.items():
    _register(_word, _binary)


def _scalar(call: Call) -> Tensor:
    return call.graph.number(call.node.real("scalar", 1.0))


@operator("add_n ElementWiseSum")
def _sum(call: Call) -> Result:
    total = call.x
    for other in call.inputs[1:]:
        total = call.graph.binary("Add", total, other)
    return total


def _op(name: str) -> Unary:
    return lambda graph, x: graph.unary(name, x)


def _truncate(graph: Writer, x: Tensor) -> Tensor:
    return graph.binary("Mul", graph.unary("Sign", x), graph.unary("Floor", graph.unary("Abs", x)))


def _round(graph: Writer, x: Tensor) -> Tensor:
    """Write the nearest whole number; halves are rounded away from zero."""
    nearest = graph.unary("Floor", graph.binary("Add", graph.unary("Abs", x), 0.5))
    return graph.binary("Mul", graph.unary("Sign", x), nearest)


def _round_half_down(graph: Writer, x: Tensor) -> Tensor:
    """Write the nearest whole number; halves are rounded down, as MXNet's ``rint`` does."""
    return graph.unary("Ceil", graph.binary("Sub", x, 0.5))


def _cube_root(graph: Writer, x: Tensor) -> Tensor:
    root = graph.binary("Pow", graph.unary("Abs", x), 1 / 3)
    return graph.binary("Mul", graph.unary("Sign", x), root)


def _logarithm(base: float) -> Unary:
    return lambda graph, x: graph.binary("Mul", graph.unary("Log", x), float(1 / np.log(base)))


def _gelu(graph: Writer, x: Tensor) -> Tensor:
    """Write ``x * Phi(x)`` with the normal distribution's Phi (Hendrycks and Gimpel, 2016, arXiv:1606.08415)."""
    erf = graph.unary("Erf", graph.binary("Mul", x, float(np.sqrt(0.5))))
    return graph.binary("Mul", graph.binary("Mul", x, graph.binary("Add", erf, 1.0)), 0.5)


_SAME_NAME = "abs ceil cos cosh erf exp floor log reciprocal relu sign sin sinh softsign sqrt tan tanh"
UNARY: dict[str, Unary] = {
    **{name: _op(name.capitalize()) for name in _SAME_NAME.split()},
    **{f"arc{name}": _op(f"A{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "square": lambda graph, x: graph.binary("Mul", x, x),
    "rsqrt": lambda graph, x: graph.unary("Reciprocal", graph.unary("Sqrt", x)),
    "cbrt": _cube_root,
    "rcbrt": lambda graph, x: graph.unary("Reciprocal", _cube_root(graph, x)),
    "expm1": lambda graph, x: graph.binary("Sub", graph.unary("Exp", x), 1.0),
    "log2": _logarithm(2),
    "log10": _logarithm(10),
    "log1p": lambda graph, x: graph.unary("Log", graph.binary("Add", x, 1.0)),
    "fix trunc": _truncate,
    "round": _round,
    "rint": _round_half_down,
    "negative": _op("Neg"),
    "degrees": lambda graph, x: graph.binary("Mul", x, 180 / np.pi),
    "radians": lambda graph, x: graph.binary("Mul", x, np.pi / 180),
    "sigmoid LogisticRegressionOutput": _op("Sigmoid"),
    "logical_not": lambda graph, x: _compare("Equal")(graph, x, graph.number(0.0)),
    "zeros_like": lambda graph, x: graph.constant(np.zeros(x.shape)),
    "ones_like": lambda graph, x: graph.constant(np.ones(x.shape)),
    "_contrib_div_sqrt_dim": lambda graph, x: graph.binary("Div", x, float(np.sqrt(x.shape[-1]))),
}
for _names, _unary in UNARY.items():
    operator(_names)(lambda call, compute=_unary: compute(call.graph, call.x))  # type: ignore[misc]


@operator(
    "BlockGrad stop_gradient identity _copy _identity_with_attr_like_rhs make_loss MakeLoss "
    "LinearRegressionOutput MAERegressionOutput SVMOutput IdentityAttachKLSparseReg _contrib_gradientmultiplier"
)
def _identity(call: Call) -> Result:
    return call.x


@operator("Dropout")
def _dropout(call: Call) -> Result:
    call.check_option("mode", "training")
    return call.x


@operator("Cast cast amp_cast")
def _cast(call: Call) -> Result:
    """Return the input: the network is computed in 32-bit floats throughout."""
    call.check_option("dtype", "float32", "float16", "float64", "bfloat16")
    return call.x


@operator("amp_multicast")
def _cast_all(call: Call) -> Result:
    return call.inputs


@operator("clip")
def _clip(call: Call) -> Result:
    limits = [call.graph.number(call.node.real(key, 0.0)) for key in ("a_min", "a_max")]
    return call.graph.write("Clip", [call.x, *limits], call.x.shape)


@operator("hard_sigmoid")
def _hard_sigmoid(call: Call) -> Result:
    alpha, beta = call.node.real("alpha", 0.2), call.node.real("beta", 0.5)
    return call.graph.unary("HardSigmoid", call.x, alpha=alpha, beta=beta)


@operator("smooth_l1")
def _smooth(call: Call) -> Result:
    """Write ``(s x)^2 / 2`` up to ``1 / s^2`` and ``|x| - 1 / (2 s^2)`` above."""
    graph, square = call.graph, call.node.real("scalar", 1.0) ** 2
    size = graph.unary("Abs", call.x)
    inner = graph.binary("Mul", graph.binary("Mul", size, size), square / 2)
    is_small = graph.binary("Less", size, 1 / square)
    return graph.write("Where", [is_small, inner, graph.binary("Sub", size, 0.5 / square)], call.x.shape)


@operator("Activation")
def _activation(call: Call) -> Result:
    known = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
    return call.graph.unary(known[call.check_option("act_type", *known)], call.x)


@operator("LeakyReLU")
def _leaky(call: Call) -> Result:
    graph, x, node = call.graph, call.x, call.node
    kind = call.check_option("act_type", "leaky", "elu", "selu", "gelu", "prelu", "rrelu")
    slope = node.real("slope", 0.25)
    if kind == "prelu":
        gamma = call.input(1)
        rank = len(x.shape)
        shape = gamma.shape if len(gamma.shape) != 1 else (*gamma.shape, *[1] * (rank - 2))
        return graph.write("PRelu", [x, graph.reshape(gamma, shape)], x.shape)
    if kind == "rrelu":  # the mean of the random slopes
        slope = (node.real("lower_bound", 0.125) + node.real("upper_bound", 0.334)) / 2
    if kind == "gelu":
        return _gelu(graph, x)
    if kind == "elu":
        return graph.unary("Elu", x, alpha=slope)
    if kind == "selu":
        return graph.unary("Selu", x, alpha=SELU_ALPHA, gamma=SELU_SCALE)
    return graph.unary("Relu", x) if slope == 0 else graph.unary("LeakyRelu", x, alpha=slope)


@operator("where")
def _where(call: Call) -> Result:
    condition, yes, no = (call.input(number) for number in range(3))
    if condition.shape != yes.shape:
        raise call.refusal(f"with a condition of the shape {condition.shape} for {yes.shape}")
    is_zero = call.graph.binary("Equal", condition, 0.0)
    return call.graph.write("Where", [is_zero, no, yes], yes.shape)
