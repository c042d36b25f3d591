"""What is wrong with a checkpoint whose two files do not belong together, in words that say which part is missing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from app.errors import ModelFormatError
from app.formats.graph import Graph
from app.formats.params import read_params


def no_graph(params: Path) -> ModelFormatError:
    """The error for a ``.params`` file without a graph, which alone no one can compute."""
    names = sorted(read_params(params))
    if is_structural(names):
        return ModelFormatError(
            f"{params} holds a Gluon network's parameters, under names such as {names[0]}, as save_parameters writes "
            f"them, but not its graph. Build the network as it was built, load them, and call hybridize(), then the "
            f"network on a picture, then export({params.stem!r}): it writes {params.stem}-symbol.json beside new "
            f"parameters. For a network of Gluon's model zoo, dimple models pull NAME does that"
        )
    prefix = params.stem.rsplit("-", 1)[0]
    return ModelFormatError(f"{params} holds parameters, but not their graph: put {prefix}-symbol.json beside it")


def is_structural(names: Iterable[str]) -> bool:
    """Say whether parameters are named by their places in a Gluon network: ``features.0.weight``."""
    listed = list(names)
    return bool(listed) and all("." in name and not name.startswith(("arg:", "aux:")) for name in listed)


def lacks(graph: Graph, missing: list[str], names: Iterable[str], symbol: Path, params: Path) -> ModelFormatError:
    """The error for arrays that a graph needs and its parameters do not hold.

    :param missing: their names, at least one.
    :param names: those that the parameters hold.
    """
    first = missing[0]
    users = (node for node in graph.nodes if any(graph.nodes[number].name == first for number in node.inputs))
    user = next((f"{node.op} {node.name} of " for node in users), "")  # none where it is itself an output
    rest = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
    text = f"{params} does not hold {first}{rest}, which {user}{symbol.name} needs"
    listed = sorted(names)
    if is_structural(listed):
        text += (
            f". It names its parameters by their places ({listed[0]}), as Gluon's save_parameters does; export() "
            "writes graph and parameters under the same names"
        )
    elif listed:
        text += f". It holds {', '.join(listed[:3])}{', …' if len(listed) > 3 else ''}"
    return ModelFormatError(text)
