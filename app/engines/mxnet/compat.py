"""What MXNet 1.9.1 and Keras-MXNet 2.2.4 need on today's Python, NumPy and SciPy. Call :func:`prepare` before importing
either."""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import ctypes
import io
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from app.errors import DimpleError
from app.utils.system import cpu_count

_lock = threading.Lock()
_done = False

_LIBRARIES = ("libgomp.so.1", "libquadmath.so.0")


def prepare() -> None:
    """Patch what the two libraries import, and import MXNet; once in a process, from whatever thread.

    :raises DimpleError: where a system library that MXNet is linked with is missing.
    """
    global _done
    with _lock:
        if not _done:
            _patch()
            _check_libraries()
            with quietly():
                import mxnet  # noqa: F401
            _done = True


def use_all_cores() -> None:
    """Let MXNet compute with every core that this process may use; by itself it takes half of them. Without effect once
    MXNet is imported, or where ``MXNET_OMP_MAX_THREADS`` says how many."""
    os.environ.setdefault("MXNET_OMP_MAX_THREADS", str(cpu_count()))


def import_keras() -> Any:
    """Import Keras on MXNet, prepared, and return it."""
    prepare()
    with _lock, quietly():
        import keras

        return keras


def _patch() -> None:
    import scipy.sparse

    # NumPy 1.24 dropped the alias; MXNet still asks for it. NumPy answers an unknown name with a warning.
    if "bool" not in vars(np):
        np.bool = bool  # type: ignore[attr-defined]
    # Python 3.10 dropped these aliases; Keras still asks collections for them.
    for name in ("Callable", "Hashable", "Iterable", "Iterator", "Mapping", "MutableMapping", "Sequence", "Sized"):
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    # Keras reads ~/.keras/keras.json, and writes it where there is none. A home that cannot exist stops both.
    os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")
    os.environ["KERAS_BACKEND"] = "mxnet"
    # MXNet asks for scipy.sparse.csr.csr_matrix at every conversion from NumPy; SciPy 1.8 moved it up and warns.
    vars(scipy.sparse)["csr"] = scipy.sparse
    # MXNet fuses every graph unless told otherwise, and some wrongly: fusion.py asks for it where it is safe. "default"
    # is a fusion that joins nothing. MXNet is not to say so on stderr at every bind.
    os.environ["MXNET_SUBGRAPH_BACKEND"] = "default"
    os.environ["MXNET_SUBGRAPH_VERBOSE"] = "0"


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep back a library's greeting on stderr and its warnings about itself: names that NumPy, setuptools and Python
    deprecate, invalid escapes in strings, slower channel orders, and the news that it is retired. Not for threads that
    run beside others: both are the whole process's."""
    with warnings.catch_warnings(record=True), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


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
