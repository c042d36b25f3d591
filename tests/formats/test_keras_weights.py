"""The order in which Keras lists the weights of nested models: the trainable ones first, then the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.errors import ModelFormatError
from app.formats.keras_graph import Leaf, Nested
from app.formats.keras_weights import Group, assign_weights


def leaf(kind: str, name: str, **options: Any) -> Leaf:
    return Leaf(name, kind, {"name": name, **options})


def block(frozen: tuple[str, ...] = ()) -> tuple[Leaf, ...]:
    kinds = (("Conv2D", "c1"), ("BatchNormalization", "n1"), ("Conv2D", "c2"), ("BatchNormalization", "n2"))
    return tuple(leaf(kind, name, trainable=name not in frozen) for kind, name in kinds)


def dealt(child: Leaf | Nested, count: int, names: tuple[str, ...] = ()) -> dict[str, list[int]]:
    """Deal out the numbers from 0, and say which numbers each layer got, in the order of what they are to it."""
    arrays = tuple(np.array([number]) for number in range(count))
    group = Group(child.name, names or ("",) * count, arrays)
    made = assign_weights(Nested("whole", True, (child,)), [group])
    return {layer.name: [int(array[0]) for array in found.values()] for layer, found in made.items()}


def test_moving_means_follow_all_trainable_weights() -> None:
    expected = {"c1": [0, 1], "n1": [2, 3, 8, 9], "c2": [4, 5], "n2": [6, 7, 10, 11]}
    assert dealt(Nested("base", True, block()), 12) == expected


def test_nested_models_form_one_list() -> None:
    inner = Nested("inner", True, block())
    expected = {"c1": [0, 1], "n1": [2, 3, 10, 11], "c2": [4, 5], "n2": [6, 7, 12, 13], "d": [8, 9]}
    assert dealt(Nested("outer", True, (inner, leaf("Dense", "d"))), 14) == expected


def test_frozen_weights_are_listed_with_the_untrainable_ones() -> None:
    expected = {"c1": [4, 5], "n1": [6, 7, 8, 9], "c2": [0, 1], "n2": [2, 3, 10, 11]}
    assert dealt(Nested("base", True, block(frozen=("c1", "n1"))), 12) == expected


def test_a_frozen_model_lists_its_trainable_weights_first() -> None:
    dense = leaf("Dense", "d")
    expected = {"d": [0, 1], "c1": [2, 3], "n1": [4, 5, 10, 11], "c2": [6, 7], "n2": [8, 9, 12, 13]}
    assert dealt(Nested("outer", True, (Nested("inner", False, block()), dense)), 14) == expected


def test_absent_scales_and_biases_are_not_counted() -> None:
    layers = (leaf("Conv2D", "c", use_bias=False), leaf("BatchNormalization", "n", scale=False))
    assert dealt(Nested("base", True, layers), 4) == {"c": [0], "n": [1, 2, 3]}


def test_names_that_state_the_layer_of_each_array_are_used() -> None:
    layers = (leaf("Dense", "a"), leaf("Dense", "b"))
    names = ("b/kernel:0", "b/bias:0", "a/kernel:0", "a/bias:0")
    assert dealt(Nested("base", True, layers), 4, names) == {"b": [0, 1], "a": [2, 3]}


def test_groups_with_other_names_are_matched_by_order() -> None:
    root = Nested("whole", True, (leaf("Dense", "dense_1"), leaf("Flatten", "f"), leaf("Dense", "dense_2")))
    groups = [Group(name, ("kernel", "bias"), (np.array([n]), np.array([n]))) for n, name in enumerate("xy")]
    assert [int(arrays["kernel"][0]) for arrays in assign_weights(root, groups).values()] == [0, 1]


def test_a_missing_array_and_a_missing_layer_are_refused() -> None:
    with pytest.raises(ModelFormatError, match="base has 12 arrays of weights, and the file holds 11"):
        dealt(Nested("base", True, block()), 11)
    with pytest.raises(ModelFormatError, match="it has 0 layers with weights, and holds those of 1"):
        assign_weights(Nested("whole", True, ()), [Group("d", ("kernel",), (np.zeros(1),))])
