"""Conversion of a Gluon network's parameters to a checkpoint.

Gluon's model zoo publishes parameters without a graph: the graph is the Python code that builds the network. This
module runs that code once, without computing anything, and writes a checkpoint like any other, with softmax at its end.

``save_parameters`` names arrays after the attributes that hold them (``features.0.weight``). ``save_params``, before
MXNet 1.2, named them after their layers (``conv0_weight``).
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from app.engines.mxnet.compat import prepare, quietly
from app.errors import ModelFormatError
from app.formats.mxnet_params import Arrays, read_params, write_params
from app.utils.error_text import listed

INPUT, OUTPUT = "data", "softmax"
MAX_LISTED = 3


def export(params: Path, network: str, classes: int, shape: tuple[int, ...], prefix: Path) -> None:
    """Write ``<prefix>-symbol.json`` (input ``data``, output ``softmax``, (N, classes)) and ``<prefix>-0000.params``.

    :param params: Gluon's file.
    :param network: a name that :func:`build` accepts.
    :param shape: the input's shape, (C, H, W).
    :raises ModelFormatError: if there is no such network, or the file does not hold its parameters.
    """
    net, symbol = trace(network, classes)
    named = _rename_arrays(read_params(params), net, network, params)
    states = set(symbol.list_auxiliary_states())
    _check_shapes(symbol, named, shape, network, params)
    prefix.with_name(f"{prefix.name}-symbol.json").write_text(symbol.tojson() + "\n", encoding="utf-8")
    arrays = {f"{'aux' if name in states else 'arg'}:{name}": array for name, array in named.items()}
    write_params(prefix.with_name(f"{prefix.name}-0000.params"), arrays)


def trace(network: str, classes: int) -> tuple[Any, Any]:
    """Build a network, and its graph with softmax at the end.

    :returns: the Gluon block, whose parameters have no values yet, and MXNet's symbol.
    """
    prepare()
    import mxnet as mx

    with mx.name.NameManager():  # a new one counts from 0, so names are the same in every process
        net = build(network, classes)
        return net, mx.sym.softmax(net(mx.sym.var(INPUT)), name=OUTPUT)


def build(network: str, classes: int) -> Any:
    """Build a Gluon network without values: from ``residual``, else from MXNet, else from GluonCV if it is installed.

    :param network: a name of ``mxnet.gluon.model_zoo.vision`` or of GluonCV's model zoo.
    :raises ModelFormatError: if none of them defines the network.
    """
    prepare()
    from mxnet.gluon.model_zoo import vision

    from app.zoo.residual import NETWORKS

    if network in NETWORKS:
        return NETWORKS[network](classes)
    try:
        return vision.get_model(network, classes=classes)
    except ValueError:
        pass
    if importlib.util.find_spec("gluoncv") is None:
        raise ModelFormatError(
            f"no definition of the network {network!r} is installed. Where GluonCV has it, this helps: "
            "pip install --no-deps gluoncv==0.10.5.post0 yacs portalocker autocfg pandas"
        )
    try:
        with quietly():
            from gluoncv.model_zoo import get_model  # type: ignore[import-not-found,unused-ignore]
        return get_model(network, classes=classes)
    except (ImportError, ValueError) as error:
        raise ModelFormatError(f"GluonCV cannot build the network {network!r}: {str(error)[:200]}") from None


def _rename_arrays(arrays: Arrays, net: Any, network: str, path: Path) -> Arrays:
    """Rename the arrays to their names in the graph."""
    names = {name: parameter.name for name, parameter in net._collect_params_with_prefix().items()}
    if not any("." in name for name in arrays):
        names = {_layer_name(name, net.prefix): name for name in names.values()}
        arrays = {_layer_name(name, net.prefix): array for name, array in arrays.items()}
    missing, unknown = sorted(set(names) - set(arrays)), sorted(set(arrays) - set(names))
    if missing or unknown:
        problems = [f"it lacks {listed(missing, MAX_LISTED)}"] if missing else []
        problems += [f"it holds {listed(unknown, MAX_LISTED)}"] if unknown else []
        raise ModelFormatError(f"{path} does not hold the parameters of {network}: {'; '.join(problems)}")
    return {names[name]: arrays[name] for name in names}


def _layer_name(name: str, prefix: str) -> str:
    """Return a name without ``arg:`` or ``aux:`` and without the network's prefix, which is numbered in each
    process."""
    name = re.sub(r"^(arg|aux):", "", name)
    return re.sub(rf"^{re.escape(prefix.rstrip('0123456789_'))}\d+_", "", name)


def _check_shapes(symbol: Any, arrays: Arrays, shape: tuple[int, ...], network: str, path: Path) -> None:
    arguments, _outputs, states = symbol.infer_shape(**{INPUT: (1, *shape)})
    names = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    for name, expected in zip(names, [*arguments, *states], strict=True):
        if name in arrays and arrays[name].shape != expected:
            raise ModelFormatError(
                f"{path} does not hold the parameters of {network}: "
                f"{name} has the shape {arrays[name].shape}, {expected} is needed"
            )
