"""Work in a process of its own: a module that does what an order on its standard input says, and is gone afterwards."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

from app.settings import ROOT


def run_module(
    module: str, order: Any, seconds: float | None = None, quiet: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Run a module of ours with the pickle of an order.

    :param seconds: after which it is killed; None waits.
    :param quiet: whether its standard error is kept, like its standard output, rather than shown.
    :raises subprocess.TimeoutExpired: where it took longer.
    """
    return subprocess.run(
        [sys.executable, "-m", module],
        input=pickle.dumps(order),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        cwd=ROOT,
        timeout=seconds,
        check=False,
    )
