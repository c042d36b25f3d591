"""How a server that has loaded its models tells it, once, to whoever started it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import MutableMapping

VARIABLE = "LAUNCH_READY_FD"
"""The end of a pipe on which the one who starts a server in the background waits."""


class Herald:
    """Tells that the server is ready: one of its processes does, whichever is first.

    To be made before they fork. Its pipe holds one byte; who reads it is the first.

    :param environ: may hold :data:`VARIABLE`, which is taken out: it is nobody else's business.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        waiting = environ.pop(VARIABLE, None)
        self._waiting = int(waiting) if waiting else None
        if self._waiting is not None:
            os.set_inheritable(self._waiting, False)
        token, end = os.pipe()
        os.set_blocking(token, False)
        os.write(end, b".")
        # as files, which are closed when a reload has made another herald
        self._token, self._end = io.FileIO(token), io.FileIO(end, "w")

    def is_first(self) -> bool:
        """Whether this process is the first that asks. Tells the one who waits."""
        if self._token.read(1) is None:  # nothing left
            return False
        if self._waiting is not None:
            with contextlib.suppress(OSError):  # nobody waits any more
                os.write(self._waiting, b"ready")
        return True
