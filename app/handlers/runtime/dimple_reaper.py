"""What ``app/handlers/reaper.py`` starts: reads ``+GROUP`` and ``-GROUP`` lines until the server is gone, then kills
the process groups that were named and not taken back."""

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
