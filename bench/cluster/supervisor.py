"""Keeps a command running, as ``Restart=always`` of systemd does: ``supervisor LOG FOLDER command …``.

FOLDER is removed before each start. Processes that the command leaves behind become this process's children, so that
all of them are found and killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import subprocess
import sys
import time

import psutil

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def kill_children(process: psutil.Process) -> None:
    """Kill everything under a process, as a loss of power does."""
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


def main() -> None:
    log, folder, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            shutil.rmtree(folder, ignore_errors=True)
            with open(log, "wb") as output:
                subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            kill_children(psutil.Process())
            time.sleep(1)
    finally:
        kill_children(psutil.Process())


if __name__ == "__main__":
    main()
