"""Architectures taken apart into layers, against what Keras's own descriptions say."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import ModelFormatError
from app.formats.keras_graph import Tensor, is_operation, read_graph


def leaf_layers(config: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """List the layers of an architecture in computation order, as ``(class_name, config)``.

    Models inside are taken apart. The first is always an ``InputLayer``, whose ``batch_input_shape`` is the network's
    input (with the batch axis; None stands for any size). The configuration of an operation of TensorFlow has in
    addition ``call``: the pair of its positional arguments and its named ones, in which a :class:`Tensor` stands for
    what is computed and everything else is a constant.

    :raises ModelFormatError: if the architecture has not exactly one input and one output, or is damaged.
    """
    graph = read_graph(config)
    first = {"name": graph.input_name, "batch_input_shape": list(graph.input_shape), "dtype": graph.input_dtype}
    listed: dict[int, tuple[str, dict[str, Any]]] = {}
    for call in graph.calls:
        leaf = call.leaf
        extra = {"call": (call.arguments, call.options)} if is_operation(leaf) else {}
        listed.setdefault(id(leaf), (leaf.class_name, leaf.config | extra))
    return [("InputLayer", first), *listed.values()]


def layer(kind: str, name: str, *inputs: Any, **options: Any) -> dict[str, Any]:
    """Describe a layer of a functional model, with one node."""
    described: dict[str, Any] = {"class_name": kind, "name": name, "config": {"name": name, **options}}
    return {**described, "inbound_nodes": list(inputs)}


def source(name: str, shape: tuple[int | None, ...] = (None, 8, 8, 3)) -> dict[str, Any]:
    return layer("InputLayer", name, batch_input_shape=list(shape), dtype="float32")


def sequential(name: str, *layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "name": name, "config": {"name": name, "layers": list(layers)}}


def functional(name: str, output: list[Any], *layers: dict[str, Any]) -> dict[str, Any]:
    config = {"name": name, "layers": list(layers), "input_layers": [["x", 0, 0]], "output_layers": [output]}
    return {"class_name": "Functional", "name": name, "config": config}


def listed(config: dict[str, Any]) -> list[tuple[str, str]]:
    return [(kind, options["name"]) for kind, options in leaf_layers(config)]


def test_nested_models_are_flattened() -> None:
    base = sequential("base", source("i"), layer("Conv2D", "c"))
    body = sequential("features", base, layer("Flatten", "f"))
    config = sequential("whole", source("x"), body, sequential("top", source("j", (None, 4)), layer("Dense", "d")))
    assert listed(config) == [("InputLayer", "x"), ("Conv2D", "c"), ("Flatten", "f"), ("Dense", "d")]
    assert [model.name for model in read_graph(config).root.models()] == ["whole", "features", "base", "top"]
    assert leaf_layers(config)[0][1]["batch_input_shape"] == [None, 8, 8, 3]


def test_layers_are_in_the_order_of_computation_and_not_of_the_file() -> None:
    config = functional(
        "m",
        ["d", 0, 0],
        layer("Dense", "d", [["a", 0, 0, {}]]),
        layer("Add", "a", [["c", 0, 0, {}], ["x", 0, 0, {}]]),
        layer("Conv2D", "unused", [["x", 0, 0, {}]]),
        layer("Conv2D", "c", [["x", 0, 0, {}]]),
        source("x"),
    )
    assert [name for _kind, name in listed(config)] == ["x", "c", "a", "d"]


def test_a_nested_model_counts_its_nodes_from_1_and_may_lack_the_training_flag() -> None:
    base = functional("base", ["c", 0, 0], source("x"), layer("Conv2D", "c", [["x", 0, 0, {}]]))
    base["inbound_nodes"] = [[["x", 0, 0, {"training": False, "mask": None}]]]
    config = functional("m", ["d", 0, 0], source("x"), base, layer("Dense", "d", [["base", 1, 0, {}]]))
    assert listed(config) == [("InputLayer", "x"), ("Conv2D", "c"), ("Dense", "d")]


def test_an_operation_keeps_its_constants() -> None:
    config = functional(
        "m",
        ["one", 0, 0],
        source("x"),
        layer("TFOpLambda", "half", ["x", 0, 0, {"y": 2.0, "name": None}], function="math.truediv"),
        layer("TFOpLambda", "both", [["half", 0, 0, {"axis": -1}], ["x", 0, 0, {"axis": -1}]], function="concat"),
        layer("TFOpLambda", "one", ["_CONSTANT_VALUE", -1, 1.0, {"y": ["both", 0, 0]}], function="math.subtract"),
    )
    assert [options.get("call") for _kind, options in leaf_layers(config)] == [
        None,
        ((Tensor(-1),), {"y": 2.0}),
        (([Tensor(0), Tensor(-1)],), {"axis": -1}),
        ((1.0,), {"y": Tensor(1)}),
    ]


def test_a_network_has_an_input_shape_only_if_it_was_built() -> None:
    config = sequential("m", layer("Flatten", "f"), layer("Dense", "d"))
    with pytest.raises(ModelFormatError, match="input_shape"):
        leaf_layers(config)
    config["config"]["build_input_shape"] = [None, 28, 28]
    assert leaf_layers(config)[0] == (
        "InputLayer",
        {"name": "f_input", "batch_input_shape": [None, 28, 28], "dtype": "float32"},
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda config: config["config"].update(input_layers=[["x", 0, 0], ["x", 0, 0]]), "2 inputs"),
        (lambda config: config["config"].update(output_layers=[["nobody", 0, 0]]), "nobody"),
        (lambda config: config["config"]["layers"][1].update(inbound_nodes=[[["c", 0, 0]]]), "its own output"),
        (lambda config: config["config"]["layers"][1].update(inbound_nodes=[{"a": ["x", 0, 0]}]), "by name"),
        (lambda config: config["config"]["layers"].append(source("x")), "two of its layers are called x"),
        (lambda config: config["config"].update(layers=7), "no layers"),
        (lambda config: config.update(config=None), "no layers"),
    ],
)
def test_a_network_that_is_not_a_picture_classifier_is_refused(change: Any, reason: str) -> None:
    config = functional("m", ["c", 0, 0], source("x"), layer("Conv2D", "c", [["x", 0, 0]]))
    change(config)
    with pytest.raises(ModelFormatError, match=reason):
        leaf_layers(config)


def test_repeated_calls_of_nested_models_are_bounded() -> None:
    model = functional("m0", ["c", 0, 0], source("x"), layer("Flatten", "c", [["x", 0, 0]]))
    for level in range(20):
        name = model["name"]
        model["inbound_nodes"] = [[["x", 0, 0]], [[name, 1, 0]]]
        model = functional(f"m{level + 1}", [name, 2, 0], source("x"), model)
    with pytest.raises(ModelFormatError, match="more than 20,000 calls"):
        leaf_layers(model)
