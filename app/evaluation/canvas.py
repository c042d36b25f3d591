"""Matplotlib without its globals, and without its files in anyone's home."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.utils.files import replacing

DPI = 110
CONFIG = "MPLCONFIGDIR"


def keep_config_in(folder: Path) -> None:
    """Let matplotlib keep its cache of fonts in ``folder``, unless the user has set ``MPLCONFIGDIR``.

    Without it every process builds the cache anew, in a temporary folder. To be called before anything is drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(CONFIG, str(folder))


def new_figure(width: float, height: float) -> Any:
    """An empty figure that pyplot does not know of.

    :param width: in inches, of ``DPI`` pixels each; ``height`` likewise.
    """
    _import_quietly()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_png(figure: Any, path: Path) -> None:
    """Write a figure; the file appears whole or not at all."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png", bbox_inches="tight", pad_inches=0.15)  # long labels need room


def _import_quietly() -> None:
    """Import matplotlib with a place of its own for what it writes: its cache, and that of fontconfig, which it asks
    for fonts where it has no cache yet and which writes to the home directory too."""
    if "matplotlib.font_manager" in sys.modules:
        return
    if not os.environ.get(CONFIG):
        temporary = tempfile.mkdtemp(prefix="dimple-matplotlib-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        os.environ[CONFIG] = temporary
    with _environ("XDG_CACHE_HOME", os.environ[CONFIG]):
        import matplotlib.font_manager  # noqa: F401


@contextlib.contextmanager
def _environ(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
