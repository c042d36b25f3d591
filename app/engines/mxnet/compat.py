"""Patches for MXNet 1.9.1 and Keras-MXNet 2.2.4 on today's Python, NumPy and SciPy.

Call :func:`prepare` before importing either library.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import ctypes
import importlib.util
import io
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from app.engines.mxnet.operators import import_mxnet
from app.errors import DimpleError
from app.utils.system import cpu_count

_lock = threading.Lock()
_done = False

_LIBRARIES = ("libgomp.so.1", "libquadmath.so.0")
_UNUSED = ("sklearn", "scipy.stats")
"""MXNet imports them if it can, for parts that are not used here; they take a third of the time of its import."""


def is_installed(kind: str) -> bool:
    """Return whether the package of a reference engine is installed.

    :param kind: ``mxnet``, or ``keras``, which needs MXNet too.
    """
    packages = ("mxnet", "keras") if kind == "keras" else ("mxnet",)
    return all(importlib.util.find_spec(package) is not None for package in packages)


def prepare() -> None:
    """Patch what the two libraries import, and import MXNet, once per process and from any thread.

    :raises DimpleError: if MXNet is not installed, or a system library that it is linked with is missing.
    """
    global _done
    with _lock:
        if not _done:
            if not is_installed("mxnet"):
                raise DimpleError("MXNet is not installed; pip install -r requirements.txt installs it")
            _patch()
            _check_libraries()
            with quietly(), _hidden(_UNUSED):
                import_mxnet()
            _done = True


def use_all_cores() -> None:
    """Configure MXNet to use every core that this process may use; its default is half of them.

    It has no effect once MXNet is imported, or if ``MXNET_OMP_MAX_THREADS`` is set.
    """
    os.environ.setdefault("MXNET_OMP_MAX_THREADS", str(cpu_count()))


def import_keras() -> Any:
    """Import Keras on MXNet, patched, and return it."""
    prepare()
    with _lock, quietly():
        import keras

        return keras


def _patch() -> None:
    import scipy.sparse

    # NumPy 1.24 dropped the alias, which MXNet still uses. NumPy warns about unknown names.
    if "bool" not in vars(np):
        np.bool = bool  # type: ignore[attr-defined]
    # Python 3.10 dropped these aliases, which Keras still imports from collections.
    for name in ("Callable", "Hashable", "Iterable", "Iterator", "Mapping", "MutableMapping", "Sequence", "Sized"):
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    # Keras reads ~/.keras/keras.json, and writes it if it is missing. A home that cannot exist prevents both.
    os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")
    os.environ["KERAS_BACKEND"] = "mxnet"
    # MXNet uses scipy.sparse.csr.csr_matrix at every conversion from NumPy; SciPy 1.8 moved it up and warns.
    vars(scipy.sparse)["csr"] = scipy.sparse
    # By default MXNet fuses every graph, and some of them wrongly: fusion.py enables it for safe graphs. "default" is a
    # fusion that joins nothing. MXNet must not report that on stderr at every bind.
    os.environ["MXNET_SUBGRAPH_BACKEND"] = "default"
    os.environ["MXNET_SUBGRAPH_VERBOSE"] = "0"


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Suppress a library's greeting on stderr and its warnings about itself.

    They concern names that NumPy, setuptools and Python deprecate, invalid escapes in strings, slower channel orders,
    and the library's retirement. Not for concurrent threads: stderr and the warning filters belong to the whole
    process.
    """
    with warnings.catch_warnings(record=True), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _hidden(names: Iterable[str]) -> Iterator[None]:
    """Let the import of these modules fail, unless they are imported already."""
    added = [name for name in names if name not in sys.modules]
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(added))
    try:
        yield
    finally:
        for name in added:
            del modules[name]


def _check_libraries() -> None:
    if os.name != "posix" or os.uname().sysname != "Linux":
        return
    for name in _LIBRARIES:
        try:
            ctypes.CDLL(name)
        except OSError:
            raise DimpleError(
                f"MXNet needs the system library {name}, which is missing. "
                "On Debian and Ubuntu: apt-get install libgomp1 libquadmath0"
            ) from None
