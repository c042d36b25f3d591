"""Which GPU a worker computes on."""

from __future__ import annotations

import itertools
import os

_turns = itertools.count()


def next_gpu(number: int) -> int | None:
    """The next GPU in turn, whatever model the last one went to, as Multi Model Server gives them.

    :param number: of GPUs; 0 gives None.
    """
    if not number:
        return None
    # Server processes do not know of each other. Were each to begin with the first GPU, it would have most of the work;
    # their process ids are mostly consecutive.
    return (os.getpid() + next(_turns)) % number
