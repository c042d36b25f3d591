from __future__ import annotations

import platform
import subprocess
import sys
from itertools import chain, repeat

import psutil
import pytest

from app.settings import ROOT
from app.utils.malloc import trim_when_idle
from tests.helpers import wait_until

CHUNK = 60_000
"""Below what the C library takes from the system piece by piece."""
MEGABYTE = 2**20


PAGES = """
import resource, sys
from app.utils.malloc import tune_malloc
if sys.argv[1:]:
    tune_malloc()
def take():
    pictures = [bytearray(1_000_000) for _ in range(3)]
take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have nothing to be asked for")
def test_the_memory_of_a_picture_is_reused_for_the_next() -> None:
    page_counts = [
        int(subprocess.run([sys.executable, "-c", PAGES, *options], cwd=ROOT, capture_output=True, check=True).stdout)
        for options in ([], ["kept"])
    ]
    assert page_counts[1] < page_counts[0] / 20  # pages requested from the system


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have nothing to be asked for")
def test_memory_is_returned_to_the_system_after_responses() -> None:
    memory = psutil.Process().memory_info
    chunks = [b"x" * CHUNK for _ in range(2_000)]
    last = chunks.pop()  # on top of the heap: as long as it is there, nothing below goes back by itself
    chunks.clear()
    left = memory().rss
    answered = chain([1, 2], repeat(3))
    trim_when_idle(lambda: next(answered), pause=0.01)
    wait_until(lambda: memory().rss <= left - 80 * MEGABYTE)
    assert len(last) == CHUNK
