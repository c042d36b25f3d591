"""Names that archives, MXNet 1.9.1 and Keras-MXNet 2.2.4 use, and that Python and its libraries have dropped since.

The server has a list of its own (``app/engines/compat.py``), for what its engines need; this process must not import
the server's modules, where an archive with an ``app`` of its own would find them. No library is imported here for an
archive that does not use it: the names are added right after it has imported the library.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib.machinery
import sys
import time
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


def install() -> None:
    """Add what Python itself has lost, and watch for imports of the rest."""
    for name in ("Callable", "Hashable", "Iterable", "Iterator", "Mapping", "MutableMapping", "Sequence", "Sized"):
        _add(collections, name, getattr(collections.abc, name))
    _add(time, "clock", time.process_time)
    sys.meta_path.insert(0, _Watch())


def _numpy(numpy: ModuleType) -> None:
    for kind in (bool, int, float, complex, object, str):  # aliases until NumPy 1.24
        _add(numpy, kind.__name__, kind)


def _scipy_sparse(sparse: ModuleType) -> None:
    # MXNet asks for scipy.sparse.csr.csr_matrix at every conversion from NumPy; SciPy 1.8 moved it up and warns.
    vars(sparse)["csr"] = sparse


def _pillow(image: ModuleType) -> None:
    _add(image, "ANTIALIAS", vars(image).get("LANCZOS"))  # Pillow 10 dropped the old name


_PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "numpy": _numpy,
    "scipy.sparse": _scipy_sparse,
    "PIL.Image": _pillow,
}


class _Watch(MetaPathFinder):
    """Finds the modules that have a patch where Python would, and has the patch follow their import."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        patch = _PATCHES.get(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path) if patch else None
        if patch is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


def _add(module: ModuleType, name: str, value: object) -> None:
    # hasattr would ask NumPy for the name, which answers with a warning
    vars(module).setdefault(name, value)
