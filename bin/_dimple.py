"""Finds the Python that Dimple is installed in, and runs one of its commands there."""

import importlib
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VENV = os.path.join(ROOT, ".venv")
SUPPORTED = (3, 11), (3, 13)


def run(command, module="packers"):
    """Run a command of a module of ``app.cli``; in the checkout's own environment where there is one."""
    python = os.path.join(VENV, "bin", "python")
    if os.access(python, os.X_OK) and os.path.realpath(sys.prefix) != os.path.realpath(VENV):
        os.execv(python, [python] + sys.argv)  # noqa: RUF005 -- any Python 3 may read this file
    if not SUPPORTED[0] <= sys.version_info[:2] < SUPPORTED[1]:
        sys.exit("Dimple needs Python 3.11 or 3.12. Run: make -C %s install" % ROOT)  # noqa: UP031
    sys.path[0] = ROOT
    try:
        found = getattr(importlib.import_module("app.cli." + module), command)
    except ImportError as error:
        sys.exit("Dimple is not installed (%s). Run: make -C %s install" % (error, ROOT))  # noqa: UP031
    main = getattr(found, "main", None)  # a command of click
    main(prog_name=os.path.basename(sys.argv[0])) if main else found()
