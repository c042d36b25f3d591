"""Finds the Python that Dimple is installed in, and runs one of its commands there."""

import importlib
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VENVS = [os.path.join(ROOT, name) for name in (".venv", ".venv-serve")]
"""What `make install` and `make install-serve` make; the first that is there counts."""
SUPPORTED = (3, 11), (3, 15)


def run(command, module="packers"):
    """Run a command of a module of ``app.cli``; in the checkout's own environment where there is one."""
    for venv in VENVS:
        python = os.path.join(venv, "bin", "python")
        if os.access(python, os.X_OK):
            if os.path.realpath(sys.prefix) not in [os.path.realpath(path) for path in VENVS]:
                os.execv(python, [python] + sys.argv)  # noqa: RUF005 -- any Python 3 may read this file
            break
    if not SUPPORTED[0] <= sys.version_info[:2] < SUPPORTED[1]:
        sys.exit("Dimple needs Python 3.11 to 3.14. Run: make -C %s install" % ROOT)  # noqa: UP031
    sys.path[0] = ROOT
    try:
        found = getattr(importlib.import_module("app.cli." + module), command)
    except ImportError as error:
        sys.exit("Dimple is not installed (%s). Run: make -C %s install" % (error, ROOT))  # noqa: UP031
    main = getattr(found, "main", None)  # a command of click
    main(prog_name=os.path.basename(sys.argv[0])) if main else found()
