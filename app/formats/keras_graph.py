"""A Keras architecture as one graph of layers, with inner models expanded.

Format of a model's description in Keras 2: ``Sequential`` lists its layers; ``Functional`` (``Model`` in older files)
lists them with ``inbound_nodes``, one node for each call of the layer. A node lists its input tensors as ``[layer,
node, tensor, options]``. An operation of TensorFlow (``TFOpLambda``) has one such entry without the surrounding list,
and its constants and further tensors among the options. Nodes of an inner model count from 1, because node 0 built the
model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.errors import ModelFormatError
from app.formats.keras_legacy import read_node

MODELS = ("Sequential", "Model", "Functional")
CONSTANT = "_CONSTANT_VALUE"
MAX_CALLS = 20_000
"""The largest number of calls of layers in one network. The deepest of ``keras.applications`` has about 1,300; models
that are called twice by models that are called twice would double the number at each level."""


@dataclass(frozen=True)
class Tensor:
    """The output of one call of a layer, by the call's place in :attr:`Graph.calls`; -1 is the network's input."""

    call: int


INPUT = Tensor(-1)


@dataclass(frozen=True, eq=False)
class Leaf:
    """A layer that is not a model. ``models`` names the inner models that hold it, outermost first."""

    name: str
    class_name: str
    config: dict[str, Any]
    models: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Nested:
    """An inner model, with its layers in Keras's order of their weights."""

    name: str
    trainable: bool
    children: tuple[Leaf | Nested, ...]
    class_name: str = "Functional"

    def leaves(self) -> Iterator[Leaf]:
        """Yield every layer, including those of inner models."""
        for child in self.children:
            if isinstance(child, Leaf):
                yield child
            else:
                yield from child.leaves()

    def models(self) -> Iterator[Nested]:
        """Yield the model itself and all its inner models, in file order."""
        yield self
        for child in self.children:
            if isinstance(child, Nested):
                yield from child.models()


