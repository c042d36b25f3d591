"""The program of the guard that ``app/handlers/reaper.py`` starts. It reads lines ``+GROUP`` and ``-GROUP`` until the
server has ended, then kills the process groups that were added and not removed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

groups: set[int] = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    with contextlib.suppress(OSError):  # it has ended
        os.killpg(group, signal.SIGKILL)
