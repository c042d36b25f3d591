"""A clock of a Python program's own: the seconds in the file that ``CLOCK_FILE`` names are added to the time.

Python imports this by itself if the folder is on its path. The monotonic clock continues, as when a machine's clock is
set. (libfaketime does the same from outside, but 0.9.10 breaks ``time.sleep`` of Python 3.11.)
"""

import os
import time

_file = os.environ.get("CLOCK_FILE")
_time, _time_ns = time.time, time.time_ns


def _ahead():
    with open(_file) as file:
        return int(file.read())


if _file:
    time.time = lambda: _time() + _ahead()
    time.time_ns = lambda: _time_ns() + 10**9 * _ahead()
