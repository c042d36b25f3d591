"""The roles of the arrays of Keras layers (``kernel``, ``bias``, ``gamma``, …), and their order in a file.

A file of Keras lists the arrays of one layer of the outermost model together. For an inner model these are the trained
arrays of all its layers, and then all the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from app.errors import ModelFormatError
from app.formats.keras_graph import Leaf, Nested

Slot = tuple[Leaf, str]
"""A place for an array: a layer and the array's role in it."""

_ROLES = {
    "Conv1D": ("kernel", "bias"),
    "Conv2D": ("kernel", "bias"),
    "Conv2DTranspose": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "DepthwiseConv2D": ("depthwise_kernel", "bias"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "SimpleRNN": ("kernel", "recurrent_kernel", "bias"),
    "GRU": ("kernel", "recurrent_kernel", "bias"),
    "LSTM": ("kernel", "recurrent_kernel", "bias"),
    "PReLU": ("alpha",),
    "LayerScale": ("gamma",),
}
NORMALIZATIONS = ("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization")
_WORDS = {*(role for roles in _ROLES.values() for role in roles), "gamma", "beta", "moving_mean", "moving_variance"}


@dataclass(frozen=True)
class Group:
    """The arrays of one layer of the outermost model, with their names in the file."""

    name: str
    weight_names: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]


def assign_weights(root: Nested, groups: Sequence[Group]) -> dict[Leaf, dict[str, NDArray[Any]]]:
    """Return every layer's arrays by role (``kernel``, ``bias``, ``gamma``, …).

    :param groups: the groups that have arrays, in file order.
    :raises ModelFormatError: if the number of a layer's arrays is wrong.
    """
    layers = [child for child in root.children if any(slots(child))]
    if len(layers) != len(groups):
        raise ModelFormatError(f"it has {len(layers)} layers with weights, and holds those of {len(groups)}")
    by_name = {group.name: group for group in groups}
    # otherwise file order: weights alone may have the layer names of another session
    if {layer.name for layer in layers} == set(by_name):
        groups = [by_name[layer.name] for layer in layers]
    dealt: dict[Leaf, dict[str, NDArray[Any]]] = {}
    for layer, group in zip(layers, groups, strict=True):
        trained, others = slots(layer)
        for (leaf, role), array in _match_slots(layer, [*trained, *others], group):
            dealt.setdefault(leaf, {})[role] = array
    return dealt


def slots(layer: Leaf | Nested) -> tuple[list[Slot], list[Slot]]:
    """Return the trained and the other slots of a layer or model, each in Keras's order."""
    if isinstance(layer, Leaf):
        trained, others = roles(layer.class_name, layer.config)
        if layer.config.get("trainable") is False:
            trained, others = [], [*trained, *others]
        return [(layer, role) for role in trained], [(layer, role) for role in others]
    pairs = [slots(child) for child in layer.children]
    trained_slots, other_slots = ([slot for pair in pairs for slot in pair[side]] for side in (0, 1))
    return (trained_slots, other_slots) if layer.trainable else ([], [*trained_slots, *other_slots])


def roles(class_name: str, config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the roles of a layer's arrays: the trained ones, and the others."""
    if class_name in NORMALIZATIONS:
        return _affine(config), ["moving_mean", "moving_variance"]
    if class_name == "LayerNormalization":
        return _affine(config), []
    if class_name == "Normalization":
        return [], ["mean", "variance", "count"] if config.get("mean") is None else []
    if class_name in ("Bidirectional", "TimeDistributed"):
        inner = config.get("layer") or {}
        trained, others = roles(str(inner.get("class_name")), inner.get("config") or {})
        if class_name == "TimeDistributed":
            return trained, others
        return [f"{way}_{role}" for way in ("forward", "backward") for role in trained], []
    listed = _ROLES.get(class_name, ())
    return [role for role in listed if role != "bias" or config.get("use_bias", True)], []


def _affine(config: Mapping[str, Any]) -> list[str]:
    return [role for role, option in (("gamma", "scale"), ("beta", "center")) if config.get(option, True)]


def _match_slots(layer: Leaf | Nested, expected: list[Slot], group: Group) -> list[tuple[Slot, NDArray[Any]]]:
    if len(expected) != len(group.arrays):
        raise ModelFormatError(
            f"its {'layer' if isinstance(layer, Leaf) else 'model'} {layer.name} has {len(expected)} arrays of "
            f"weights, and the file holds {len(group.arrays)} for it"
        )
    named = [_split_name(name) for name in group.weight_names]
    places = {(leaf.name, role): (leaf, role) for leaf, role in expected}
    if len(places) == len(expected) and set(named) == set(places):
        return [(places[name], array) for name, array in zip(named, group.arrays, strict=True)]
    for (leaf, role), (_layer, word) in zip(expected, named, strict=False):
        if _differ(word, role):
            raise ModelFormatError(
                f"its layer {leaf.name} would get the array {word} of the file as its {role}: the weights lie in "
                "another order than Keras gives them"
            )
    return list(zip(expected, group.arrays, strict=True))


def _split_name(name: str) -> tuple[str, str]:
    """Split a weight's name into layer and role: ``block/Conv1/kernel:0`` is the ``kernel`` of ``block/Conv1``."""
    layer, _, word = name.partition(":")[0].rpartition("/")
    return layer, re.sub(r"_\d+$", "", word)


def _differ(word: str, role: str) -> bool:
    """Return whether a word in a file contradicts a role; Keras 3 calls the kernel of a ``DepthwiseConv2D`` so."""
    return word in _WORDS and role in _WORDS and word != role and (word, role) != ("kernel", "depthwise_kernel")
