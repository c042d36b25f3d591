"""Which arrays of a Keras ``.h5`` file belong to which layer.

The file has one group for each layer of the outermost model. A model inside it is one such layer, and its group lists
the trainable arrays of all layers in it first, then all the others, as ``model.weights`` does: kernels and biases,
scales and shifts, then the moving means and variances. What was frozen counts with the others. So arrays are dealt out
in that order, and their names are heeded where they name layers: ``Conv1/kernel:0``.
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
"""A place for an array: a layer, and what the array is to it."""

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


def deal(root: Nested, groups: Sequence[Group]) -> dict[Leaf, dict[str, NDArray[Any]]]:
    """Give every layer of a network its arrays, by what they are to it (``kernel``, ``bias``, ``gamma``, …).

    :param root: the outermost model.
    :param groups: those that have arrays, in the file's order.
    :raises ModelFormatError: if a layer has not as many arrays as it needs.
    """
    layers = [child for child in root.children if any(_slots(child))]
    if len(layers) != len(groups):
        raise ModelFormatError(f"it has {len(layers)} layers with weights, and holds those of {len(groups)}")
    by_name = {group.name: group for group in groups}
    if {layer.name for layer in layers} == set(by_name):  # weights alone may be named after another session's layers
        groups = [by_name[layer.name] for layer in layers]
    dealt: dict[Leaf, dict[str, NDArray[Any]]] = {}
    for layer, group in zip(layers, groups, strict=True):
        trained, others = _slots(layer)
        for (leaf, role), array in _matched(layer, [*trained, *others], group):
            dealt.setdefault(leaf, {})[role] = array
    return dealt


def _slots(layer: Leaf | Nested) -> tuple[list[Slot], list[Slot]]:
    """List what is trained in a layer or model, and what is not, each in the order in which Keras lists it."""
    if isinstance(layer, Leaf):
        trained, others = roles(layer.class_name, layer.config)
        if layer.config.get("trainable") is False:
            trained, others = [], [*trained, *others]
        return [(layer, role) for role in trained], [(layer, role) for role in others]
    pairs = [_slots(child) for child in layer.children]
    trained_slots, other_slots = ([slot for pair in pairs for slot in pair[side]] for side in (0, 1))
    return (trained_slots, other_slots) if layer.trainable else ([], [*trained_slots, *other_slots])


def roles(class_name: str, config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Say which arrays a layer has: what is trained, and what is not."""
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


def _matched(layer: Leaf | Nested, slots: list[Slot], group: Group) -> list[tuple[Slot, NDArray[Any]]]:
    if len(slots) != len(group.arrays):
        raise ModelFormatError(
            f"its {'layer' if isinstance(layer, Leaf) else 'model'} {layer.name} has {len(slots)} arrays of weights, "
            f"and the file holds {len(group.arrays)} for it"
        )
    named = [_parted(name) for name in group.weight_names]
    places = {(leaf.name, role): (leaf, role) for leaf, role in slots}
    if len(places) == len(slots) and set(named) == set(places):
        return [(places[name], array) for name, array in zip(named, group.arrays, strict=True)]
    for (leaf, role), (_layer, word) in zip(slots, named, strict=False):
        if word in _WORDS and role in _WORDS and word != role:
            raise ModelFormatError(
                f"its layer {leaf.name} would get the array {word} of the file as its {role}: the weights lie in "
                "another order than Keras gives them"
            )
    return list(zip(slots, group.arrays, strict=True))


def _parted(name: str) -> tuple[str, str]:
    """Take a weight's name apart: ``block/Conv1/kernel:0`` belongs to ``block/Conv1`` and is its ``kernel``."""
    layer, _, word = name.partition(":")[0].rpartition("/")
    return layer, re.sub(r"_\d+$", "", word)
