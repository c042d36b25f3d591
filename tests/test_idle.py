from __future__ import annotations

import platform
import time
from itertools import chain, repeat

import psutil
import pytest

from app.idle import tidy_when_idle

CHUNK = 60_000
"""Below what the C library takes from the system piece by piece."""
MEGABYTE = 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have nothing to be asked for")
def test_memory_that_answers_left_behind_goes_back_after_them() -> None:
    memory = psutil.Process().memory_info
    chunks = [b"x" * CHUNK for _ in range(2_000)]
    last = chunks.pop()  # on top of the heap: as long as it is there, nothing below goes back by itself
    chunks.clear()
    left = memory().rss
    answered = chain([1, 2], repeat(3))
    tidy_when_idle(lambda: next(answered), pause=0.01)
    deadline = time.monotonic() + 20
    while memory().rss > left - 80 * MEGABYTE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert memory().rss <= left - 80 * MEGABYTE and len(last) == CHUNK
