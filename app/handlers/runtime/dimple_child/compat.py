"""Names that archives, MXNet 1.9.1 and Keras-MXNet 2.2.4 use, but Python and its libraries have dropped since.

The server has its own list (``app/engines/mxnet/compat.py``), for the needs of its engines. A handler's process must
not import the server's modules, where an archive with its own ``app`` would find them. Names are added right after a
program has imported a library, so no library is imported for a program that does not use it.

Every Python of the virtual environment imports this module (``dimple_child/environment.py``). It therefore imports only
modules of an empty Python, unless it needs others.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


def install() -> None:
    """Add the names that Python itself and its libraries have dropped: at once, or right after their import."""
    import collections.abc
    import inspect
    import time

    for name in ("Callable", "Hashable", "Iterable", "Iterator", "Mapping", "MutableMapping", "Sequence", "Sized"):
        _add(collections, name, getattr(collections.abc, name))
    _add(time, "clock", time.process_time)
    ArgSpec = collections.namedtuple("ArgSpec", ("args", "varargs", "keywords", "defaults"))
    _add(inspect, "getargspec", lambda function: ArgSpec(*inspect.getfullargspec(function)[:4]))  # until Python 3.10
    for name, patch in _PATCHES.items():
        if module := sys.modules.get(name):
            patch(module)
    sys.meta_path.insert(0, _Finder(_PATCHES, after=True))


def install_for_mxnet() -> None:
    """Call :func:`install` as soon as the program imports MXNet or Keras; do nothing for other programs."""
    sys.meta_path.insert(0, _Finder({"mxnet": _install_once, "keras": _install_once}, after=False))


def _install_once(module: ModuleType) -> None:
    if not any(isinstance(finder, _Finder) and finder.after for finder in sys.meta_path):
        install()


def _numpy(numpy: ModuleType) -> None:
    for kind in (bool, int, float, complex, object, str):  # aliases until NumPy 1.24
        _add(numpy, kind.__name__, kind)


def _scipy_sparse(sparse: ModuleType) -> None:
    # MXNet uses scipy.sparse.csr.csr_matrix at every conversion from NumPy; SciPy 1.8 moved it up and warns.
    vars(sparse)["csr"] = sparse


def _pillow(image: ModuleType) -> None:
    _add(image, "ANTIALIAS", vars(image).get("LANCZOS"))  # Pillow 10 dropped the old name


class _Text(str):
    """The text of an HDF5 attribute, which was bytes until h5py 3: Keras decodes it."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the text."""
        return str(self)


def _h5py(h5py: ModuleType) -> None:
    manager = vars(h5py)["AttributeManager"]
    read = manager.__getitem__

    def read_text(self: Any, name: str) -> Any:
        value = read(self, name)
        if isinstance(value, str):
            return _Text(value)
        if getattr(value, "dtype", "") == "O":
            for index, item in enumerate(value.flat):
                value.flat[index] = _Text(item) if isinstance(item, str) else item
        return value

    manager.__getitem__ = read_text


def _keras_io(io_utils: ModuleType) -> None:
    group = vars(io_utils)["H5Dict"]
    read = group.__getitem__

    def read_list(self: Any, name: str) -> Any:
        value = read(self, name)
        # Keras makes lists only of arrays of bytes, and tests if they are empty
        return value.tolist() if getattr(value, "dtype", "") == "O" else value

    group.__getitem__ = read_list


_PATCHES: Mapping[str, Callable[[ModuleType], None]] = {
    "numpy": _numpy,
    "scipy.sparse": _scipy_sparse,
    "PIL.Image": _pillow,
    "h5py": _h5py,
    "keras.utils.io_utils": _keras_io,
}


class _Finder:
    """A finder of modules at Python's places, which calls a function before or after a module is executed."""

    def __init__(self, calls: Mapping[str, Callable[[ModuleType], None]], after: bool) -> None:
        self.after = after
        self._calls = calls

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return a module's specification, or None for modules without a function to call."""
        call = self._calls.get(name)
        if call is None:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_call(module: ModuleType) -> None:
            if not self.after:
                call(module)
            execute(module)
            if self.after:
                call(module)

        spec.loader.exec_module = execute_and_call  # type: ignore[method-assign]
        return spec


def _add(module: ModuleType, name: str, value: object) -> None:
    # hasattr would look the name up in NumPy, which then warns
    vars(module).setdefault(name, value)
