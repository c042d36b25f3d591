"""How long a function takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any


def timeit(func: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function to print its wall time and CPU time, in seconds, after each call."""

    @wraps(func)
    def timed(*args: Any, **kwargs: Any) -> Any:
        wall, cpu = time.time(), time.process_time()
        result = func(*args, **kwargs)
        wall, cpu = time.time() - wall, time.process_time() - cpu
        print(f"func: {func.__name__!r} took a total of {wall:.4f} sec to run and {cpu:.4f} sec of CPU time")
        return result

    return timed
