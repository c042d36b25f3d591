"""A reader of MXNet's graph files (``*-symbol.json``) without MXNet.

Format: ``nodes`` in an order in which inputs come first, each with ``op`` (``null`` for a fed or learned array),
``name``, ``inputs`` ([node, output, …]) and attributes, all text. Attributes are under ``attrs``; MXNet before 1.0
wrote ``attr``, before 0.9 ``param`` with ``attr`` beside it. ``heads`` are the network's outputs. Files from Python 2
may have longs (``32L``) in their attributes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from app.errors import ModelFormatError
from app.utils.files import refuse_pointer
from app.utils.json import read_json

MOST_NODES = 20_000
"""The largest number of nodes; the deepest networks of the zoos have about 5,000."""
MOST_DIGITS = 19
"""The digits of an integer that are read; a number with more is too large for any use."""


@dataclass(frozen=True)
class Node:
    """One operation, or one array if ``op`` is ``null``. ``inputs`` are numbers of earlier nodes."""

    op: str
    name: str
    attrs: dict[str, str]
    inputs: tuple[int, ...]

    def text(self, key: str, default: str) -> str:
        return self.attrs.get(key, default)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return an attribute as a boolean."""
        text = self.attrs.get(key, "None").lower()
        return default if text == "none" else text in ("true", "1")

    def real(self, key: str, default: float) -> float:
        """Return an attribute as a floating-point number.

        :raises ValueError: if it is none.
        """
        text = self.attrs.get(key, "None")
        return default if text == "None" else float(text)

    def bounds(self, key: str) -> tuple[int | None, ...]:
        """Return an attribute as integers, of which each may be None; empty if it is missing."""
        parts = re.findall(r"-?\d+|None", self.attrs.get(key, ""))
        return tuple(None if part == "None" else int(part[:MOST_DIGITS]) for part in parts)

    def number(self, key: str, default: int) -> int:
        """Return an attribute as an integer."""
        return self.numbers(key, (default,))[0]

    def numbers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return an attribute as integers; the default also if it contains none."""
        if key not in self._parsed:
            texts = re.findall(r"-?\d+", self.attrs.get(key, ""))
            self._parsed[key] = tuple(int(digits[:MOST_DIGITS]) for digits in texts)
        return self._parsed[key] or default

    @cached_property
    def _parsed(self) -> dict[str, tuple[int, ...]]:
        """Return the cache of parsed attributes, because a graph is evaluated for every size that is tried."""
        return {}


@dataclass(frozen=True)
class Graph:
    """A network. ``heads`` are numbers of nodes; there is at least one node and one head."""

    nodes: tuple[Node, ...]
    heads: tuple[int, ...]

    def needed_by(self, node: int) -> set[int]:
        """Return the numbers of the nodes that a node depends on, including its own."""
        return needed_by([each.inputs for each in self.nodes], node)


def read_graph(path: Path) -> Graph:
    """Read a ``*-symbol.json``.

    :raises ModelFormatError: if the file cannot be read, is not JSON, or is not a graph whose every input is an earlier
        node.
    """
    return graph_of(_read(path), path)


def read_document(path: Path, output: str = "") -> dict[str, Any]:
    """Read a ``*-symbol.json`` as JSON, reduced to the part that one output needs.

    :param output: the output, as in :func:`cut`.
    :raises ModelFormatError: as :func:`read_graph`.
    """
    document = _read(path)
    graph_of(document, path)
    return cut(document, output)


def _read(path: Path) -> Any:
    refuse_pointer(path)
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read as an MXNet symbol: {error}") from None


def graph_of(document: Any, path: Path | str) -> Graph:
    """Return the graph of a parsed JSON document.

    :raises ModelFormatError: as :func:`read_graph`.
    """
    try:
        if len(document["nodes"]) > MOST_NODES:
            raise ValueError(f"it has {len(document['nodes']):,} nodes; {MOST_NODES:,} are possible")
        nodes = tuple(_read_node(item, number) for number, item in enumerate(document["nodes"]))
        heads = tuple(_number(head, len(nodes)) for head in document["heads"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelFormatError(f"{path} is not an MXNet symbol: {type(error).__name__}: {error}") from None
    if not nodes or not heads:
        raise ModelFormatError(f"{path} is not an MXNet symbol: it has no nodes or no output")
    return Graph(nodes, heads)


def needed_by(inputs: Sequence[Sequence[int]], node: int) -> set[int]:
    """Return the numbers of the nodes that a node depends on, including its own.

    :param inputs: the numbers of each node's inputs.
    """
    needed, waiting = {node}, [node]
    while waiting:
        new = set(inputs[waiting.pop()]) - needed
        needed |= new
        waiting += new
    return needed


def cut(document: dict[str, Any], output: str = "") -> dict[str, Any]:
    """Return the part of a graph that computes one of its outputs, with that output as the only one.

    A training head, or another task's, may need unsupported operations and missing arrays.

    :param document: a symbol's JSON that :func:`graph_of` can read.
    :param output: the output's name, as its node's name or as MXNet lists it (``softmax_output``); the first output is
        used if there is none of that name.
    """
    nodes, heads = document["nodes"], document["heads"]
    return cut_at(
        document, next((head for head in heads if output in _names_of(nodes[head[0]]["name"], head)), heads[0])
    )


def cut_at(document: dict[str, Any], head: list[int]) -> dict[str, Any]:
    """Return the part of a graph that computes an output of one of its nodes, with that output as the only one.

    :param head: the output, [node, output, …].
    """
    nodes = document["nodes"]
    inputs = [[entry[0] for entry in node["inputs"]] for node in nodes]
    places = {old: new for new, old in enumerate(sorted(needed_by(inputs, head[0])))}

    def moved(entries: list[list[int]]) -> list[list[int]]:
        return [[places[number], *rest] for number, *rest in entries]

    rest = {key: value for key, value in document.items() if key != "node_row_ptr"}
    return rest | symbol_of([{**nodes[old], "inputs": moved(nodes[old]["inputs"])} for old in places], moved([head]))


def symbol_of(nodes: list[dict[str, Any]], heads: list[list[int]]) -> dict[str, Any]:
    """Return the parts of a ``*-symbol.json`` that MXNet needs: its nodes, which of them are arrays, and its heads."""
    arrays = [number for number, node in enumerate(nodes) if node["op"] == "null"]
    return {"nodes": nodes, "arg_nodes": arrays, "heads": heads}


def _names_of(node: str, head: list[int]) -> tuple[str, ...]:
    """Return the valid names of an output; each output of a node with several has its number."""
    number = head[1] if len(head) > 1 else 0
    return (f"{node}_output{number}", *([node, f"{node}_output"] if number == 0 else []))


def _read_node(item: Any, number: int) -> Node:
    attrs: dict[str, str] = {}
    for key in ("attr", "param", "attrs"):
        attrs.update({name: str(value) for name, value in (item.get(key) or {}).items()})
    inputs = tuple(_number(entry, number) for entry in item["inputs"])
    return Node(str(item["op"]), str(item["name"]), attrs, inputs)


def _number(entry: Any, limit: int) -> int:
    """Return the node's number from ``[node, output, …]``; it must be below ``limit``."""
    number = entry[0]
    if type(number) is not int or not 0 <= number < limit:
        raise ValueError(f"{entry} does not point to an earlier node")
    return number