@dataclass(frozen=True)
class Call:
    """One call of a layer. ``arguments`` and the values of ``options`` are tensors, constants, or lists of them."""

    leaf: Leaf
    arguments: tuple[Any, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """A network with one input and one output.

    ``input_shape`` has the batch axis; None stands for any size. ``calls`` are in computation order, without calls that
    the output does not need. ``root`` is the outermost model, with all layers of the file.
    """

    input_name: str
    input_shape: tuple[int | None, ...]
    input_dtype: str
    calls: tuple[Call, ...]
    output: Tensor
    root: Nested


def picture_shape(graph: Graph) -> tuple[int, ...]:
    """Return the shape of a network's input pictures, with the batch axis; 0 stands for any size.

    Grey pictures without a channel axis, (N, 28, 28), get one. Open sizes are those of a first layer that resizes.
    """
    shape = graph.input_shape if len(graph.input_shape) != 3 else (*graph.input_shape, 1)
    sizes = [size or 0 for size in shape]
    first = graph.calls[0].leaf if graph.calls else None
    if len(sizes) == 4 and not any(sizes[1:3]) and first is not None and first.class_name == "Resizing":
        sizes[1:3] = int(first.config["height"]), int(first.config["width"])
    return tuple(sizes)


def described_objects(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every description, ``{"class_name", …}``, in an architecture, of layers, models and values."""
    if isinstance(node, dict):
        if "class_name" in node:
            yield node
        for value in node.values():
            yield from described_objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from described_objects(value)


def is_operation(leaf: Leaf) -> bool:
    """Return whether a layer is a TensorFlow operation that was applied to a Keras tensor."""
    return leaf.class_name in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")


def output_names(config: dict[str, Any]) -> list[str]:
    """Return the names of a network's output layers, in order; empty if it has just one output.

    :raises ModelFormatError: if the architecture is damaged.
    """
    options = config.get("config")
    described = options.get("output_layers") if isinstance(options, dict) else None
    try:
        names = [name for name, _node, _tensor in _tensors(described or [])]
    except (LookupError, TypeError, ValueError) as error:
        raise ModelFormatError(f"its output_layers are damaged: {error}") from None
    return names if len(names) > 1 else []


def read_graph(config: dict[str, Any], output: str = "") -> Graph:
    """Read an architecture, ``{"class_name", "config", …}``, in the format of Keras 2.

    :param output: the name of the output to use; the first if there is none of that name.
    :raises ModelFormatError: if it does not have exactly one input, or is damaged.
    """
    with _refusing_damage():
        parsed = _parse_whole(config)
        name, shape, dtype = parsed.input()
        tracer = _Tracer()
        outputs = tracer.apply(parsed, [INPUT])
        if len(outputs) == 1:
            return Graph(name, shape, dtype, tuple(tracer.calls), outputs[0], parsed.nested())
        names = output_names(config)
        chosen = outputs[names.index(output) if output in names else 0]
        return Graph(name, shape, dtype, *_needed(tracer.calls, chosen), parsed.nested())


def read_layers(config: dict[str, Any]) -> Nested:
    """Read the layers of an architecture, as :func:`read_graph` does, without their connections.

    :raises ModelFormatError: if it is damaged.
    """
    with _refusing_damage():
        return _parse_whole(config).nested()


@contextmanager
def _refusing_damage() -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:  # JSON of any shape
        reason = f"{type(error).__name__}: {error}"
        raise ModelFormatError(f"its model_config does not describe layers as Keras does: {reason}") from None


def _needed(calls: list[Call], output: Tensor) -> tuple[tuple[Call, ...], Tensor]:
    """Return the calls that one output needs, and that output, renumbered."""
    needed, waiting = set(), [output.call]
    while waiting:
        place = waiting.pop()
        if place >= 0 and place not in needed:
            needed.add(place)
            waiting += [item.call for item in tensors_in((*calls[place].arguments, *calls[place].options.values()))]
    places = {old: new for new, old in enumerate(sorted(needed))} | {INPUT.call: INPUT.call}

    def moved(value: Any) -> Any:
        return replaced(value, lambda item: Tensor(places[item.call]) if isinstance(item, Tensor) else item)

    kept = (calls[place] for place in sorted(needed))
    return tuple(Call(call.leaf, moved(call.arguments), moved(call.options)) for call in kept), moved(output)


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return an argument or options in which ``change`` has replaced every item, also of inner lists and objects."""
    if isinstance(value, list | tuple):
        return type(value)(replaced(item, change) for item in value)
    if isinstance(value, Mapping):
        return {key: replaced(item, change) for key, item in value.items()}
    return change(value)


@dataclass(eq=False)
class _Model:
    """The parsed description of a model; ``nodes``, ``inputs`` and ``outputs`` are only for functional models."""

    name: str
    sequential: bool
    trainable: bool
    children: dict[str, Leaf | _Model]
    nodes: dict[str, list[_Node]] = field(default_factory=dict)
    inputs: list[tuple[str, int, int]] = field(default_factory=list)
    outputs: list[tuple[str, int, int]] = field(default_factory=list)
    build_shape: Any = None

    def nested(self) -> Nested:
        children = (child.nested() if isinstance(child, _Model) else child for child in self.children.values())
        kind = "Sequential" if self.sequential else "Functional"
        return Nested(self.name, self.trainable, tuple(children), kind)

    def offsets(self) -> dict[str, int]:
        """Return the number of each inner model's first node: 1, or 0 for a Sequential that was built by that call."""
        first = {name: 1 for name, child in self.children.items() if isinstance(child, _Model)}
        needed = (key for listed in self.nodes.values() for node in listed for key in node.needs())
        for name, number, _tensor in (*needed, *self.outputs):
            if name in first:
                first[name] = min(first[name], number)
        return first

    def input(self) -> tuple[str, tuple[int | None, ...], str]:
        """Return the name, batch shape and type of the network's only input."""
        if not self.sequential:
            if len(self.inputs) != 1:
                raise ModelFormatError(f"it has {len(self.inputs)} inputs; an image classifier has one")
            return _input_of(self.children[self.inputs[0][0]], None)
        first = next(iter(self.children.values()), None)
        if first is None:
            raise ModelFormatError("its model_config describes no layers")
        return _input_of(first, self.build_shape)


def _input_of(layer: Leaf | _Model, build_shape: Any) -> tuple[str, tuple[int | None, ...], str]:
    if isinstance(layer, _Model):
        try:
            return layer.input()
        except ModelFormatError:
            if not build_shape:
                raise
        config, name = {}, f"{layer.name}_input"
    else:
        config = layer.config
        name = layer.name if layer.class_name == "InputLayer" else f"{layer.name}_input"
    shape = config.get("batch_input_shape") or build_shape
    if not shape:
        raise ModelFormatError("it does not say the shape of its input; give the first layer an input_shape")
    return name, tuple(None if side is None else int(side) for side in shape), str(config.get("dtype") or "float32")


def _parse_whole(config: dict[str, Any]) -> _Model:
    parsed = _parse(config, None)
    if not isinstance(parsed, _Model):
        raise ModelFormatError("its model_config describes no layers")
    return parsed


def _parse(node: dict[str, Any], models: tuple[str, ...] | None) -> Leaf | _Model:
    """Parse the description of a layer or a model.

    :param models: names of the inner models that hold it; None for the network itself.
    """
    class_name, config = str(node.get("class_name")).removeprefix("Keras>"), node.get("config")
    if class_name not in MODELS:
        if not isinstance(config, dict):
            raise ModelFormatError(f"its layer {node.get('name')} of the kind {class_name} has no options")
        return Leaf(str(config.get("name") or node.get("name")), class_name, config, models or ())
    options = config if isinstance(config, dict) else {"layers": config}  # Sequential before Keras 2.2.3 is a list
    layers = options.get("layers")
    if not isinstance(layers, list):
        raise ModelFormatError("its model_config describes no layers")
    name = str(options.get("name") or node.get("name") or class_name.lower())
    inside = () if models is None else (*models, name)
    children: dict[str, Leaf | _Model] = {}
    nodes: dict[str, list[Any]] = {}
    for layer in layers:
        child = _parse(layer, inside)
        # nodes refer to a layer by its entry's name, which may differ from its configuration's
        key = str(layer.get("name") or child.name)
        if key in children:
            raise ModelFormatError(f"two of its layers are called {key}")
        children[key] = child
        nodes[key] = layer.get("inbound_nodes") or []
    model = _Model(name, class_name == "Sequential", options.get("trainable") is not False, children)
    model.build_shape = options.get("build_input_shape")
    if not model.sequential:
        model.nodes = {key: [_Node(children, key, data) for data in listed] for key, listed in nodes.items()}
        model.inputs, model.outputs = _tensors(options["input_layers"]), _tensors(options["output_layers"])
    return model


def _tensors(described: Any) -> list[tuple[str, int, int]]:
    if isinstance(described, Mapping):
        described = list(described.values())
    if described and isinstance(described[0], str):
        described = [described]
    return [(str(item[0]), int(item[1]), int(item[2])) for item in described]


class _Tracer:
    """An interpreter that applies models to tensors and records each call of a layer."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._applied = 0

    def apply(self, layer: Leaf | _Model, arguments: list[Any], options: Mapping[str, Any] | None = None) -> list[Any]:
        """Apply a layer or a model."""
        # these options have no effect at prediction
        given = {key: value for key, value in (options or {}).items() if value is not None}
        named = {key: value for key, value in given.items() if key != "training" or value not in (False, 0)}
        self._applied += 1
        if self._applied > MAX_CALLS:
            raise ModelFormatError(f"it has more than {MAX_CALLS:,} calls of layers")
        if isinstance(layer, Leaf):
            return [self._call(layer, arguments, named)]
        if named:
            listed = ", ".join(f"{key}={value!r}" for key, value in named.items())
            raise ModelFormatError(f"its model {layer.name} is called with {listed}, which is not supported")
        if not layer.sequential:
            return self._functional(layer, arguments)
        for child in layer.children.values():
            arguments = self.apply(child, arguments)
        return arguments

    def _call(self, leaf: Leaf, arguments: list[Any], named: dict[str, Any]) -> Any:
        if leaf.class_name == "InputLayer":
            return arguments[0]
        if leaf.class_name == "TensorFlowOpLayer":
            try:
                function, arguments, named = read_node(leaf.config, arguments)
            except ModelFormatError as error:
                raise ModelFormatError(f"its layer {'/'.join((*leaf.models, leaf.name))}: {error}") from None
            leaf = Leaf(leaf.name, "TFOpLambda", {"name": leaf.name, "function": function}, leaf.models)
        self.calls.append(Call(leaf, tuple(arguments), named))
        return Tensor(len(self.calls) - 1)

    def _functional(self, model: _Model, arguments: list[Any]) -> list[Any]:
        if len(arguments) != len(model.inputs):
            raise ModelFormatError(f"its model {model.name} takes {len(model.inputs)} inputs, not {len(arguments)}")
        offsets = model.offsets()
        known: dict[tuple[str, int], list[Any]] = {
            (name, 0): [tensor] for (name, _node, _tensor), tensor in zip(model.inputs, arguments, strict=True)
        }
        pending, begun = [(name, node) for name, node, _tensor in reversed(model.outputs)], set()
        while pending:
            key = name, number = pending[-1]
            if key in known:
                pending.pop()
                continue
            node = model.nodes[name][number - offsets.get(name, 0)]
            missing = [need[:2] for need in node.needs() if need[:2] not in known]
            if missing:
                if key in begun:
                    raise ModelFormatError(f"its layer {name} needs its own output")
                begun.add(key)
                pending.extend(reversed(missing))
                continue
            pending.pop()
            inputs, options = node.filled(known)
            known[key] = self.apply(model.children[name], inputs, options)
        return [known[name, node][tensor] for name, node, tensor in model.outputs]


@dataclass(frozen=True)
class _Reference:
    """A tensor of a functional model by layer, node and number."""

    key: tuple[str, int, int]


class _Node:
    """One call of a layer of a functional model, with references instead of tensors."""

    def __init__(self, children: Mapping[str, Leaf | _Model], name: str, data: Any) -> None:
        self._children = children
        if isinstance(data, Mapping):
            raise ModelFormatError(f"its layer {name} is called with inputs by name, which is not supported")
        self._options: dict[str, Any] = {}
        alone = bool(data) and isinstance(data[0], str)
        entries = [self._entry(entry) for entry in ([data] if alone else data)]
        child = children[name]
        # a Keras layer takes each of its inputs, a TensorFlow function takes the list as one argument
        is_list = isinstance(child, Leaf) and child.class_name == "TFOpLambda" and not alone
        self._arguments: list[Any] = [entries] if is_list else entries

    def _entry(self, entry: Any) -> Any:
        name, node, tensor = entry[:3]
        if len(entry) > 3 and entry[3]:
            self._options = {key: self._value(value) for key, value in entry[3].items()}
        return tensor if name == CONSTANT else _Reference((str(name), int(node), int(tensor)))

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            if len(value) in (3, 4) and isinstance(value[0], str) and (value[0] in self._children):
                return _Reference((value[0], int(value[1]), int(value[2])))
            if len(value) >= 3 and value[0] == CONSTANT:
                return value[2]
            return [self._value(item) for item in value]
        if isinstance(value, Mapping):
            return {key: self._value(item) for key, item in value.items()}
        return value

    def needs(self) -> list[tuple[str, int, int]]:
        """Return the keys of the tensors that the call needs."""
        return [item.key for item in _flat((self._arguments, self._options)) if isinstance(item, _Reference)]

    def filled(self, known: Mapping[tuple[str, int], list[Any]]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments and options, with references replaced by tensors."""

        def filled(item: Any) -> Any:
            return known[item.key[:2]][item.key[2]] if isinstance(item, _Reference) else item

        return replaced(self._arguments, filled), replaced(self._options, filled)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, Mapping):
        yield from _flat(list(value.values()))
    else:
        yield value


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among arguments or options."""
    return [item for item in _flat(list(values)) if isinstance(item, Tensor)]
