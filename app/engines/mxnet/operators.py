"""The import of MXNet with operator functions that are compiled at their first call.

MXNet generates and compiles the code of some 2,500 functions at its import, which takes two thirds of its time. A
process calls a few of them.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from typing import Any

_REGISTERING = ("_init_op_module", "_init_np_op_module")
"""Functions of ``mxnet.base`` that make the functions of all operators, each by their parameter ``make_op_func``."""

Make = Callable[[Any, str, str], Callable[..., Any]]


def import_mxnet() -> None:
    """Import MXNet, unless it is imported already."""
    if "mxnet" in sys.modules:
        return
    spec = importlib.util.find_spec("mxnet")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("No module named 'mxnet'", name="mxnet")
    package = sys.modules["mxnet"] = importlib.util.module_from_spec(spec)
    try:
        base = importlib.import_module("mxnet.base")  # before the package itself, which would import all its modules
        for name in _REGISTERING:
            setattr(base, name, _with_late_functions(getattr(base, name)))
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules["mxnet"]
        raise


def _with_late_functions(register: Callable[..., None]) -> Callable[..., None]:
    def register_late(*arguments: Any, **named: Any) -> None:
        bound = inspect.signature(register).bind(*arguments, **named).arguments
        register(**{**bound, "make_op_func": _late(bound["make_op_func"])})

    return register_late


def _late(make: Make) -> Make:
    """Return a replacement of MXNet's maker of functions. Its functions have the names of MXNet's, without their
    documentation."""

    def make_late(handle: Any, operator: str, name: str) -> Callable[..., Any]:
        made: list[Callable[..., Any]] = []

        def function(*arguments: Any, **options: Any) -> Any:
            if not made:
                made.append(make(handle, operator, name))
            return made[0](*arguments, **options)

        function.__name__ = name
        function.__doc__ = ""  # MXNet edits the documentation of some
        return function

    return make_late
