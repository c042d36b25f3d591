"""Until something has come to be."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 30.0


def wait_until(condition: Callable[[], bool], pause: float = 0.01, seconds: float = SECONDS) -> None:
    """Return as soon as it holds.

    :param pause: seconds between two looks.
    :raises AssertionError: where it does not hold after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to be in {seconds:.0f} s"
        time.sleep(pause)
