"""A program that adds MXNet's names to a virtual environment: ``python
app/handlers/runtime/dimple_child/environment.py``.

Every Python of the environment executes a ``.pth`` file in its packages at its start. With it, programs that import
MXNet or Keras find the names as handlers do, and the package ``mms``, unless another is installed.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

NAME = "dimple-mxnet.pth"


def write(folder: Path) -> None:
    """Write the ``.pth`` file.

    :param folder: the environment's package folder.
    """
    site = str(Path(__file__).parent.parent)
    # a failing line is reported at every start, so it must not fail if the checkout is gone
    code = f"sys.path.append({site!r}) or __import__('dimple_child.compat').compat.install_for_mxnet()"
    (folder / NAME).write_text(f"import os, sys; os.path.isdir({site!r}) and ({code})\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.prefix == sys.base_prefix:
        sys.exit("This Python is not that of a virtual environment, whose programs alone are to be changed")
    write(Path(sysconfig.get_path("purelib")))
